"""Scripted workers under every kind of intervention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hogwild_agents import (
    Action,
    Ban,
    Combined,
    EndStep,
    Park,
    Policy,
    Probe,
    ProbeAnswered,
    Resume,
    Say,
    Spawn,
    TickEnded,
    TokensWritten,
    Worker,
)
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.testing import Recorder, assert_order, assert_replays, scripted_model
from tests.testing.rig import PROBLEM, make_team, solve, text

pytestmark = pytest.mark.anyio

ALICE = ("a) 7 + 1 = 8.\n\n", "b) 4 + 9 = 13.")
BOB = "I wait and wait and wait."


class At(Policy):
    """Takes actions after so many ticks."""

    def __init__(self, plan: dict[int, Sequence[Action]]) -> None:
        self.plan = plan

    async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
        return self.plan.get(event.tick, ())


def probes(worker: str, *questions: str, answers: tuple[str, ...] = ("yes", "no")) -> list[Action]:
    return [Probe(worker=worker, question=question, answers=answers) for question in questions]


@pytest.mark.parametrize("layout", [*LAYOUTS, Combined(reference_order=True)], ids=str)
async def test_a_probe_gets_its_answer_and_costs_no_script(layout: Any) -> None:
    """Also in the tick in which a step ends: that of Alice ends with her 15th token."""
    recorder = Recorder()
    plan = {tick: probes("Alice", "Redundant? ") for tick in (3, 14, 15, 16, 17)}
    result = await solve(
        {"Alice": ALICE, "Bob": BOB},
        answers={"Alice": {"Redundant": "yes"}},
        policies=[At({**plan, 5: probes("Bob", "Redundant? ")})],
        layout=layout,
        record=recorder,
    )
    assert result.texts == {"Alice": text("Alice", *ALICE), "Bob": text("Bob", BOB)}
    answered = recorder.of(ProbeAnswered)
    assert len(answered) == 6
    for event in answered:
        if event.worker == "Alice":
            assert event.probabilities == {"yes": 1.0, "no": 0.0}
            assert event.mass == pytest.approx(1.0)
        else:
            assert event.mass < 0.1  # nothing is scripted: it is the model's own


@pytest.mark.parametrize(
    ("reply", "answers", "expected", "mass"),
    [
        ({"yes": 0.75, "no": 0.25}, ("yes", "no"), [0.75, 0.25], 1.0),
        ({"yes": 0.3, "no": 0.1}, ("yes", "no"), [0.75, 0.25], 0.4),
        ({"north": 0.2, "no": 0.2, "yes": 0.6}, ("yes", "north"), [0.75, 0.25], 0.8),
        (lambda view: "no" if "7 +" in view else "yes", ("yes", "no"), [0.0, 1.0], 1.0),
    ],
)
async def test_answers_have_the_probabilities_that_are_given(
    reply: Any, answers: tuple[str, ...], expected: list[float], mass: float
) -> None:
    recorder = Recorder()
    await solve(
        {"Alice": ALICE, "Bob": BOB},
        answers={"Alice": {"sure": reply}},
        policies=[At({8: probes("Alice", "Is it sure? ", answers=answers)})],
        record=recorder,
    )
    (event,) = recorder.of(ProbeAnswered)
    assert list(event.probabilities.values()) == pytest.approx(expected, abs=1e-5)
    assert event.mass == pytest.approx(mass, abs=1e-5)


async def test_a_worker_that_was_parked_goes_on_where_it_was() -> None:
    recorder = Recorder()
    plan: dict[int, Sequence[Action]] = {
        4: [Park(worker="Alice")],
        9: [Say(worker="Alice", text=" [hm] "), Resume(worker="Alice")],
    }
    result = await solve({"Alice": "abcdefgh", "Bob": BOB}, policies=[At(plan)], record=recorder)
    said = result.texts["Alice"].removeprefix(text("Alice", ""))
    assert said.replace(" [hm] ", "") == "abcdefgh"
    assert " [hm] " in said
    assert_order(recorder, Park, ("Bob", "I wait a"), Resume, ("Alice", "gh"))


@pytest.mark.parametrize("layout", [*LAYOUTS, Combined(reference_order=True)], ids=str)
async def test_a_step_that_is_ended_leaves_the_script_where_it_is(layout: Any) -> None:
    plan: dict[int, Sequence[Action]] = {4: [EndStep(worker="Alice")]}
    result = await solve({"Alice": "abcdefgh", "Bob": BOB}, policies=[At(plan)], layout=layout)
    first, second = result.texts["Alice"].split("**Alice [2]:** ")
    assert first.removeprefix("**Alice [1]:** ").removesuffix("\n\n") + second == "abcdefgh"


async def test_a_ban_holds_the_script_up_until_it_is_over() -> None:
    recorder = Recorder()
    plan: dict[int, Sequence[Action]] = {2: [Ban(worker="Alice", texts=("-",), for_tokens=6)]}
    await solve({"Alice": "ab------c", "Bob": BOB}, policies=[At(plan)], record=recorder)
    sampled = bytes(
        event.tokens[0]
        for event in recorder.of(TokensWritten)
        if event.worker == "Alice" and event.source == "sampled" and event.tokens[0] < 256
    )
    assert sampled.endswith(b"------c")
    assert b"-" not in sampled[3:8]


async def spawned(fork_of: str | None, **options: Any) -> dict[str, str]:
    recorder = Recorder()
    plan: dict[int, Sequence[Action]] = {4: [Spawn(worker=Worker("Carol"), fork_of=fork_of)]}
    scripts = {"Alice": ALICE, "Bob": BOB, "Carol": ["I am new.\n\n", "So it is."]}
    await solve(scripts, policies=[At(plan)], record=recorder, **options)
    return recorder.texts()


@pytest.mark.parametrize("layout", list(LAYOUTS))
async def test_a_worker_that_joins_has_a_script(layout: str) -> None:
    assert await spawned(None, layout=layout) == {
        "Alice": text("Alice", *ALICE),
        "Bob": text("Bob", BOB),
        "Carol": text("Carol", "I am new.\n\n", "So it is."),
    }


@pytest.mark.parametrize("layout", list(LAYOUTS))
async def test_a_fork_has_a_script_of_its_own(layout: str) -> None:
    assert await spawned("Alice", layout=layout) == {
        "Alice": text("Alice", *ALICE),
        "Bob": text("Bob", BOB),
        "Carol": "I am new.\n\n**Carol [2]:** So it is.",
    }


@pytest.mark.parametrize(
    "act",
    [
        lambda: [Spawn(worker=Worker("Carol"), fork_of="Alice")],
        lambda: [Say(worker="Alice", text="Hm, "), *probes("Alice", "Well? ")],
        lambda: [EndStep(worker="Bob"), Park(worker="Bob")],
    ],
)
async def test_interventions_replay(tmp_path: Any, act: Callable[[], list[Action]]) -> None:
    model = scripted_model({"Alice": ALICE, "Bob": BOB, "Carol": "And I?"})
    team = make_team(model, policies=[At({4: act(), 9: [Resume(worker="Bob")]})])
    await team.solve(PROBLEM, transcript=tmp_path / "run.jsonl")
    assert_replays(tmp_path / "run.jsonl", model)
