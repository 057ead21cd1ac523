"""Debate: rounds in which all argue, then the judge, and nobody out of turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import Conclude, ConfigError, Limits, Prompt, TokensWritten, Worker
from hogwild_agents.policies import Debate, StopOnAgreement
from tests.policies.rig import act, fail, steps, taken
from tests.runtime.rig import Play, run_on

pytestmark = pytest.mark.anyio
OPENING = Prompt.load("debate_opening")
REBUTTAL = Prompt.load("debate_rebuttal")
ANSWERS = {"Judge": {"final answer": "7}"}}


def order(record: Play) -> list[tuple[str, int]]:
    """Who sampled for which step, in the order in which each began."""
    found = [(e.worker, e.step) for e in record.told(TokensWritten) if e.source == "sampled"]
    return list(dict.fromkeys(found))


async def test_two_rounds_and_a_judgement() -> None:
    scripts = {"A": "7.\n\nStill 7.\n\n", "B": "No.\n\nWell.\n\n", "Judge": "A, by far.\n\n"}
    record = await act(scripts, Debate(), answers=ANSWERS)
    result = record.result
    assert (result.answer, result.author, result.reason) == ("7", "Judge", "judgement")
    assert result.texts["A"].startswith(f"**A [1]:** {OPENING.render()}7.\n\n**A [2]:** ")
    assert f"**B [2]:** {REBUTTAL.render(opponents=['A'])}Well." in result.texts["B"]
    verdict = Prompt.load("debate_verdict").render(names=["A", "B"])
    assert result.texts["Judge"].startswith(f"**Judge [1]:** {verdict}A, by far.")


@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=2), min_size=1, max_size=3),
    each=st.integers(1, 2),
)
@settings(max_examples=8)
def test_a_round_ends_when_all_have_argued(lengths: Sequence[Sequence[int]], each: int) -> None:
    names = "ABC"[: len(lengths)]
    texts = [
        "".join("." * length + "\n\n" for length in both for _ in range(each)) for both in lengths
    ]
    scripts = {**dict(zip(names, texts, strict=True)), "Judge": "B.\n\n"}
    record = run_on("asyncio", lambda: act(scripts, Debate(steps=each), answers=ANSWERS))
    rounds = [name for name, _ in steps(record)]
    half = each * len(names)
    assert sorted(rounds[:half]) == sorted(rounds[half : 2 * half]) == sorted(names * each)
    assert rounds[2 * half :] == ["Judge"]
    began = order(record)
    for name in names:  # nobody's second round begins before all have ended the first
        second = began.index((name, each + 1))
        assert all((other, each) in began[:second] for other in names)
    assert record.result.answer == "7"


async def test_positions_are_given() -> None:
    scripts = {"Judge": "B.\n\n", "A": "a.\n\n", "B": "b.\n\n"}
    debate = Debate(1, "Judge", positions={"A": "it is 7", "B": "it is 8"})
    record = await act(scripts, debate, answers=ANSWERS)
    assert "My position is this: it is 7. " in record.result.texts["A"]
    assert "My position is this: it is 8. " in record.result.texts["B"]
    assert record.result.author == "Judge"


async def test_a_position_is_given_once() -> None:
    views: list[str] = []

    def argue(view: str) -> str:
        views.append(view)
        return "a.\n\n"

    role = Prompt.load("role_debater").render()
    scripts = {"A": [argue, argue], "B": "b.\n\nc.\n\n", "Judge": "A.\n\n"}
    workers = [Worker("A", role=role), Worker("B", role=role), "Judge"]
    debate = Debate(positions={"A": "it is 7"})
    await act(scripts, debate, answers=ANSWERS, workers=workers)
    assert len(views) >= 2
    for view in views:
        assert role.strip() in view
        assert view.count("it is 7") == 1


async def test_a_limit_calls_the_judge() -> None:
    scripts = {"A": "." * 90, "B": "b.\n\n", "Judge": ""}
    record = await act(scripts, Debate(), answers=ANSWERS, limits=Limits(ticks=20))
    assert (record.result.answer, record.result.author) == ("7", "Judge")
    assert not [event for event in order(record)[:-1] if event[0] == "Judge"]


async def test_the_debate_goes_on_without_who_leaves() -> None:
    scripts = {"A": "a.\n\nb.\n\n", "B": "Bye", "Judge": "A.\n\n"}
    record = await act(scripts, Debate(), answers=ANSWERS)
    assert steps(record) == [("A", 1), ("A", 2), ("Judge", 1)]
    assert record.result.answer == "7"
    record = await act({"A": "Bye", "Judge": "A.\n\n"}, Debate(), answers=ANSWERS)
    assert (record.result.answer, steps(record)) == ("7", [("Judge", 1)])


async def test_a_judge_that_leaves_concludes() -> None:
    scripts = {"A": "a.\n\n", "B": "b.\n\n", "Judge": "A"}
    record = await act(scripts, Debate(1), answers=ANSWERS)
    assert (record.result.answer, record.result.author) == ("7", "Judge")


async def test_agreement_ends_it_early() -> None:
    scripts = {"A": "\\boxed{7}.\n\n" * 2, "B": "\\boxed{7}.\n\n" * 2, "Judge": ""}
    record = await act(scripts, Debate(9), StopOnAgreement())
    assert (record.result.answer, record.result.reason) == ("7", "agreement")
    assert not taken(record, Conclude)


async def test_there_must_be_a_judge_and_a_debater() -> None:
    assert "the judge 'A'" in await fail({"A": ""}, Debate())
    assert "the judge 'Zoe'" in await fail({"A": "", "B": ""}, Debate(judge="Zoe"))
    assert "positions for Zoe" in await fail({"A": "", "B": ""}, Debate(positions={"Zoe": "no"}))


def test_wrong_options() -> None:
    for option in ("rounds", "steps", "max_tokens"):
        with pytest.raises(ConfigError, match=f"{option}=0"):
            Debate(**{option: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no_such_prompt"):
        Debate(verdict="no_such_prompt")
