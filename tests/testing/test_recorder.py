"""Recorder: every event, once, as policy or as listener."""

from __future__ import annotations

from typing import Any

import pytest

from hogwild_agents import Finish, Policy, RunEnded, RunStarted, Say, StepEnded, TokensWritten
from hogwild_agents.events import NAMES
from hogwild_agents.testing import Recorder, scripted_model
from tests.testing.rig import PROBLEM, make_team, text

pytestmark = pytest.mark.anyio

SCRIPTS = {"Alice": ["One.\n\n", "Two.\n\n", "Three"], "Bob": "Hm"}


class Nod(Policy):
    """Says something after the first step, and ends the run after the second."""

    async def on_step_ended(self, event: StepEnded) -> list[Say | Finish]:
        if event.step == 1:
            return [Say(worker="Alice", text="Well: ")]
        return [Finish(answer="2", author="Alice")]


async def test_a_policy_and_a_listener_hear_the_same() -> None:
    watching, listening = Recorder(), Recorder()
    team = make_team(scripted_model(SCRIPTS), policies=[Nod(), watching])
    result = await team.solve(PROBLEM, on_event=listening)
    assert sorted(map(repr, watching.events)) == sorted(map(repr, listening.events))
    assert isinstance(watching.events[0], RunStarted)
    assert watching.of(RunEnded)[0].result.answer == "2"
    assert watching.texts() == result.texts
    assert watching.texts()["Alice"].startswith(text("Alice", "One.\n\n", "Well: Two.\n\n"))
    assert watching.actions() == [
        Say(worker="Alice", text="Well: "),
        Finish(answer="2", author="Alice"),
    ]
    sampled = [event for event in watching.of(TokensWritten) if event.source == "sampled"]
    assert len(sampled) == result.tokens


async def test_it_hears_of_every_kind_of_event() -> None:
    recorder = Recorder()
    events: list[Any] = [object() for _ in NAMES]
    for name, event in zip(NAMES, events, strict=True):
        assert await getattr(recorder, f"on_{name}")(event) is None
    assert recorder.events == events
