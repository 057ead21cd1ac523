"""scripted_model: workers write their scripts, whatever else happens in the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hogwild_agents import (
    Action,
    CacheCoordinator,
    CacheFullError,
    Combined,
    Conclude,
    ConfigError,
    Feed,
    Headings,
    LimitReached,
    Limits,
    Policy,
    RunError,
    SamplingParams,
    Say,
    StepEnded,
    TickEnded,
    TokensWritten,
    Worker,
)
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.testing import Recorder, assert_replays, scripted_model
from tests.testing.rig import PROBLEM, make_team, solve, text

pytestmark = pytest.mark.anyio

ALICE = ("a) 7 + 1 = 8.\n\n", "b) 4 + 9 = 13 ✓.\n\n", "Done")
BOB = ("I wait.\n\n", "So do I.")


class Interrupt(Policy):
    """Says something to a worker at each end of a step, or to Alice after each of some ticks."""

    def __init__(self, said: str, ticks: Sequence[int] = ()) -> None:
        self.said, self.ticks, self.count = said, ticks, 0

    async def on_step_ended(self, event: StepEnded) -> list[Action]:
        return [] if self.ticks else [Say(worker=event.worker, text=self.said)]

    async def on_tick_ended(self, event: TickEnded) -> list[Action]:
        self.count += 1
        return [Say(worker="Alice", text=self.said)] if self.count in self.ticks else []


@pytest.mark.parametrize("layout", [*LAYOUTS, Combined(reference_order=True)], ids=str)
async def test_workers_write_their_scripts_in_any_layout(layout: Any) -> None:
    result = await solve({"Alice": ALICE, "Bob": BOB}, layout=layout)
    assert result.texts == {"Alice": text("Alice", *ALICE), "Bob": text("Bob", *BOB)}
    assert [(step.worker, step.text) for step in result.steps] == [
        ("Bob", text("Bob", *BOB[:1])),
        ("Alice", text("Alice", *ALICE[:1])),
        ("Alice", text("Alice", *ALICE[:2])[len(text("Alice", *ALICE[:1])) :]),
    ]
    assert (result.reason, result.failures) == ("left", {})


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=2.0),
        SamplingParams(temperature=0.5, top_k=5, top_p=0.9, min_p=0.1),
        SamplingParams(temperature=1.0, repetition_penalty=2.0),
        SamplingParams(bias={ord("x"): 80.0}),
    ],
    ids=str,
)
async def test_no_sampling_parameter_changes_what_is_said(sampling: SamplingParams) -> None:
    result = await solve({"Alice": ALICE, "Bob": BOB}, sampling=sampling)
    assert result.texts == {"Alice": text("Alice", *ALICE), "Bob": text("Bob", *BOB)}


async def test_headings_may_be_any() -> None:
    headings = Headings(prefix="{step}: ", own="")
    result = await solve({"Alice": ALICE, "Bob": BOB}, headings=headings)
    assert result.texts["Alice"] == "1: " + ALICE[0] + "2: " + ALICE[1] + "3: " + ALICE[2]


@pytest.mark.parametrize("said", ["Quick check: ", "b", "b) 4 + 9 = ", "\n\n", "x" * 600])
@pytest.mark.parametrize("reference_order", [False, True])
async def test_what_opens_a_step_leaves_the_script_where_it_is(
    said: str, reference_order: bool
) -> None:
    result = await solve(
        {"Alice": ALICE, "Bob": ""},
        policies=[Interrupt(said)],
        layout=Combined(reference_order=reference_order),
    )
    assert result.texts["Alice"] == text("Alice", ALICE[0], said + ALICE[1], said + ALICE[2])


@pytest.mark.parametrize("size", [1, 511, 512, 1030])
async def test_what_is_said_in_mid_step_leaves_the_script_where_it_is(size: int) -> None:
    """Even where it is cut over several ticks and looks like the script at each cut."""
    ticks = (3, 4, 7)
    result = await solve(
        {"Alice": "aaaaaaaaaaaaaaaa", "Bob": "b"}, policies=[Interrupt("a" * size, ticks)]
    )
    assert result.texts["Alice"] == text("Alice", "a" * (16 + size * len(ticks)))
    assert result.tokens == 17 + 2  # those of the scripts, and two ends of text


class Handy(Worker):
    """Reads, writes, waits and thinks by turns."""

    async def run(self) -> None:
        await self.think(max_tokens=2)
        await self.write("[one]")
        await self.write("[two]")
        with self.parked():
            await anyio.lowlevel.checkpoint()
        await self.think(max_tokens=3)
        await self.flush()
        await self.write("[three]")
        await self.think()


async def test_what_a_worker_writes_itself_leaves_the_script_where_it_is() -> None:
    result = await solve({"Alice": "abcdefg", "Bob": "hello"}, workers=[Handy("Alice"), "Bob"])
    assert result.texts["Alice"] == text("Alice", "ab[one][two]cde[three]fg")


async def test_a_function_sees_what_its_worker_sees() -> None:
    views: list[str] = []

    def look(view: str) -> str:
        views.append(view)
        return "I see it. " if "= 8" in view else "Nothing. "

    scripts = {"Alice": "7 + 1 = 8. And on.", "Bob": [look, "I wait for a while. ", look]}
    result = await solve(scripts)
    assert result.texts["Bob"] == text("Bob", "Nothing. I wait for a while. I see it. ")
    assert views[0].startswith("<|system|>Work.<|end|><|user|>" + PROBLEM)
    assert views[0].endswith("### Work in progress (own)\n\n**Bob [1]:** ")
    assert "**Alice [1]:** 7 + 1 = 8. And" in views[1]
    result = await solve(scripts, layout="isolated")
    assert result.texts["Bob"] == text("Bob", "Nothing. I wait for a while. Nothing. ")


async def test_a_function_is_asked_again_if_nothing_came_of_it() -> None:
    class Caller(Worker):
        async def run(self) -> None:
            while not self.step_text.endswith("7 + 1 ="):
                await self.next_token()
            await self.flush()  # what is sampled with it is thrown away
            await self.write(" 8")
            await self.think()

    def read(view: str) -> str:
        return f", so {view[-1]}."

    result = await solve({"Alice": ["7 + 1 =", read]}, workers=[Caller("Alice")])
    assert result.texts["Alice"] == text("Alice", "7 + 1 = 8, so 8.")


@pytest.mark.parametrize(("reply", "said"), [("no. ", "no. "), ({"yes": 0.3, "no": 0.7}, "no")])
async def test_a_question_is_answered_before_the_script_goes_on(reply: Any, said: str) -> None:
    result = await solve(
        {"Alice": ALICE, "Bob": ""},
        answers={"Alice": {"redundant": reply}},
        policies=[Interrupt("Redundant? No. Really redundant? ")],
    )
    opening = "Redundant? No. Really redundant? " + said
    assert result.texts["Alice"] == text("Alice", ALICE[0], opening + ALICE[1], opening + ALICE[2])


class Ask(Policy):
    """Has the last worker answer at the limit."""

    async def on_limit_reached(self, event: LimitReached) -> list[Action]:
        return [Conclude(text="\n\nIn short: \\boxed{")]


async def test_a_conclusion_is_answered(tmp_path: Any) -> None:
    result = await solve(
        {"Alice": ALICE, "Bob": "I think and think and think."},
        answers={"Bob": {"boxed{": lambda view: "13}" if "4 + 9" in view else "?}"}},
        policies=[Ask()],
        limits=Limits(ticks=16),
    )
    assert (result.answer, result.author) == ("13", "Bob")


async def test_a_worker_without_a_script_leaves() -> None:
    result = await solve({"Alice": "Hello."}, workers=["Alice", "Bob"])
    assert result.texts == {"Alice": text("Alice", "Hello."), "Bob": text("Bob", "")}
    assert (result.reason, result.tokens) == ("left", 8)


async def test_a_banned_token_holds_the_script_up() -> None:
    class Careful(Worker):
        async def run(self) -> None:
            params = self.desk.sampler.params
            self.desk.sampler.params = params.replace(banned=params.banned | {ord("b")})
            await self.think(max_tokens=3)
            self.desk.sampler.params = params
            await self.think()

    recorder = Recorder()
    await solve({"Alice": "abc."}, workers=[Careful("Alice")], record=recorder)
    sampled = [event.tokens[0] for event in recorder.of(TokensWritten) if event.source == "sampled"]
    assert bytes([sampled[0], *sampled[3:6]]) == b"abc."
    assert ord("b") not in sampled[:3]


async def test_each_run_begins_the_scripts_anew() -> None:
    model = scripted_model({"Alice": ALICE, "Bob": BOB})
    expected = {"Alice": text("Alice", *ALICE), "Bob": text("Bob", *BOB)}
    assert (await make_team(model).solve("One.")).texts == expected
    results = []

    async def solve_also(team: Any, problem: str) -> None:
        results.append(await team.solve(problem))

    async with CacheCoordinator(model.engine) as coordinator, anyio.create_task_group() as group:
        for layout in ("combined", "contiguous", "isolated"):
            team = make_team(model, layout=layout, coordinator=coordinator)
            group.start_soon(solve_also, team, "Two.")
    assert [result.texts for result in results] == [expected] * 3


async def test_an_error_in_a_function_ends_the_run_and_is_named() -> None:
    model = scripted_model({"Alice": lambda view: str(1 // 0), "Bob": "Hi."})
    with pytest.raises(RunError, match="ZeroDivisionError") as caught:
        await make_team(model).solve(PROBLEM)
    assert caught.value.result is not None
    model = scripted_model({"Alice": lambda view: 7})  # type: ignore[dict-item, return-value]
    with pytest.raises(RunError, match="in the script of Alice returned 7: give text"):
        await make_team(model, workers=["Alice"]).solve(PROBLEM)


async def test_runs_of_a_scripted_model_replay(tmp_path: Any) -> None:
    model = scripted_model({"Alice": ALICE, "Bob": ["I see ", lambda view: view[-3:]]})
    team = make_team(model, policies=[Interrupt("Go on: "), Ask()], limits=Limits(ticks=25))
    await team.solve(PROBLEM, transcript=tmp_path / "run.jsonl")
    assert_replays(tmp_path / "run.jsonl", model)


def test_what_no_worker_may_write_is_refused() -> None:
    for script in ("# Title", ["fine", "</think>"], "end<|end|>"):
        with pytest.raises(ConfigError, match=r"The script of Alice holds '.*', which no worker"):
            scripted_model({"Alice": script})
    with pytest.raises(ConfigError, match=r"The script of Bob holds 7: give text, or a function"):
        scripted_model({"Bob": [7]})  # type: ignore[list-item]


@pytest.mark.parametrize("odds", [{}, {"yes": 0.0}, {"yes": 0.6, "no": 0.6}])
def test_answers_must_have_probabilities(odds: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="The answers of Bob have the probabilities"):
        scripted_model({}, answers={"Bob": {"?": odds}})


# -- on the engine alone


def test_a_tick_that_fails_costs_no_script() -> None:
    with scripted_model({"Alice": "abc"}, max_tokens=12).engine as engine:
        prompt, alice = engine.block("prompt"), engine.block("Alice [1]")
        engine.forward([Feed(prompt, [prompt], [1, 2, 3])])
        view = [prompt, alice]
        for token in b"-abc":
            with pytest.raises(CacheFullError):
                engine.forward([Feed(alice, view, [token] * 10)])
            row = engine.forward([Feed(alice, view, [token])])[0]
        assert int(row.argmax()) == engine.vocab_size - 1


def test_all_rows_are_to_be_had_too() -> None:
    with scripted_model({"Alice": "abc", "Bob": "xyz"}).engine as engine:
        prompt, alice, bob = (engine.block(name) for name in ("prompt", "Alice [1]", "Bob [1]"))
        engine.forward([Feed(prompt, [prompt], [1, 2, 3])])
        feeds = [Feed(alice, [prompt, bob, alice], [1, 2]), Feed(bob, [prompt, alice, bob], [4, 5])]
        rows = engine.forward(feeds, logits="all")
        assert rows.shape[0] == 4
        assert [int(row.argmax()) for row in rows[1::2]] == [ord("a"), ord("x")]
