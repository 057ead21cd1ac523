"""Opening and closing: nothing waits for ever, nothing is left running, nobody sees the other."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from functools import partial

import anyio
import pytest

from hogwild_agents.coordinator import CacheCoordinator, Seat
from hogwild_agents.engine import CacheBlock
from hogwild_agents.errors import ClosedError, TickError, UsageError
from tests.coordinator.rig import (
    Ledger,
    WatchedEngine,
    engine_for,
    feed,
    once,
    think,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


async def test_closing_tells_seats_that_wait(engine: WatchedEngine) -> None:
    told: list[str] = []
    block = engine.block("a")

    async def waits() -> None:
        with pytest.raises(ClosedError, match="coordinator of seat 'Alice' is closed"):
            await alice.submit(feed(block, 1))
        told.append("Alice")

    async with anyio.create_task_group() as group:
        async with CacheCoordinator(engine) as coordinator:
            alice, bob = coordinator.join("Alice"), coordinator.join("Bob")
            group.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
        await until(lambda: bool(told))
    assert block.tokens == ()
    for seat in (alice, bob):
        with pytest.raises(ClosedError, match="is closed"):
            await seat.submit(feed(block, 1))
        seat.leave()
    with pytest.raises(ClosedError, match="make a new CacheCoordinator"):
        coordinator.join("Carol")
    assert not engine.closed


async def test_closing_cancels_what_runs_in_its_task_group(engine: WatchedEngine) -> None:
    ended: list[str] = []

    async def worker(seat: Seat) -> None:
        try:
            await think(seat, engine.block(seat.name), 10**6)
        except anyio.get_cancelled_exc_class():
            ended.append(seat.name)
            raise

    async def sleeper() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("sleeper")

    async with CacheCoordinator(engine) as coordinator:
        for name in "ab":
            coordinator.task_group.start_soon(worker, coordinator.join(name))
        coordinator.task_group.start_soon(sleeper)
        await until(lambda: len(engine.ticks) > 3)
    assert sorted(ended) == ["a", "b", "sleeper"]
    assert repr(coordinator).startswith("CacheCoordinator(closed, ")


async def test_a_shielded_submit_ends_too(engine: WatchedEngine) -> None:
    told: list[str] = []

    async def stubborn(seat: Seat) -> None:
        with anyio.CancelScope(shield=True), pytest.raises(ClosedError):
            await seat.submit(feed(engine.block(), 1))
        told.append(seat.name)

    async with CacheCoordinator(engine) as coordinator:
        coordinator.task_group.start_soon(stubborn, coordinator.join("a"))
        coordinator.join("never submits")
        await anyio.wait_all_tasks_blocked()
    assert told == ["a"]


async def test_closing_waits_for_the_forward_and_the_commit_is_told(engine: WatchedEngine) -> None:
    ledger = Ledger()
    block = engine.block("a")
    engine.gate.clear()
    opener = threading.Timer(0.05, engine.gate.set)
    async with CacheCoordinator(engine) as coordinator:
        seat = coordinator.join("a", on_commit=ledger)
        coordinator.task_group.start_soon(once, seat, feed(block, 1, 2))
        await until(lambda: engine.entered == 1)
        coordinator.release(spare := engine.block("spare"))
        opener.start()
    assert not engine.busy.locked()
    assert block.tokens == (1, 2) == ledger.text(block)
    assert not spare.alive


async def test_cancelling_from_outside_closes(engine: WatchedEngine) -> None:
    with anyio.move_on_after(0.05) as scope:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for name in "ab":
                group.start_soon(think, coordinator.join(name), engine.block(name), 10**6)
    assert scope.cancelled_caught
    with pytest.raises(ClosedError):
        coordinator.join("c")


async def test_an_error_of_the_body_comes_out_as_it_is(engine: WatchedEngine) -> None:
    async def body(error: Exception) -> None:
        async with CacheCoordinator(engine) as coordinator:
            seat = coordinator.join("a")
            coordinator.task_group.start_soon(think, seat, engine.block("a"), 10**6)
            before = len(engine.ticks)
            await until(lambda: len(engine.ticks) > before)
            raise error

    for error in (
        LookupError("lost"),
        ExceptionGroup("two", [LookupError("lost"), KeyError("key")]),
    ):
        with pytest.raises(type(error)) as caught:
            await body(error)
        assert caught.value is error


async def test_an_error_of_a_task_comes_out_as_a_group(engine: WatchedEngine) -> None:
    async def fails() -> None:
        raise LookupError("lost")

    async def body() -> None:
        async with CacheCoordinator(engine) as coordinator:
            coordinator.task_group.start_soon(fails)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await body()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


async def test_a_loop_that_dies_lets_nobody_wait(
    engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the loop itself: whoever waits is told, and the error comes out."""

    def broken(engine: WatchedEngine) -> int | None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(WatchedEngine, "free_tokens", property(broken))
    told: list[bool] = []

    async def waits(seat: Seat) -> None:
        with pytest.raises(ClosedError):
            await seat.submit(feed(engine.block(), 1))
        told.append(True)

    async def body() -> None:
        async with CacheCoordinator(engine) as coordinator:
            group.start_soon(waits, coordinator.join("Alice"))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        with pytest.raises(ExceptionGroup) as caught:
            await body()
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    assert told == [True]


