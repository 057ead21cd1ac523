r"""StopOnAnswer: the first ``\boxed{...}`` that a worker itself has completed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hogwild_agents import (
    Action,
    ActionTaken,
    Finish,
    Policy,
    Say,
    StepEnded,
    TokensWritten,
    find_boxed,
)
from hogwild_agents.policies import StopOnAnswer
from tests.runtime.book import check_feeds
from tests.runtime.rig import Typist, make_team, run_on, solve

pytestmark = pytest.mark.anyio


def texts(*workers: Any, **options: Any) -> Any:
    return make_team(workers=list(workers), policies=[StopOnAnswer()], **options)


async def test_a_box_ends_the_run_in_mid_step() -> None:
    record = await solve(texts(Typist("Alice", r"So \boxed{7, 12} it is. Bye.", 5), "Bob"))
    assert record.result.answer == "7, 12"
    assert record.result.author == "Alice"
    assert record.result.reason == "answer"
    assert record.result.texts["Alice"] == r"**Alice [1]:** So \boxed{7, 12}"
    assert not record.told(StepEnded)
    last = record.told(TokensWritten)[-1]
    assert last.worker == "Alice"  # nobody goes on after it
    check_feeds(record)


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{{a}{b{c}}}", "{a}{b{c}}"),
        (r"\boxed{ 0.50 }", "0.50"),
        (r"\boxed{} then \boxed{3}", "3"),
        (r"\boxed \boxed{4}", "4"),
    ],
)
async def test_what_stands_in_the_box_is_the_answer(written: str, answer: str) -> None:
    record = await solve(texts(Typist("Alice", written, 1)))
    assert record.result.answer == answer


async def test_a_box_in_the_prompt_is_no_answer() -> None:
    record = await solve(texts("Alice"), r"Answer as \boxed{1}.")
    assert record.result.answer is None
    assert record.result.reason == "ticks"


async def test_a_box_that_was_forced_is_no_answer() -> None:
    async def write(worker: Typist) -> None:
        await worker.write(r"\boxed{1} or \boxed{")

    record = await solve(texts(Typist("Alice", "I say ", write, "2} and ")))
    assert record.result.answer is None
    assert r"\boxed{1}" in record.result.texts["Alice"]


async def test_a_box_that_forced_text_cuts_in_two_is_no_answer() -> None:
    class Interrupter(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            return [Say(worker="Alice", text="Wait. ")] if event.text.endswith("{") else []

    team = make_team(
        workers=[Typist("Alice", r"\boxed{2} or \boxed 3}")],
        policies=[Interrupter(), StopOnAnswer()],
    )
    record = await solve(team)
    assert "Wait. 2}" in record.result.texts["Alice"]
    assert record.result.answer is None


async def test_a_box_over_two_steps_is_no_answer() -> None:
    record = await solve(texts(Typist("Alice", "\\boxed{2.\n\n", "3}", 1)))
    assert len(record.result.steps) == 1
    assert record.result.answer is None


async def test_of_several_in_one_tick_the_first_worker_counts() -> None:
    alice, bob = Typist("Alice", r"\boxed{1}"), Typist("Bob", r"\boxed{2}")
    for workers, answer in (((alice, bob), "1"), ((bob, alice), "2")):
        record = await solve(texts(*workers))
        assert record.result.answer == answer
        assert len(record.told(ActionTaken)) == 1


async def test_the_first_box_in_time_counts() -> None:
    record = await solve(texts(Typist("Alice", r"Hm, so \boxed{1}"), Typist("Bob", r"\boxed{2}")))
    assert record.result.answer == "2"
    assert record.result.author == "Bob"


def first_box(text: str) -> str | None:
    """The first box with something in it, by looking at every prefix of the text."""
    prefixes = (text[:end] for end in range(1, len(text) + 1))
    return next((found for prefix in prefixes if (found := find_boxed(prefix))), None)


@given(
    parts=st.lists(
        st.sampled_from(["\\boxed{", "{", "}", "\\", "\\{", "a", " ", "boxed", "7, 1", "\n"]),
        max_size=14,
    )
)
def test_it_makes_no_difference_how_the_text_is_cut(parts: list[str]) -> None:
    async def ask(pieces: Iterable[str]) -> Any:
        policy = StopOnAnswer()
        for piece in pieces:
            event = TokensWritten(
                worker="A", step=1, tick=1, tokens=(1,), text=piece, source="sampled"
            )
            if (action := await policy.on_tokens_written(event)) is not None:
                return action
        return None

    text = "".join(parts)
    expected = first_box(text)
    finish = None if expected is None else Finish(answer=expected, author="A")
    assert run_on("asyncio", lambda: ask(text)) == finish
