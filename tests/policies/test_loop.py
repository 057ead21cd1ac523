"""LoopBreaker: it acts exactly when a run of tokens, or lines, has come too often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hogwild_agents import ChangeSampling, ConfigError, EndStep, Prompt, Say, TokensWritten
from hogwild_agents.policies import LoopBreaker
from tests.policies.rig import act, sampled, taken
from tests.runtime.rig import run_on

pytestmark = pytest.mark.anyio
NUDGE = Prompt.load("loop_breaker").render().lstrip()


def alarms(policy: LoopBreaker, pieces: Sequence[Any]) -> list[int]:
    """At which pieces it acts; a piece is a token id, or a text."""

    async def ask() -> list[int]:
        found = []
        for index, piece in enumerate(pieces):
            ids, text = ((0,), piece) if isinstance(piece, str) else ((piece,), "")
            event = TokensWritten(
                worker="A", step=1, tick=index, tokens=ids, text=text, source="sampled"
            )
            if list(await policy.on_tokens_written(event)):
                found.append(index)
        return found

    result: list[int] = run_on("asyncio", ask)
    return result


def first_alarm(items: Sequence[Any], length: int, times: int, window: int) -> int | None:
    """The first item that ends a run for the so-manieth time within the window."""
    runs = [tuple(items[end - length : end]) for end in range(length, len(items) + 1)]
    for last in range(len(runs)):
        if runs[max(0, last - window + 1) : last + 1].count(runs[last]) >= times:
            return last + length - 1
    return None


@given(
    tokens=st.lists(st.integers(0, 2), max_size=40),
    length=st.integers(1, 4),
    times=st.integers(2, 4),
    room=st.integers(0, 8),
)
def test_it_acts_when_a_run_has_come_too_often(
    tokens: list[int], length: int, times: int, room: int
) -> None:
    window = times + length + room
    policy = LoopBreaker(times, length, window=window)
    expected = first_alarm(tokens, length, times, window)
    found = alarms(policy, tokens)
    assert found[:1] == ([] if expected is None else [expected])
    if expected is not None:  # then it begins anew
        assert found[1:] == [
            expected + 1 + index
            for index in alarms(LoopBreaker(times, length, window=window), tokens[expected + 1 :])
        ]


@given(st.lists(st.sampled_from(["wait", " ", "\n", "no\nwait", "so"]), max_size=30))
def test_lines_may_come_in_any_pieces(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = alarms(LoopBreaker(2, unit="lines"), list(text))
    lines = [line.strip() for line in text.split("\n")[:-1]]
    expected = first_alarm([line for line in lines if line], 1, 2, 1024)
    assert (
        bool(whole) == bool(alarms(LoopBreaker(2, unit="lines"), pieces)) == (expected is not None)
    )


async def test_a_loop_is_left() -> None:
    record = await act({"A": "Wait. " * 9 + "\n\nOk", "B": "." * 5}, LoopBreaker(3, 6))
    opened = f"**A [1]:** {'Wait. ' * 3}\n\n**A [2]:** {NUDGE}Wait. "
    assert record.result.texts["A"].startswith(opened)
    assert taken(record)[:3] == [
        EndStep(worker="A"),
        ChangeSampling(worker="A", temperature=1.0, for_tokens=64),
        Say(worker="A", text=NUDGE),
    ]
    assert {action.worker for action in taken(record)} == {"A"}
    assert sampled(record, "A") == len("Wait. " * 9 + "\n\nOk") + 1


async def test_each_worker_is_watched_by_itself() -> None:
    record = await act({"A": "abc", "B": "abc", "C": "abc"}, LoopBreaker(2, 3))
    assert not taken(record)


async def test_what_is_said_to_a_worker_is_no_loop() -> None:
    quiet = LoopBreaker(2, 4, temperature=None, prompt=None)
    record = await act({"A": "abcdabcdabcdabcd"}, quiet)
    assert taken(record) == [EndStep(worker="A")] * 2
    assert record.result.texts["A"].count("abcdabcd\n\n") == 2


def test_wrong_options() -> None:
    for option, value in (("times", 1), ("length", 0), ("for_tokens", 0), ("window", 5)):
        with pytest.raises(ConfigError, match=f"{option}={value}"):
            LoopBreaker(**{option: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="temperature=-1"):
        LoopBreaker(temperature=-1)
    with pytest.raises(ConfigError, match="'words'"):
        LoopBreaker(unit="words")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no_such_prompt"):
        LoopBreaker(prompt="no_such_prompt")
