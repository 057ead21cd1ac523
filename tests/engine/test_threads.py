"""OpenMP's threads are given back by whoever has them and computes no more."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
import torch

from hogwild_agents import CacheCoordinator, TickFeed
from hogwild_agents.engine import Engine, Feed, threads
from hogwild_agents.engine.threads import limited
from tests.engine.families import EVERY

TASKS = Path("/proc/self/task")

pytestmark = pytest.mark.skipif(
    not TASKS.exists() or threads._pause() is None, reason="counts GCC's threads on Linux"
)


def count() -> int:
    """How many threads the system knows of this process."""
    return len(os.listdir(TASKS))


def becomes(expected: int) -> bool:
    """Whether there are so many: one that ends is counted for a moment still."""
    end = time.monotonic() + 10
    while count() != expected and time.monotonic() < end:
        time.sleep(0.001)
    return count() == expected


def compute() -> None:
    """Use two threads."""
    torch.ones(1 << 20).sqrt_()


def test_threads_that_are_given_back_are_gone_and_come_again() -> None:
    with limited(2):
        compute()
        before = count()
        threads.give_back()
        assert becomes(before - 1)
        threads.give_back()
        assert becomes(before - 1)
        compute()
        assert becomes(before)


def test_where_libraries_cannot_be_had_as_one_torch_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(name: None) -> None:
        raise TypeError("bad argument type for built-in operation")  # as on Windows

    found = threads._loaded, threads._pause, threads._together
    with limited(2), monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", none)
        for one in found:
            one.cache_clear()
        assert not threads.available()
        threads.give_back()
    for one in found:
        one.cache_clear()
    assert threads.available()


def test_a_tick_finds_none_of_the_event_loops_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before, found = list[int](), list[bool]()
    with limited(2), Engine(EVERY["llama"].build()) as engine:
        forward = engine.forward

        def watched(feeds: Sequence[Feed]) -> torch.Tensor:
            if len(before) > 1:  # the worker thread is there by now
                found.append(becomes(before[-1] - 1))
            return forward(feeds)

        monkeypatch.setattr(engine, "forward", watched)

        async def think() -> None:
            async with CacheCoordinator(engine) as coordinator:
                block = engine.block()
                with coordinator.join("Alice") as seat:
                    for token in range(1, 5):
                        compute()
                        before.append(count())
                        await seat.submit(TickFeed(block=block, tokens=[token], view=[block]))

        anyio.run(think)
    assert found == [True] * 3
