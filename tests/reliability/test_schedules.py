"""Whatever is done to a team: nobody hangs, nothing is lost, and all that is left is exact."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.reliability.checks import check
from tests.reliability.schedule import Schedule, schedules
from tests.reliability.stage import perform

MANY = settings(max_examples=1000)  # about 0.4 s each


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=12)
@given(schedule=schedules())
def test_schedules(schedule: Schedule, backend: str) -> None:
    check(perform(schedule, backend))


# Two tests, since the schedules of one are the same for all its parameters where nothing is random.


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@MANY
@given(schedule=schedules())
def test_many_schedules_on_asyncio(schedule: Schedule) -> None:
    check(perform(schedule, "asyncio"))


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@MANY
@given(schedule=schedules())
def test_many_schedules_on_trio(schedule: Schedule) -> None:
    check(perform(schedule, "trio"))
