"""Whatever is done to a team: nobody hangs, nothing is lost, and all that is left is exact."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.reliability.checks import check
from tests.reliability.schedule import Schedule, schedules
from tests.reliability.stage import perform

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@settings(max_examples=12)
@given(schedule=schedules())
def test_schedules(schedule: Schedule, backend: str) -> None:
    check(perform(schedule, backend))


@pytest.mark.sweep
@settings(max_examples=1000)
@given(schedule=schedules())
def test_many_schedules(schedule: Schedule, backend: str) -> None:
    check(perform(schedule, backend))
