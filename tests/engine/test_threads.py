"""OpenMP's threads are given back by whoever has them and computes no more."""

from __future__ import annotations

import ctypes
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


def there() -> set[str]:
    """Which threads the system knows of this process."""
    return {*os.listdir(TASKS)}


def are_gone(some: set[str]) -> bool:
    """Whether threads are gone: one that ends is there for a moment still."""
    end = time.monotonic() + 10
    while some & there() and time.monotonic() < end:
        time.sleep(0.001)
    return not some & there()


def compute() -> set[str]:
    """Use two threads; return which ones are new. (Others may come and go in other tests' wake.)"""
    threads.give_back()
    before = there()
    torch.ones(1 << 20).sqrt_()
    return there() - before


def test_threads_that_are_given_back_are_gone_and_come_again() -> None:
    with limited(2):
        found = compute()
        assert found
        threads.give_back()
        assert are_gone(found)
        threads.give_back()
        assert compute()


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


def test_openmp_is_found_through_torch_where_the_process_does_not_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with torch for Linux on ARM."""
    load, found = ctypes.CDLL, (threads._loaded, threads._together)
    known = ctypes.cast(threads._together(), ctypes.c_void_p).value
    with limited(2), monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", lambda name: object() if name is None else load(name))
        for one in found:
            one.cache_clear()
        assert threads.available()
        assert ctypes.cast(threads._together(), ctypes.c_void_p).value == known
    for one in found:
        one.cache_clear()


def test_a_tick_finds_none_of_the_event_loops_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before, found = list[set[str]](), list[bool]()
    with limited(2), Engine(EVERY["llama"].build()) as engine:
        forward = engine.forward

        def watched(feeds: Sequence[Feed]) -> torch.Tensor:
            if len(before) > 1:  # the worker thread is there by now
                found.append(bool(before[-1]) and are_gone(before[-1]))
            return forward(feeds)

        monkeypatch.setattr(engine, "forward", watched)

        async def think() -> None:
            async with CacheCoordinator(engine) as coordinator:
                block = engine.block()
                with coordinator.join("Alice") as seat:
                    for token in range(1, 5):
                        before.append(compute())
                        await seat.submit(TickFeed(block=block, tokens=[token], view=[block]))

        anyio.run(think)
    assert found == [True] * 3
