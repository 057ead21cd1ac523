"""Patience: a tick may go without stragglers."""

from __future__ import annotations

import anyio
import pytest

from hogwild_agents.coordinator import CacheCoordinator, Seat
from tests.coordinator.rig import WatchedEngine, feed, once, think, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


async def test_without_patience_a_tick_waits_for_ever(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        coordinator.join("straggler")
        with anyio.move_on_after(0.1) as scope:
            await once(coordinator.join("a"), feed(engine.block("a"), 1))
        assert scope.cancelled_caught
        assert coordinator.statistics().thinking == ("straggler",)
    assert engine.ticks == []


async def test_a_straggler_is_waited_for_once(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine, patience=0.2) as coordinator:
        coordinator.join("straggler")
        started = anyio.current_time()
        await think(coordinator.join("a"), engine.block("a"), 12)
        waited = anyio.current_time() - started
    assert 0.2 <= waited < 0.2 * 6, "later ticks don't wait for it again"
    assert engine.ticks == [["a"]] * 12


async def test_a_straggler_that_submits_is_waited_for_again(engine: WatchedEngine) -> None:
    b = engine.block("b")
    async with (
        CacheCoordinator(engine, patience=0.1) as coordinator,
        anyio.create_task_group() as group,
    ):
        fast, slow = coordinator.join("a"), coordinator.join("b")
        group.start_soon(think, fast, engine.block("a"), 10**6)
        await until(lambda: len(engine.ticks) > 3)
        for token in range(3):
            await slow.submit(feed(b, token))
        together = [tick for tick in engine.ticks if "b" in tick]
        assert together == [["a", "b"]] * 3
        first = engine.ticks.index(["a", "b"])
        assert engine.ticks[first : first + 3] == together
        group.cancel_scope.cancel()


async def test_a_woken_seat_that_does_not_settle_delays_the_next_by_patience_only(
    engine: WatchedEngine,
) -> None:
    woken: list[str] = []
    release = anyio.Event()

    async def stuck(seat: Seat) -> None:
        with seat:
            await seat.submit(feed(engine.block("a"), 1))
            woken.append(seat.name)
            await release.wait()

    async with (
        CacheCoordinator(engine, patience=0.05) as coordinator,
        anyio.create_task_group() as group,
    ):
        group.start_soon(stuck, coordinator.join("a"))
        await think(coordinator.join("b"), engine.block("b"), 3)
        assert woken == ["a"]
        release.set()
    assert engine.ticks == [["a", "b"], ["b"], ["b"]]


async def test_coming_back_from_parking_begins_the_patience_anew(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine, patience=0.15) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        with alice.parked():
            await anyio.sleep(0.3)
        async with anyio.create_task_group() as group:
            group.start_soon(think, bob, engine.block("b"), 1)
            await anyio.sleep(0.02)
            await think(alice, engine.block("a"), 1)
    assert engine.ticks == [["a", "b"]]
