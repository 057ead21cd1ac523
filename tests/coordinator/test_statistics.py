"""What statistics() says."""

from __future__ import annotations

import anyio
import pytest

from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.errors import TickError
from hogwild_agents.statistics import Meter
from tests.coordinator.rig import WatchedEngine, engine_for, feed, once, think, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


async def test_an_unused_coordinator_has_done_nothing(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        statistics = coordinator.statistics()
    assert (statistics.ticks, statistics.tokens, statistics.seconds) == (0, 0, 0)
    assert (statistics.tokens_per_second, statistics.batch_mean, statistics.batch_max) == (0, 0, 0)
    assert (statistics.waiting_mean, statistics.waiting_max) == (0, 0)
    assert statistics.cache_budget is None


async def test_it_counts_ticks_tokens_batches_and_the_cache() -> None:
    with engine_for(max_tokens=100) as engine:
        async with CacheCoordinator(engine) as coordinator:
            await once(coordinator.join("prompt"), feed(engine.block("prompt"), *range(10)))
            async with anyio.create_task_group() as group:
                for name, count in (("a", 2), ("b", 5)):
                    group.start_soon(think, coordinator.join(name), engine.block(name), count)
            statistics = coordinator.statistics()
    assert statistics.ticks == 6
    assert statistics.tokens == 17 == statistics.cache_used
    assert statistics.sampled == 7
    assert statistics.cache_budget == 100
    assert statistics.batch_sizes == {1: 4, 2: 2}
    assert statistics.batch_mean == pytest.approx(8 / 6)
    assert statistics.batch_max == 2
    assert statistics.seconds > 0
    assert statistics.tokens_per_second == pytest.approx(7 / statistics.seconds)


async def test_it_says_who_waits_and_for_whom(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob, carol = (coordinator.join(name) for name in ("Alice", "Bob", "Carol"))
        group.start_soon(think, alice, engine.block("a"), 1)
        with carol.parked():
            await anyio.wait_all_tasks_blocked()
            statistics = coordinator.statistics()
            assert (statistics.seats, statistics.parked, statistics.ticks) == (3, 1, 0)
            assert statistics.thinking == ("Bob",)
            await anyio.sleep(0.05)
            bob.leave()
            await until(lambda: coordinator.statistics().seats == 1)
        statistics = coordinator.statistics()
        assert (statistics.seats, statistics.parked) == (1, 0)
        assert statistics.thinking == ("Carol",)
        assert statistics.waiting_max >= 0.05
        assert statistics.waiting_mean == statistics.waiting_max


async def test_a_failed_tick_counts_as_none(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        engine.failure = RuntimeError("broken")
        with pytest.raises(TickError, match="tick 1 failed"):
            await once(coordinator.join("a"), feed(engine.block(), 1))
        assert coordinator.statistics().ticks == 0


def test_a_snapshot_does_not_change() -> None:
    meter = Meter()
    meter.ticked(feeds=2, tokens=3, sampled=2, seconds=0.5)
    first = meter.read(
        cache_used=0,
        cache_budget=None,
        seats=0,
        parked=0,
        thinking=(),
        guessed=0,
        misguessed=0,
    )
    meter.ticked(feeds=4, tokens=4, sampled=4, seconds=0.5)
    assert first.batch_sizes == {2: 1}
    assert first.tokens_per_second == 4