async def test_a_loop_that_dies_is_told_to_a_body_that_cannot_be_cancelled(
    engine: WatchedEngine,
) -> None:
    class Fatal(BaseException):
        """No Exception, so it is not the seat's alone."""

    def view() -> list[CacheBlock]:
        raise Fatal

    async def body() -> None:
        async with CacheCoordinator(engine) as coordinator:
            seat = coordinator.join("a")
            with anyio.CancelScope(shield=True), pytest.raises(ClosedError):
                await seat.submit(feed(engine.block(), 1, view=view))

    with pytest.raises(BaseExceptionGroup) as caught:
        await body()
    assert [type(error) for error in caught.value.exceptions] == [Fatal]


async def test_closed_between_closing_a_tick_and_its_forward(engine: WatchedEngine) -> None:
    """Nothing of the tick happens, and what was to be released is."""
    block, spare = engine.block("a"), engine.block("spare")

    def view() -> list[CacheBlock]:
        coordinator.release(spare)
        coordinator.task_group.cancel_scope.cancel()
        return [block]

    async with CacheCoordinator(engine) as coordinator:
        with coordinator.join("a") as seat:
            await seat.submit(feed(block, 1, view=view))
    assert not spare.alive
    assert block.tokens == ()
    assert engine.ticks == []


async def test_two_coordinators_do_not_see_each_other(engine: WatchedEngine) -> None:
    with engine_for(twin=1) as second:
        engines = {"a": engine, "x": second}
        texts: dict[str, list[int]] = {}
        order: list[str] = []

        async def work(seat: Seat) -> None:
            block = engines[seat.name].block(seat.name)
            texts[seat.name] = await think(
                seat, block, 8, on_token=lambda token: order.append(seat.name)
            )

        async with (
            CacheCoordinator(engine) as one,
            CacheCoordinator(second) as two,
            anyio.create_task_group() as group,
        ):
            idle = one.join("holds up the first one")
            group.start_soon(work, one.join("a"))
            group.start_soon(work, two.join("x"))
            await until(lambda: two.statistics().ticks == 8)
            assert (one.statistics().ticks, one.statistics().seats) == (0, 2)
            idle.leave()
        assert texts["a"] == texts["x"]
        assert order == ["x"] * 8 + ["a"] * 8


