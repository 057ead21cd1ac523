"""RedundancyCheck: each worker is asked by its own count, right at the beginning of a step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from hogwild_agents import ActionTaken, ConfigError, Limits, Prompt, Say, StepEnded, TokensWritten
from hogwild_agents.policies import RedundancyCheck
from tests.runtime.book import check_feeds
from tests.runtime.rig import make_team, run_on, solve, steps_of

CHECK = "Quick check: am I doing redundant work? (yes/no): "


def ended(worker: str, written: int, step: int = 1) -> StepEnded:
    return StepEnded(worker=worker, step=step, tick=1, text="", tokens_written=written)


def answers(policy: RedundancyCheck, *events: StepEnded) -> list[Any]:
    async def ask() -> list[Any]:
        return [list(await policy.on_step_ended(event)) for event in events]

    found: list[Any] = run_on("asyncio", ask)
    return found


def test_the_words_are_the_papers() -> None:
    assert Prompt.load("redundancy_check").render() == CHECK
    (asked,) = answers(RedundancyCheck(every=5), ended("Alice", 5))
    assert asked == [Say(worker="Alice", text=CHECK)]


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
        expected.append([Say(worker=worker, text=CHECK)] if due else [])
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


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="every 0 tokens"):
        RedundancyCheck(every=0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        RedundancyCheck(prompt="no_such_prompt")
