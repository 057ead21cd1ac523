"""Forks that a submit asks for: exact copies, made in their place among the moves, never lost."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import anyio
import pytest
import torch
from hypothesis import given, settings, strategies as st

from hogwild_agents.coordinator import CacheCoordinator, Commit, Fork, Forked, Move, Seat
from hogwild_agents.engine import Sampler, SamplingParams
from hogwild_agents.errors import CacheFullError, ClosedError, FeedError, TickError
from tests.coordinator.rig import (
    VOCAB,
    Ledger,
    WatchedEngine,
    engine_for,
    feed,
    keys_of,
    once,
    run_async,
    think,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


def names(engine: WatchedEngine) -> list[str]:
    """The names of all blocks that live."""
    return sorted(block.name for block in engine._cache.blocks.values())


async def test_a_fork_is_the_block_as_it_is_after_the_tick(engine: WatchedEngine) -> None:
    a, prompt = engine.block("a"), engine.block("prompt")
    async with CacheCoordinator(engine) as coordinator:
        await once(coordinator.join("prompt"), feed(prompt, *range(9)))
        with coordinator.join("a") as seat:
            result = await seat.submit(
                feed(a, 1, 2, 3, view=[prompt, a]), then=[Fork(source=a, name="twin")]
            )
            (twin,) = result.forked
            assert (twin.name, twin.tokens) == ("twin", (1, 2, 3))
            assert torch.equal(keys_of(engine, twin), keys_of(engine, a))
        texts = [
            await think(coordinator.join("x"), block, 8, start=[5], view=[prompt, block])
            for block in (a, twin)
        ]
    assert texts[0] == texts[1]
    assert a.tokens == twin.tokens


async def test_forks_without_a_feed_and_without_a_name(engine: WatchedEngine) -> None:
    a = engine.block("a")
    ledger = Ledger()
    async with CacheCoordinator(engine) as coordinator:
        with coordinator.join("a", on_commit=ledger) as seat:
            await seat.submit(feed(a, 1, 2))
            result = await seat.submit(then=[Fork(source=a), Fork(source=a, name="b")])
    assert [block.name for block in result.forked] == ["a", "b"]
    assert result.tick == ledger.commits[1].tick == 1
    assert ledger.commits[1].forks == tuple(
        Forked(source=a, target=block, length=2, after=0) for block in result.forked
    )
    for block in (a, *result.forked):
        assert ledger.text(block) == block.tokens == (1, 2)


OPS = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=30)
@given(drawn=st.lists(OPS, min_size=1, max_size=3))
def test_moves_and_forks_are_made_in_their_order_seat_by_seat(
    backend: str, drawn: list[list[tuple[bool, int, int]]]
) -> None:
    """The same operations on plain lists come to the same texts; the commits tell the same."""

    async def main() -> None:
        shared = [engine.block(f"{number}") for number in range(4)]
        texts = [[number] * (number + 1) for number in range(4)]
        ledger = Ledger()
        forked: dict[int, tuple[list[int], ...]] = {}
        ops: list[list[Move | Fork]] = []
        for seat_number, drawn_ops in enumerate(drawn):
            copies, seat_ops = [], list[Move | Fork]()
            for is_fork, source, target in drawn_ops:
                if is_fork:
                    copies.append(list(texts[source]))
                    seat_ops.append(Fork(source=shared[source], name="twin"))
                elif source != target:
                    texts[target] += texts[source]
                    texts[source] = []
                    seat_ops.append(Move(source=shared[source], target=shared[target]))
            forked[seat_number] = tuple(copies)
            ops.append(seat_ops)

        async def work(number: int, seat: Seat) -> None:
            result = await once(seat, then=ops[number])
            assert [list(block.tokens) for block in result.forked] == list(forked[number])
            for block in result.forked:
                assert ledger.text(block) == block.tokens

        async with CacheCoordinator(engine) as coordinator:
            start = [feed(block, *texts_) for block, texts_ in zip(shared, before, strict=True)]
            await once(coordinator.join("first", on_commit=ledger), *start)
            async with anyio.create_task_group() as group:
                seats = [coordinator.join(f"{n}", on_commit=ledger) for n in range(len(drawn))]
                for number, seat in enumerate(seats):
                    group.start_soon(work, number, seat)
        for block, text in zip(shared, texts, strict=True):
            assert list(block.tokens) == text
            assert ledger.text(block) == block.tokens
        told = [len(commit.ops) for commit in ledger.commits[1:]]
        assert told == [len(seat_ops) for seat_ops in ops if seat_ops]

    before = [[number] * (number + 1) for number in range(4)]
    with engine_for() as engine:
        run_async(backend, main)


async def test_a_fork_without_room_fails_its_seat_alone() -> None:
    with engine_for(max_tokens=20) as engine:
        a, b = engine.block("a"), engine.block("b")
        ledger = Ledger()
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            alice, bob = (coordinator.join(name, on_commit=ledger) for name in "ab")
            group.start_soon(think, bob, b, 4)
            with pytest.raises(CacheFullError, match="budget"):
                await once(
                    alice,
                    feed(a, *range(7)),
                    then=[Fork(source=a, name="one"), Fork(source=a, name="two")],
                )
        assert names(engine) == ["a", "b"], "the first fork is given back too"
        assert engine.used_tokens == len(a) + len(b) == 11
        assert not any(commit.forks for commit in ledger.commits)
        for block in (a, b):
            assert ledger.text(block) == block.tokens


async def test_the_room_of_a_failed_fork_is_the_next_seats(engine: WatchedEngine) -> None:
    with engine_for("llama", max_tokens=16) as engine:
        a, b = engine.block("a"), engine.block("b")
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            alice, bob = coordinator.join("a"), coordinator.join("b")

            async def greedy_one() -> None:
                with pytest.raises(CacheFullError):
                    await once(alice, feed(a, *range(4)), then=[Fork(source=a)] * 3)

            group.start_soon(greedy_one)
            result = await once(bob, feed(b, 1, 2, 3, 4), then=[Fork(source=b)])
        assert result.forked[0].tokens == (1, 2, 3, 4)


async def test_malformed_forks_fail_alone(engine: WatchedEngine) -> None:
    a, b, dead = (engine.block(name) for name in ("a", "b", "dead"))
    engine.free(dead)
    with engine_for(twin=1) as foreign:
        for source, kind in ((dead, ClosedError), (foreign.block("x"), FeedError)):
            async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
                alice, bob = coordinator.join("a"), coordinator.join("b")
                group.start_soon(think, bob, b, 2)
                with pytest.raises(kind):
                    await once(alice, then=[Fork(source=a), Fork(source=source)])
            assert names(engine) == ["a", "b"]


async def test_a_request_that_failed_forks_nothing(engine: WatchedEngine) -> None:
    a = engine.block("a")
    fork = Fork(source=a)
    commits: list[Commit] = []

    def broken(commit: Commit) -> None:
        commits.append(commit)
        raise RuntimeError("cannot write")

    async with CacheCoordinator(engine) as coordinator:
        with pytest.raises(FeedError):
            await once(coordinator.join("a"), feed(a, VOCAB), then=[fork])
        engine.failure = MemoryError()
        with pytest.raises(TickError):
            await once(coordinator.join("a"), feed(a, 1), then=[fork])
        nothing_left = Sampler(SamplingParams(bias={VOCAB + 3: 1.0}))
        with pytest.raises(TickError, match="No token could be sampled"):
            await once(coordinator.join("a"), feed(a, 1, sampler=nothing_left), then=[fork])
        assert names(engine) == ["a"]
        with pytest.raises(RuntimeError, match="cannot write"):
            await once(coordinator.join("a", on_commit=broken), feed(a, 2), then=[fork])
        assert len(commits[0].forks) == 1
    assert names(engine) == ["a"]


async def test_a_long_feed_is_forked_after_its_last_chunk(engine: WatchedEngine) -> None:
    a = engine.block("a")
    ledger = Ledger()
    async with CacheCoordinator(engine, prefill_chunk=3) as coordinator:
        seat = coordinator.join("a", on_commit=ledger)
        result = await once(seat, feed(a, *range(8)), then=[Fork(source=a)])
    assert [len(commit.forks) for commit in ledger.commits] == [0, 0, 1]
    assert result.forked[0].tokens == tuple(range(8))


@pytest.mark.parametrize("how", ["cancel", "leave", "close"])
async def test_a_fork_made_for_nobody_is_freed(engine: WatchedEngine, how: str) -> None:
    """Cancelled, left or closed during the forward: the tokens stay, the fork goes."""
    a = engine.block("a")
    ledger = Ledger()
    engine.gate.clear()
    async with anyio.create_task_group() as group, CacheCoordinator(engine) as coordinator:
        seat, scope = coordinator.join("a", on_commit=ledger), anyio.CancelScope()

        async def doomed() -> None:
            with scope:
                try:
                    await once(seat, feed(a, 1, 2), then=[Fork(source=a, name="twin")])
                except ClosedError:
                    assert how != "cancel"
                    return
                pytest.fail("the result should have been dropped")

        group.start_soon(doomed)
        await until(lambda: engine.entered == 1)
        if how == "close":
            threading.Timer(0.05, engine.gate.set).start()
        else:
            scope.cancel() if how == "cancel" else seat.leave()
            await anyio.wait_all_tasks_blocked()
            engine.gate.set()
            await until(lambda: len(ledger.commits) == 1)
    assert ledger.text(a) == a.tokens == (1, 2)
    assert [fork.target.alive for fork in ledger.commits[0].forks] == [False]
    assert names(engine) == ["a"]


async def test_cancelled_between_the_commit_and_its_turn_to_be_woken(
    engine: WatchedEngine,
) -> None:
    """The one who is woken first cancels the other, whose fork is made already."""
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        scope = anyio.CancelScope()

        async def doomed() -> None:
            with scope:
                await once(bob, feed(b, 1), then=[Fork(source=b)])
                pytest.fail("the result should have been dropped")

        group.start_soon(doomed)
        await once(alice, feed(a, 1))
        scope.cancel()
    assert names(engine) == ["a", "b"]


async def test_closed_between_the_commit_and_the_turn_to_be_woken(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")

    async def waits() -> None:
        with anyio.CancelScope(shield=True), pytest.raises(ClosedError):
            await once(bob, feed(b, 1), then=[Fork(source=b)])

    async with anyio.create_task_group() as group, CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        group.start_soon(waits)
        await alice.submit(feed(a, 1))
    assert engine.ticks == [["a", "b"]]
    assert names(engine) == ["a", "b"]


def test_plain_asyncio_cancellation_at_the_very_moment_of_waking_frees_the_fork() -> None:
    with engine_for() as engine:
        a, b = engine.block("a"), engine.block("b")

        async def main() -> None:
            async with CacheCoordinator(engine) as coordinator:
                alice, bob = coordinator.join("a"), coordinator.join("b")
                fork = Fork(source=a, name="twin")
                task = asyncio.create_task(once(alice, feed(a, 1), then=[fork]))

                def cancel_when_done() -> None:
                    if engine.ticks and alice._request is None:
                        task.cancel()
                    elif not task.done():
                        asyncio.get_running_loop().call_soon(cancel_when_done)

                cancel_when_done()
                await think(bob, b, 3)
                await asyncio.wait([task])
                assert task.cancelled()

        asyncio.run(asyncio.wait_for(main(), 10))
        assert names(engine) == ["a", "b"]


async def test_a_forked_block_is_the_submitters_to_release(engine: WatchedEngine) -> None:
    a = engine.block("a")
    async with CacheCoordinator(engine) as coordinator:
        async with anyio.create_task_group() as group:
            alice, bob = coordinator.join("a"), coordinator.join("b")
            group.start_soon(partial(think, bob, engine.block("b"), 5))
            with alice:
                result = await alice.submit(feed(a, 1), then=[Fork(source=a, name="twin")])
                await alice.submit(feed(result.forked[0], 2, view=[a, result.forked[0]]))
        assert names(engine) == ["a", "b", "twin"]
        coordinator.release(*result.forked)
    assert names(engine) == ["a", "b"]
