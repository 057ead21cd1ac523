"""TurnTaking: at most one worker writes at a time, round after round."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import ConfigError, Prompt, Resume, Say
from hogwild_agents.policies import TurnTaking, WorkerBudget
from tests.policies.rig import act, steps, taken, writers
from tests.runtime.rig import run_on

pytestmark = pytest.mark.anyio
NAMES = ("Alice", "Bob", "Carol")


def turns(lengths: dict[str, int], each: int) -> list[str]:
    """Whose step is next, as long as everybody has one left."""
    left = dict(lengths)
    found: list[str] = []
    for name in cycle(lengths):
        if not any(left.values()):
            return found
        for _ in range(min(each, left[name])):
            left[name] -= 1
            found.append(name)
    raise AssertionError("a cycle has no end")


async def test_one_after_the_other() -> None:
    record = await act({"Alice": "1.\n\n3.\n\n", "Bob": "2.\n\n4.\n\n"}, TurnTaking())
    assert steps(record) == [("Alice", 1), ("Bob", 1), ("Alice", 2), ("Bob", 2)]
    assert all(len(names) == 1 for names in writers(record).values())
    assert record.result.reason == "left"


async def test_a_turn_opens_with_who_spoke_last() -> None:
    record = await act({"Alice": "1.\n\n", "Bob": "2.\n\n"}, TurnTaking())
    turn = Prompt.load("turn")
    assert f"**Alice [1]:** {turn.render()}1." in record.result.texts["Alice"]
    assert f"**Bob [1]:** {turn.render(previous='Alice')}2." in record.result.texts["Bob"]
    silent = await act({"Alice": "1.\n\n", "Bob": "2.\n\n"}, TurnTaking(prompt=None))
    assert not taken(silent, Say)
    assert "**Bob [1]:** 2." in silent.result.texts["Bob"]


@pytest.mark.parametrize("layout", ["combined", "interleaved", "contiguous"])
async def test_what_was_said_is_seen_in_the_next_turn(layout: str) -> None:
    seen: list[str] = []

    def listen(view: str) -> str:
        seen.append(view)
        return "2.\n\n"

    scripts = {"Alice": "Of course 1.\n\nNo, 3.\n\n", "Bob": listen}
    await act(scripts, TurnTaking(prompt=None), layout=layout)
    assert "**Alice [1]:** Of course 1.\n\n" in seen[0]


@given(
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    each=st.integers(1, 2),
    leaves=st.booleans(),
)
@settings(max_examples=15)
def test_at_most_one_worker_writes_in_a_tick(lengths: list[int], each: int, leaves: bool) -> None:
    counts = dict(zip(NAMES, lengths, strict=False))
    scripts = {name: "a.\n\n" * count + "b" * leaves for name, count in counts.items()}
    record = run_on("asyncio", lambda: act(scripts, TurnTaking(each, prompt=None)))
    assert all(len(names) <= 1 for names in writers(record).values())
    assert [name for name, _ in steps(record)] == turns(counts, each)
    assert record.result.reason == "left"


async def test_a_spent_worker_is_left_out() -> None:
    scripts = dict.fromkeys(NAMES, "a.\n\n" * 5)
    record = await act(scripts, TurnTaking(), WorkerBudget({"Bob": 6}, warn_at=None))
    order = "Alice Bob Carol Alice Carol Alice".split()
    assert [name for name, _ in steps(record)][:6] == order
    assert all(len(names) <= 1 for names in writers(record).values())
    assert len(steps(record)) == 11


async def test_alone_nobody_waits() -> None:
    record = await act({"Alice": "1.\n\n2.\n\n"}, TurnTaking())
    assert not taken(record, Resume)
    assert len(steps(record)) == 2


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="0 steps"):
        TurnTaking(0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        TurnTaking(prompt="no_such_prompt")