async def test_one_failing_coordinator_leaves_the_other_alone(engine: WatchedEngine) -> None:
    with engine_for(twin=1) as second:
        async with CacheCoordinator(second) as two, anyio.create_task_group() as group:
            group.start_soon(think, two.join("x"), second.block("x"), 6)
            engine.failure = RuntimeError("broken")
            async with CacheCoordinator(engine) as one:
                with pytest.raises(TickError):
                    await once(one.join("a"), feed(engine.block("a"), 1))
        assert second.ticks == [["x"]] * 6


async def test_an_engine_outlives_its_coordinators(engine: WatchedEngine) -> None:
    block = engine.block("a")
    for _ in range(3):
        async with CacheCoordinator(engine) as coordinator:
            await think(coordinator.join("a"), block, 2)
    assert len(block) == 6


async def test_a_coordinator_is_entered_once(engine: WatchedEngine) -> None:
    coordinator = CacheCoordinator(engine)
    with pytest.raises(ClosedError, match="not open yet"):
        coordinator.join("a")
    with pytest.raises(ClosedError, match="not open yet"):
        _ = coordinator.task_group
    async with coordinator:
        with pytest.raises(UsageError, match="entered once"):
            async with coordinator:
                pass
        await think(coordinator.join("a"), engine.block(), 1)
    with pytest.raises(UsageError, match="entered once"):
        async with coordinator:
            pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_can_be_made_and_asked_outside_an_event_loop(backend: str) -> None:
    with engine_for() as engine:
        coordinator = CacheCoordinator(engine)
        assert coordinator.statistics().ticks == 0

        async def main() -> None:
            async with coordinator:
                await think(coordinator.join("a"), engine.block(), 2)

        anyio.run(main, backend=backend)
        assert coordinator.statistics().ticks == 2


def test_plain_asyncio_tasks_may_submit_and_be_cancelled() -> None:
    """Native cancellation knows no scopes, and may come after the result was handed over."""
    with engine_for() as engine:
        ledger = Ledger()
        blocks = {name: engine.block(name) for name in "abc"}

        async def doomed(seat: Seat) -> None:
            with seat:
                for token in range(10**6):
                    await seat.submit(feed(blocks[seat.name], token % 61))

        async def main() -> None:
            async with CacheCoordinator(engine) as coordinator:
                seats = {name: coordinator.join(name, on_commit=ledger) for name in "abc"}
                tasks = [asyncio.create_task(doomed(seats[name])) for name in "ab"]
                steady = asyncio.create_task(think(seats["c"], blocks["c"], 30))
                for turn, task in enumerate(tasks):
                    await until(partial(lambda count: len(engine.ticks) >= count, 5 * turn + 5))
                    task.cancel()
                assert len(await steady) == 30
                found = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(error, asyncio.CancelledError) for error in found)

        asyncio.run(asyncio.wait_for(main(), 10))
        for block in blocks.values():
            assert ledger.text(block) == block.tokens


def test_plain_asyncio_cancellation_at_the_very_moment_of_waking() -> None:
    with engine_for() as engine:

        async def main() -> None:
            async with CacheCoordinator(engine) as coordinator:
                alice, bob = coordinator.join("a"), coordinator.join("b")
                a = asyncio.create_task(once(alice, feed(engine.block("a"), 1)))

                def cancel_when_done() -> None:
                    if engine.ticks and alice._request is None:
                        a.cancel()
                    elif not a.done():
                        asyncio.get_running_loop().call_soon(cancel_when_done)

                cancel_when_done()
                await think(bob, engine.block("b"), 3)
                await asyncio.wait([a])

        asyncio.run(asyncio.wait_for(main(), 10))
        assert engine.ticks[-1] == ["b"]


async def test_a_seat_that_has_left_is_forgotten(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        seat = coordinator.join("a")
        forgotten = weakref.ref(seat)
        await think(seat, engine.block(), 2)
        del seat
        await once(coordinator.join("b"), feed(engine.block(), 1))
        gc.collect()
        assert forgotten() is None
