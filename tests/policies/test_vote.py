"""MajorityVote and SelfConsistency: everybody answers once, the most frequent answer wins."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import ConfigError, Dismiss, Hide, Limits, Prompt, WorkerLeft
from hogwild_agents.policies import Finisher, MajorityVote, SelfConsistency
from tests.policies.rig import act, sampled, taken
from tests.runtime.rig import run_on

pytestmark = pytest.mark.anyio
NAMES = ("Alice", "Bob", "Carol", "Dave")


def box(answer: str, delay: int = 0) -> str:
    """A script that answers after so many tokens, and goes on."""
    return "." * delay + rf"\boxed{{{answer}}}" + "." * 60


async def test_the_most_frequent_answer_wins() -> None:
    record = await act({"A": box("1"), "B": box("2.0", 3), "C": box("2", 5)}, MajorityVote())
    result = record.result
    assert (result.answer, result.author, result.reason) == ("2.0", "B", "vote")


async def test_who_has_voted_is_done() -> None:
    record = await act({"A": box("1"), "B": box("2", 30)}, MajorityVote())
    assert taken(record, Dismiss) == [Dismiss(worker="A")]
    assert sampled(record, "A") == len(r"\boxed{1}")
    assert [event.worker for event in record.told(WorkerLeft)] == ["A"]


@given(
    votes=st.lists(
        st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 4)), min_size=1, max_size=4
    ),
    data=st.data(),
)
@settings(max_examples=15)
def test_the_order_of_workers_decides_ties_only(
    votes: list[tuple[str, int]], data: st.DataObject
) -> None:
    given_by = dict(zip(NAMES, votes, strict=False))
    order = data.draw(st.permutations(list(given_by)))
    scripts = {name: box(*given_by[name]) for name in order}
    record = run_on("asyncio", lambda: act(scripts, MajorityVote()))
    counts = Counter(answer for answer, _ in votes)
    most = max(counts.values())
    best = {answer for answer, count in counts.items() if count == most}
    in_time = sorted(order, key=lambda name: given_by[name][1])  # within a tick as in the team
    author = next(name for name in in_time if given_by[name][0] in best)
    assert (record.result.answer, record.result.author) == (given_by[author][0], author)


async def test_nobody_waits_for_who_has_left() -> None:
    record = await act({"A": box("1", 20), "B": "I don't know."}, MajorityVote())
    assert record.result.answer == "1"
    record = await act({"A": box("1"), "B": "I don't know, sorry."}, MajorityVote())
    assert (record.result.answer, record.result.reason) == ("1", "vote")
    record = await act({"A": "Who knows?", "B": "I don't."}, MajorityVote())
    assert (record.result.answer, record.result.reason) == (None, "left")


async def test_a_limit_counts_the_votes_that_there_are() -> None:
    policies = [MajorityVote(), Finisher()]
    limits = Limits(ticks=15)
    scripts = {"A": box("1"), "B": box("2", 40)}
    answers = {"B": {"final answer": "9}"}}
    record = await act(scripts, *policies, limits=limits, answers=answers)
    assert (record.result.answer, record.result.reason) == ("1", "vote")
    record = await act({"A": box("1", 40), "B": ""}, *policies, limits=limits)
    assert record.result.reason == "finisher"


async def test_a_vote_can_be_asked_for() -> None:
    answers = {name: {"settle on an answer": "4}"} for name in ("A", "B")}
    scripts = {"A": "." * 90, "B": box("5", 3), "C": box("5", 3), "D": "." * 90}
    record = await act(
        scripts, MajorityVote(ask_after=20), answers=answers, limits=Limits(ticks=40)
    )
    asked = Prompt.load("vote").render()
    assert f"{'.' * 20}{asked}4}}" in record.result.texts["A"]
    assert record.result.texts["D"].count(asked) == 1
    assert (record.result.answer, record.result.author) == ("5", "B")


async def test_own_ways_to_compare() -> None:
    def parity(answer: str) -> str:
        return str(int(answer) % 2)

    scripts = {"A": box("1"), "B": box("2", 1), "C": box("4", 2)}
    record = await act(scripts, MajorityVote(normalise=parity))
    assert record.result.answer == "2"


@pytest.mark.parametrize("layout", ["combined", "isolated", "contiguous"])
async def test_self_consistency_keeps_workers_apart(layout: str) -> None:
    seen: dict[str, str] = {}

    def vote(view: str) -> str:
        author = view.rpartition("**")[0].rpartition("**")[2].partition(" ")[0]
        seen[author] = view
        return r"\boxed{1}"

    scripts = {"A": ["I am here.\n\n", vote], "B": ["Me too!\n\n", vote]}
    record = await act(scripts, SelfConsistency(), layout=layout)
    assert record.result.answer == "1"
    assert "Me too" not in seen["A"]
    assert "I am here" not in seen["B"]
    assert bool(taken(record, Hide)) == (layout != "isolated")


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="0 tokens"):
        MajorityVote(ask_after=0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        SelfConsistency(prompt="no_such_prompt")
