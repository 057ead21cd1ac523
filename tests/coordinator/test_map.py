"""coordinator.map: in order, lazily, at most so many at once, and nothing outlives the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings, strategies as st

from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.errors import ClosedError, ConfigError
from tests.coordinator.rig import WatchedEngine, engine_for, run_async, think, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


class Work:
    """Work whose items tell how many turns of the event loop they take; it notes what happens.

    Attributes:
        read: how many items were taken from :meth:`items`.
        running: the items under way.
        most: the largest number of them.
        done: the items that were finished.
        cancelled: the items that were cancelled.
    """

    def __init__(self, turns: list[int], fails: frozenset[int] = frozenset()) -> None:
        self.turns = turns
        self.fails = fails
        self.read = 0
        self.running: list[int] = []
        self.most = 0
        self.done: list[int] = []
        self.cancelled: list[int] = []

    def items(self) -> Iterator[int]:
        for item in range(len(self.turns)):
            self.read += 1
            yield item

    async def async_items(self) -> AsyncIterator[int]:
        for item in self.items():
            await checkpoint()
            yield item

    async def __call__(self, item: int) -> int:
        self.running.append(item)
        self.most = max(self.most, len(self.running))
        try:
            for _ in range(self.turns[item]):
                await checkpoint()
            if item in self.fails:
                raise LookupError(item)
            self.done.append(item)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(item)
            raise
        finally:
            self.running.remove(item)
        return 10 * item


async def collect(results: AsyncGenerator[int, None], into: list[int]) -> None:
    async for result in results:
        into.append(result)


@settings(max_examples=60)
@given(
    turns=st.lists(st.integers(0, 12), max_size=14),
    fails=st.frozensets(st.integers(0, 20), max_size=2),
    limit=st.integers(1, 5),
    leave_after=st.one_of(st.none(), st.integers(1, 10)),
    is_async=st.booleans(),
    pause=st.integers(0, 3),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_whatever_takes_how_long_results_come_in_order(
    turns: list[int],
    fails: frozenset[int],
    limit: int,
    leave_after: int | None,
    is_async: bool,
    pause: int,
    backend: str,
) -> None:
    work = Work(turns, fails)
    got: list[int] = []

    async def main() -> None:
        async with CacheCoordinator(engine) as coordinator:
            items: Any = work.async_items() if is_async else work.items()
            async with aclosing(coordinator.map(work, items, limit=limit)) as results:
                async for result in results:
                    got.append(result)
                    assert work.read < len(got) + 2 * limit
                    for _ in range(pause):
                        await checkpoint()
                    if len(got) == leave_after:
                        break
            assert not work.running, "nothing outlives the loop"
            assert coordinator.statistics().seats == 0

    with engine_for() as engine:
        first = min((item for item in fails if item < len(turns)), default=None)
        wanted = len(turns) if first is None else first
        if first is not None and (leave_after is None or leave_after > wanted):
            with pytest.raises(LookupError, match=str(first)):
                run_async(backend, main)
        else:
            run_async(backend, main)
    count = wanted if leave_after is None else min(wanted, leave_after)
    assert got == [10 * item for item in range(count)]
    assert work.most <= limit
    if first is not None:
        assert set(range(first)) - set(work.done) == set() or count < wanted


async def test_no_more_than_limit_are_under_way_and_all_of_them_are(engine: WatchedEngine) -> None:
    work = Work([20] * 10)
    async with CacheCoordinator(engine) as coordinator:
        assert [result async for result in coordinator.map(work, work.items(), limit=3)]
    assert work.most == 3


async def test_a_slow_item_holds_up_the_results_but_not_the_work(engine: WatchedEngine) -> None:
    work = Work([200, *[0] * 20])
    async with CacheCoordinator(engine) as coordinator:
        results = coordinator.map(work, work.items(), limit=3)
        async with aclosing(results):
            assert await anext(results) == 0
            assert 4 <= len(work.done) <= 5, "three results waited, so nothing more began"
            assert sorted(work.done) == list(range(work.read))


async def test_work_goes_on_while_the_body_runs_and_items_are_read_when_needed(
    engine: WatchedEngine,
) -> None:
    work = Work([0] * 50)
    async with CacheCoordinator(engine) as coordinator:
        results = coordinator.map(work, work.items(), limit=2)
        assert work.read == 0, "nothing is read before the first result is asked for"
        async with aclosing(results):
            assert await anext(results) == 0
            await anyio.wait_all_tasks_blocked()
            assert sorted(work.done) == list(range(work.read))
            assert 3 <= work.read <= 4
            assert await anext(results) == 10
            await anyio.wait_all_tasks_blocked()
            assert 4 <= work.read <= 5


async def test_items_may_come_in_their_own_time_and_without_end(engine: WatchedEngine) -> None:
    closed: list[bool] = []

    async def questions() -> AsyncIterator[int]:
        try:
            with anyio.CancelScope():  # the reading stays in one task, so this is allowed
                while True:
                    await anyio.sleep(0.001)
                    yield 0
        finally:
            closed.append(True)

    work = Work([3])
    got = 0
    async with CacheCoordinator(engine) as coordinator:
        async with aclosing(coordinator.map(work, questions(), limit=4)) as results:
            async for _ in results:
                got += 1
                if got == 6:
                    break
        assert closed == [True]


async def test_an_error_of_the_items_comes_in_its_turn(engine: WatchedEngine) -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("the list is torn")

    work, got = Work([9, 5]), list[int]()
    async with CacheCoordinator(engine) as coordinator:
        with pytest.raises(OSError, match="torn"):
            await collect(coordinator.map(work, items(), limit=4), got)
    assert got == [0, 10]


async def test_when_one_fails_those_after_it_are_cancelled_and_those_before_are_not(
    engine: WatchedEngine,
) -> None:
    work, got = Work([50, 3, 10**9, 10**9], frozenset({1})), list[int]()
    async with CacheCoordinator(engine) as coordinator:
        with pytest.raises(LookupError, match="1"):
            await collect(coordinator.map(work, work.items(), limit=4), got)
        assert sorted(work.cancelled) == [2, 3]
        assert not work.running
    assert got == [0]


async def test_work_that_is_no_coroutine_function_fails_its_item(engine: WatchedEngine) -> None:
    def refuses(item: int) -> Any:
        raise ValueError(f"no item {item}")

    async with CacheCoordinator(engine) as coordinator:
        with pytest.raises(ValueError, match="no item 0"):
            await anext(coordinator.map(refuses, [0, 1]))


async def test_cancelled_from_outside_everything_ends_before_the_loop_does(
    engine: WatchedEngine,
) -> None:
    work = Work([0, *[10**9] * 5])
    async with CacheCoordinator(engine) as coordinator:
        with anyio.move_on_after(0.05) as scope:
            async with aclosing(coordinator.map(work, work.items(), limit=3)) as results:
                async for _ in results:
                    pass
        assert scope.cancelled_caught
        assert len(work.cancelled) == 3
        assert not work.running


async def test_an_error_in_the_body_cancels_the_rest(engine: WatchedEngine) -> None:
    work = Work([0, *[10**9] * 5])

    async def body(results: AsyncGenerator[int, None]) -> None:
        async with aclosing(results):
            async for _ in results:
                raise RuntimeError("the body")

    async with CacheCoordinator(engine) as coordinator:
        with pytest.raises(RuntimeError, match="the body"):
            await body(coordinator.map(work, work.items(), limit=3))
        assert not work.running
    assert work.done == [0]


async def test_left_without_aclosing_all_ends_with_the_coordinator(engine: WatchedEngine) -> None:
    work = Work([0, *[10**9] * 5])
    async with CacheCoordinator(engine) as coordinator:
        results = coordinator.map(work, work.items(), limit=3)
        async for _ in results:
            break
        assert work.running
    assert not work.running
    await results.aclose()


@pytest.mark.parametrize("shielded", [True, False])
async def test_a_coordinator_that_closes_ends_a_loop_elsewhere(
    engine: WatchedEngine, shielded: bool
) -> None:
    work = Work([0, 10**9])
    told: list[bool] = []
    got: list[int] = []

    async def loop() -> None:
        with anyio.CancelScope(shield=shielded), pytest.raises(ClosedError, match="map"):
            await collect(coordinator.map(work, work.items(), limit=2), got)
        told.append(True)

    async with anyio.create_task_group() as group, CacheCoordinator(engine) as coordinator:
        group.start_soon(loop)
        await until(lambda: bool(got))
    assert told == [True]
    assert not work.running
    with pytest.raises(ClosedError, match="closed"):
        coordinator.map(work, [1])


async def test_it_is_refused_where_it_could_not_run(engine: WatchedEngine) -> None:
    work = Work([0])
    coordinator = CacheCoordinator(engine)
    with pytest.raises(ClosedError, match="not open yet"):
        coordinator.map(work, [0])
    async with coordinator:
        limits: tuple[Any, ...] = (0, 1.5, True, "8", None)
        for limit in limits:
            with pytest.raises(
                ConfigError, match=f"limit is {limit!r}, but must be a whole number"
            ):
                coordinator.map(work, [0], limit=limit)
        late = coordinator.map(work, [0])
    with pytest.raises(ClosedError, match="closed"):
        await anext(late)
    assert work.done == []


async def test_the_work_shares_ticks(engine: WatchedEngine) -> None:
    async def solve(start: int) -> list[int]:
        block = engine.block(f"{start}")
        try:
            return await think(coordinator.join(f"{start}"), block, 4 + start % 3, start=[start])
        finally:
            coordinator.release(block)

    async with CacheCoordinator(engine) as coordinator:
        alone = [await solve(start) for start in range(9)]
        engine.ticks.clear()
        together = [text async for text in coordinator.map(solve, range(9), limit=4)]
    assert together == alone
    assert max(map(len, engine.ticks)) == 4
    assert engine.used_tokens == 0


@pytest.mark.parametrize("drops", [True, False])
def test_a_plain_asyncio_task_may_be_cancelled_in_the_loop_or_drop_the_generator(
    drops: bool,
) -> None:
    work = Work([0, *[10**9] * 5])

    async def loop(coordinator: CacheCoordinator) -> None:
        async for _ in coordinator.map(work, work.items(), limit=3):
            if drops:
                return  # the event loop closes the generator, in a task of its own

    async def main() -> None:
        async with CacheCoordinator(engine) as coordinator:
            task = asyncio.create_task(loop(coordinator))
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.wait([task])
            await until(lambda: not work.running)

    with engine_for() as engine:
        asyncio.run(asyncio.wait_for(main(), 10))
