"""Who is cancelled, fails or leaves harms nobody else, and the cache and the commits agree."""

from __future__ import annotations

import anyio
import pytest

from hogwild_agents.coordinator import CacheCoordinator, Move, Seat
from tests.coordinator.rig import Ledger, WatchedEngine, feed, greedy, once, think, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


async def test_cancelled_before_its_tick_a_request_is_withdrawn(engine: WatchedEngine) -> None:
    a, b, history = (engine.block(name) for name in ("a", "b", "history"))
    await_cancelled: list[bool] = []
    async with CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def doomed() -> None:
                with scope, alice:
                    try:
                        await alice.submit(feed(a, 1, 2, 3), then=[Move(source=b, target=history)])
                    except anyio.get_cancelled_exc_class():
                        await_cancelled.append(True)
                        raise

            group.start_soon(doomed)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await think(bob, b, 2)
    assert await_cancelled == [True], "cancellation is passed on"
    assert engine.ticks == [["b"], ["b"]]
    assert (len(a), len(b), len(history)) == (0, 2, 0)


async def test_cancelled_during_the_forward_its_tokens_are_in_the_cache(
    engine: WatchedEngine,
) -> None:
    a, b, history = (engine.block(name) for name in ("a", "b", "history"))
    ledger = Ledger()
    engine.gate.clear()
    texts: list[list[int]] = []
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = (coordinator.join(name, on_commit=ledger) for name in "ab")
        scope = anyio.CancelScope()

        async def doomed() -> None:
            with scope, alice:
                await alice.submit(
                    feed(a, 1, 2, 3, sampler=greedy()), then=[Move(source=a, target=history)]
                )
                pytest.fail("the result should have been dropped")

        async def steady() -> None:
            texts.append(await think(bob, b, 3))

        group.start_soon(doomed)
        group.start_soon(steady)
        await until(lambda: engine.entered == 1)
        scope.cancel()
        # The cancelled worker does not wait for the forward.
        await until(lambda: coordinator.statistics().seats == 1)
        assert engine.entered == 1
        engine.gate.set()
    assert engine.ticks == [["a", "b"], ["b"], ["b"]]
    assert history.tokens == (1, 2, 3)
    assert len(b) == 3
    for block in (a, b, history):
        assert ledger.text(block) == block.tokens


async def test_a_cancelled_seat_that_cleans_up_slowly_holds_nobody_up(
    engine: WatchedEngine,
) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        done, scope = anyio.Event(), anyio.CancelScope()

        async def slow_to_leave() -> None:
            with scope, alice:
                try:
                    await alice.submit(feed(a, 1))
                finally:
                    with anyio.CancelScope(shield=True):
                        await done.wait()

        group.start_soon(slow_to_leave)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await think(bob, b, 2)
        assert coordinator.statistics().seats == 1
        done.set()
    assert engine.ticks == [["b"], ["b"]]


async def test_a_seat_outlives_a_submit_that_timed_out(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        with anyio.move_on_after(0.02) as scope:
            await alice.submit(feed(a, 1))
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(think, bob, b, 2)
            await until(lambda: len(engine.ticks) == 2)
        async with anyio.create_task_group() as group:
            carol = coordinator.join("c")
            group.start_soon(think, carol, b, 2)
            await think(alice, a, 2)
    assert engine.ticks == [["b"], ["b"], ["a", "b"], ["a", "b"]]


async def test_resubmitting_while_the_cancelled_request_computes(engine: WatchedEngine) -> None:
    a = engine.block("a")
    engine.gate.clear()
    ledger = Ledger()
    async with CacheCoordinator(engine) as coordinator:
        alice = coordinator.join("a", on_commit=ledger)
        with anyio.move_on_after(1e6) as scope:
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    await until(lambda: engine.entered == 1)
                    scope.cancel()

                group.start_soon(cancel)
                await alice.submit(feed(a, 1))
        async with anyio.create_task_group() as group:
            group.start_soon(once, alice, feed(a, 2, sampler=greedy()))
            await anyio.wait_all_tasks_blocked()
            engine.gate.set()
    assert a.tokens == (1, 2) == ledger.text(a)
    assert engine.ticks == [["a"], ["a"]]


async def test_cancelled_between_two_chunks(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    ledger = Ledger()
    async with CacheCoordinator(engine, prefill_chunk=2) as coordinator:
        alice, bob = (coordinator.join(name, on_commit=ledger) for name in "ab")
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def doomed() -> None:
                with scope:
                    await once(alice, feed(a, *range(9)), then=[Move(source=a, target=b)])

            group.start_soon(doomed)
            with bob:
                for token in range(5):
                    await bob.submit(feed(b, token))
                    if token == 1:
                        scope.cancel()
    assert a.tokens == (0, 1, 2, 3) == ledger.text(a)
    assert b.tokens == (0, 1, 2, 3, 4) == ledger.text(b)


async def test_a_submit_in_a_cancelled_scope_hands_nothing_in(engine: WatchedEngine) -> None:
    a = engine.block("a")
    async with CacheCoordinator(engine) as coordinator:
        with coordinator.join("a") as seat:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await seat.submit(feed(a, 1))
            assert scope.cancelled_caught
            assert "thinking" in repr(seat)
    assert engine.ticks == []


async def test_cancelled_while_parked_a_seat_holds_nobody_up(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        with anyio.move_on_after(0.01), alice.parked():
            await anyio.sleep_forever()
        await think(bob, b, 2)
        await think(alice, a, 1)
    assert engine.ticks == [["b"], ["b"], ["a"]]


async def test_a_tool_that_fails_while_parked_leaves_the_seat_at_the_table(
    engine: WatchedEngine,
) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        with pytest.raises(OSError, match="no such tool"), alice.parked():
            raise OSError("no such tool")
        async with anyio.create_task_group() as group:
            group.start_soon(think, bob, b, 1)
            await anyio.wait_all_tasks_blocked()
            assert engine.ticks == []
            group.start_soon(think, alice, a, 1)
    assert engine.ticks == [["a", "b"]]


async def test_a_worker_that_raises_leaves_the_others_alone(engine: WatchedEngine) -> None:
    async def work(seat: Seat) -> None:
        block = engine.block(seat.name)
        with seat:
            for token in range(4):
                await seat.submit(feed(block, token))
                if seat.name == "b" and token == 1:
                    raise LookupError("lost the thread")

    async def guarded(seat: Seat) -> None:
        try:
            await work(seat)
        except LookupError:
            failed.append(seat.name)

    failed: list[str] = []
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        for seat in [coordinator.join(name) for name in "abc"]:
            group.start_soon(guarded, seat)
    assert failed == ["b"]
    assert engine.ticks == [["a", "b", "c"]] * 2 + [["a", "c"]] * 2


async def test_of_many_only_the_cancelled_notice(engine: WatchedEngine) -> None:
    """The same three workers, alone and beside three that are cancelled: the same tokens."""

    async def texts(*, doomed: bool) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}

        async def steady(seat: Seat) -> None:
            block = engine.block(seat.name)
            found[seat.name] = await think(seat, block, 12, start=[ord(seat.name) % 61])

        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(steady, coordinator.join(name))
            if doomed:
                async with anyio.create_task_group() as inner:
                    for name in "xyz":
                        inner.start_soon(think, coordinator.join(name), engine.block(name), 99)
                    await until(lambda: len(engine.ticks) > 4)
                    inner.cancel_scope.cancel()
        return found

    assert await texts(doomed=True) == await texts(doomed=False)
