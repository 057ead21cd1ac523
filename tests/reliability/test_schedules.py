"""Whatever is done to a team: nobody hangs, nothing is lost, and all that is left is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings

from tests.reliability.checks import check
from tests.reliability.schedule import Schedule, schedules
from tests.reliability.stage import Play, perform
from tests.runtime.rig import drop_time

# Whom a worker sees is drawn of all names, whoever there is.
pytestmark = pytest.mark.filterwarnings("ignore::hogwild_agents.UnknownWorkerWarning")

MANY = settings(max_examples=1000)  # about 0.4 s each


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=12)
@given(schedule=schedules())
def test_schedules(schedule: Schedule, backend: str) -> None:
    check(perform(schedule, backend))


def outcome(play: Play) -> Any:
    """What a run came to, without its time."""
    assert play.result is not None
    ended = replace(play.result, seconds=0.0)
    return drop_time(play.events), ended, str(play.error), play.broken


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=12)
@given(schedule=schedules(racy=False, bystander=False))
def test_computing_ahead_changes_nothing(schedule: Schedule, backend: str) -> None:
    plays = [perform(replace(schedule, ahead=ahead), backend) for ahead in (False, True)]
    assume(not any(play.unruly for play in plays))
    assert outcome(plays[1]) == outcome(plays[0])


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
