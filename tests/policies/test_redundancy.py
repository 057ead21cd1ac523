"""RedundancyCheck: asked by the worker's own count or that of all, at the beginning of a step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from hogwild_agents import (
    ActionTaken,
    ConfigError,
    Limits,
    Probe,
    Prompt,
    Say,
    StepEnded,
    TokensWritten,
)
from hogwild_agents.policies import RedundancyCheck, TurnTaking
from tests.policies.rig import act, taken
from tests.runtime.book import check_feeds
from tests.runtime.rig import make_team, run_on, solve, steps_of

CHECK = "Quick check: am I doing redundant work? (yes/no): "


def ended(worker: str, written: int, step: int = 1) -> StepEnded:
    return StepEnded(worker=worker, step=step, tick=1, text="", tokens_written=written)


def answers(policy: RedundancyCheck, *events: StepEnded) -> list[Any]:
    async def ask() -> list[Any]:
        return [await policy.on_step_ended(event) for event in events]

    found: list[Any] = run_on("asyncio", ask)
    return found


def test_the_words_are_the_papers() -> None:
    assert Prompt.load("redundancy_check").render() == CHECK
    (asked,) = answers(RedundancyCheck(every=5), ended("Alice", 5))
    assert asked == Say(worker="Alice", text=CHECK)


@given(
    steps=st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 40)), max_size=30),
    every=st.integers(1, 50),
)
def test_each_worker_has_its_own_count(steps: list[tuple[str, int]], every: int) -> None:
    written = dict.fromkeys("ABC", 0)
    since = dict.fromkeys("ABC", 0)
    events, expected = [], []
    for worker, length in steps:
        written[worker] += length
        since[worker] += length
        events.append(ended(worker, written[worker]))
        due = since[worker] >= every
        expected.append(Say(worker=worker, text=CHECK) if due else None)
        since[worker] *= not due
    assert answers(RedundancyCheck(every=every), *events) == expected


@pytest.mark.anyio
@pytest.mark.parametrize("layout", ["combined", "contiguous"])
async def test_the_question_opens_the_step_after_its_prefix(layout: str) -> None:
    workers = [steps_of("Alice", [2, 2, 2, 2]), steps_of("Bob", [9, 9])]
    team = make_team(workers=workers, policies=[RedundancyCheck(every=6)], layout=layout)
    record = await solve(team)
    check_feeds(record)
    text = record.result.texts["Alice"]
    assert f"**Alice [3]:** {CHECK}" in text
    assert text.count(CHECK) == 2
    assert f"**Bob [2]:** {CHECK}" in record.result.texts["Bob"]
    asked = [e for e in record.told(TokensWritten) if e.text == CHECK]
    assert {event.source for event in asked} == {"forced"}
    assert len(record.told(ActionTaken)) == len(asked) == 3
    (first, *_) = [e for e in asked if e.worker == "Alice"]
    feeds = [
        feed
        for commit in record.commits
        for feed in commit.feeds
        if feed.tokens[-len(first.tokens) :] == first.tokens
    ]
    prefix = len(team.model.encode("**Alice [3]:** "))
    separator = 1 if layout == "contiguous" else 0  # where nothing moves it is in the same feed
    assert len(feeds[0].tokens) == separator + prefix + len(first.tokens)  # no tick is lost


@pytest.mark.anyio
async def test_forced_tokens_do_not_count() -> None:
    workers = [steps_of("Alice", [1] * 6)]
    policies = [RedundancyCheck(every=5)]
    record = await solve(make_team(workers=workers, policies=policies, limits=Limits(ticks=60)))
    asked = [e.step for e in record.told(TokensWritten) if e.text == CHECK]
    assert asked == [3, 5, 7]  # three tokens a step


@pytest.mark.anyio
async def test_own_words(tmp_path: Any) -> None:
    path = tmp_path / "ask.md"
    path.write_text('---\nname: ask\ndescription: d\ntext: "Sure? "\n---\n')
    policies = [RedundancyCheck(every=1, prompt=str(path))]
    record = await solve(make_team(workers=[steps_of("Alice", [1])], policies=policies))
    assert "**Alice [2]:** Sure? " in record.result.texts["Alice"]


STEPS = {"A": "aa.\n\n" * 8, "B": "bb.\n\n" * 8, "C": "." * 90}


def asked(record: Any) -> list[str]:
    """Who was spoken to, in order."""
    return [action.worker for action in taken(record, Say) if action.text == CHECK]


@pytest.mark.anyio
@pytest.mark.parametrize("every", [1, 9, 14, 40])
async def test_tokens_of_all_may_be_counted_together(every: int) -> None:
    record = await act(STEPS, RedundancyCheck(every=every, count="pooled"))
    written = last = 0
    expected = []
    for event in record.told(TokensWritten, StepEnded):
        if isinstance(event, TokensWritten):
            written += len(event.tokens) * (event.source == "sampled")
        elif written - last >= every:
            expected.append(event.worker)
            last = written
    assert asked(record) == expected != []


@pytest.mark.anyio
async def test_a_worker_may_be_drawn_by_lot() -> None:
    drawn = set()
    for seed in range(4):
        policy = RedundancyCheck(every=12, count="random", seed=seed)
        names = asked(await act(STEPS, policy, limits=Limits(ticks=30)))
        assert names == asked(await act(STEPS, policy, limits=Limits(ticks=30)))
        assert set(names) <= {"A", "B"}
        drawn.add(tuple(names))
    assert len(drawn) > 1


ANSWERS = {
    "A": {"right now": {"yes": 0.8, "no": 0.2}, CHECK: "yes. "},
    "B": {"right now": {"yes": 0.3, "no": 0.7}},
    "C": {"right now": {"yes": 0.5, "no": 0.1}},
}


@pytest.mark.anyio
@pytest.mark.parametrize("count", ["worker", "pooled"])
async def test_probed_only_those_are_spoken_to_who_say_yes(count: Any) -> None:
    policy = RedundancyCheck(every=8, count=count, threshold=0.6)
    record = await act(STEPS, policy, answers=ANSWERS)
    assert {probe.worker for probe in taken(record, Probe)} == {"A", "B", "C"}
    assert set(asked(record)) == {"A"}  # C would be, but ends no step
    assert f"**A [3]:** {CHECK}yes. " in record.result.texts["A"]
    assert "right now" not in "".join(record.result.texts.values())


@pytest.mark.anyio
async def test_one_drawn_by_lot_may_be_probed() -> None:
    policy = RedundancyCheck(every=9, count="random", threshold=0.6)
    record = await act(STEPS, policy, answers=ANSWERS, limits=Limits(ticks=20))
    probes = [e.tick for e in record.told(ActionTaken) if isinstance(e.action, Probe)]
    assert len(probes) == len(set(probes)) >= 4


@pytest.mark.anyio
async def test_nobody_is_probed_who_waits() -> None:
    policies = [TurnTaking(prompt=None), RedundancyCheck(every=4, count="pooled", threshold=0.5)]
    record = await act({"A": "aa.\n\n" * 3, "B": "bb.\n\n" * 3}, *policies, answers=ANSWERS)
    assert taken(record, Probe)
    assert len(asked(record)) >= 1


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="'team'"):
        RedundancyCheck(count="team")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="threshold 0"):
        RedundancyCheck(threshold=0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        RedundancyCheck(probe_prompt="no_such_prompt")
    with pytest.raises(ConfigError, match="every 0 tokens"):
        RedundancyCheck(every=0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        RedundancyCheck(prompt="no_such_prompt")
