"""What goes wrong for one seat, or for one tick, and who is told."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import anyio
import pytest
import torch

from hogwild_agents.coordinator import CacheCoordinator, Commit, Fork, Move, Seat, TickFeed
from hogwild_agents.engine import CacheBlock, Sampler, SamplingParams
from hogwild_agents.errors import (
    CacheFullError,
    ClosedError,
    ContextLengthError,
    FeedError,
    HogwildError,
    TickError,
    UsageError,
)
from tests.coordinator.rig import (
    CONTEXT,
    VOCAB,
    WARM,
    Ledger,
    WatchedEngine,
    engine_for,
    feed,
    greedy,
    once,
    think,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


async def beside_others(
    engine: WatchedEngine,
    request: TickFeed,
    *,
    then: tuple[Move | Fork, ...] = (),
    chunk: int | None = 512,
) -> tuple[Exception | None, Ledger]:
    """Submit a request between two workers that go on; return what the submitter got."""
    caught: list[Exception] = []
    ledger = Ledger()
    blocks = {name: engine.block(name) for name in "ac"}
    before = len(engine.ticks)

    async def faulty(seat: Seat) -> None:
        try:
            await once(seat, request, then=then)
        except Exception as error:
            caught.append(error)

    async with (
        CacheCoordinator(engine, prefill_chunk=chunk) as coordinator,
        anyio.create_task_group() as group,
    ):
        seats = {name: coordinator.join(name, on_commit=ledger) for name in "abc"}
        group.start_soon(faulty, seats["b"])
        for name in "ac":
            group.start_soon(think, seats[name], blocks[name], 4)
    steady = [[name for name in tick if name in "ac"] for tick in engine.ticks[before:]]
    assert steady == [["a", "c"]] * 4, "the others went on as if nothing had happened"
    for block in blocks.values():
        assert ledger.text(block) == block.tokens
    return next(iter(caught), None), ledger


async def test_malformed_feeds_fail_alone(engine: WatchedEngine) -> None:
    other, dead, block = engine.block("other"), engine.block("dead"), engine.block("b")
    engine.free(dead)

    def broken_view() -> list[CacheBlock]:
        raise KeyError("no view")

    with engine_for(twin=1) as foreign:
        for request, kind in (
            (feed(dead, 1), ClosedError),
            (feed(block, 1, view=[dead, block]), ClosedError),
            (feed(block), FeedError),
            (feed(block, VOCAB), FeedError),
            (feed(block, -1), FeedError),
            (feed(block, 1, view=[]), FeedError),
            (feed(block, 1, view=block), FeedError),  # type: ignore[arg-type]
            (feed(block, 1, view=lambda: 5), FeedError),  # type: ignore[arg-type]
            (feed(block, 1, view=[block, other]), FeedError),
            (feed(foreign.block(), 1), FeedError),
            (feed(block, *[1] * (CONTEXT + 1)), ContextLengthError),
            (feed(block, 1, view=broken_view), KeyError),
            (feed(block, "1"), FeedError),  # type: ignore[arg-type]
        ):
            error, ledger = await beside_others(engine, request)
            assert isinstance(error, kind), (request, error)
            assert {commit.seat for commit in ledger.commits} == {"a", "c"}
    assert len(block) == 0


async def test_a_bad_token_far_into_a_long_feed_is_found_before_any_is_fed(
    engine: WatchedEngine,
) -> None:
    block = engine.block("b")
    error, _ = await beside_others(engine, feed(block, *[1] * 20, VOCAB), chunk=4)
    assert isinstance(error, FeedError)
    assert len(block) == 0


async def test_bad_moves_fail_alone_before_anything_is_fed(engine: WatchedEngine) -> None:
    dead, block, other = engine.block("dead"), engine.block("b"), engine.block("other")
    engine.free(dead)
    for move, kind in (
        (Move(source=dead, target=other), ClosedError),
        (Move(source=block, target=dead), ClosedError),
        (Move(source=block, target=block), FeedError),
    ):
        error, _ = await beside_others(engine, feed(block, 1), then=(move,))
        assert isinstance(error, kind)
    assert len(block) == 0


async def test_a_request_whose_feed_fails_moves_nothing(engine: WatchedEngine) -> None:
    full, target = engine.block("full"), engine.block("target")
    async with CacheCoordinator(engine) as coordinator:
        await once(coordinator.join("first"), feed(full, 1, 2))
    move = Move(source=full, target=target)
    error, ledger = await beside_others(engine, feed(engine.block("b"), VOCAB), then=(move,))
    assert isinstance(error, FeedError)
    assert (len(full), len(target)) == (2, 0)
    assert not any(commit.moves for commit in ledger.commits)


async def test_a_move_that_fails_is_told_and_the_commit_leaves_it_out(
    engine: WatchedEngine,
) -> None:
    block, target = engine.block("b"), engine.block("target")
    with engine_for(twin=1) as foreign:
        moves = (
            Move(source=block, target=target),
            Move(source=target, target=foreign.block()),
            Move(source=target, target=block),
        )
        error, ledger = await beside_others(engine, feed(block, 1, 2), then=moves)
    assert isinstance(error, FeedError)
    assert [commit.moves for commit in ledger.commits if commit.seat == "b"] == [moves[:1]]
    assert ledger.text(target) == target.tokens == (1, 2)


async def test_two_seats_that_write_one_block(engine: WatchedEngine) -> None:
    block = engine.block("shared")
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("Alice"), coordinator.join("Bob")
        group.start_soon(once, alice, feed(block, 1))
        with pytest.raises(FeedError, match=r"'Bob' would write .* seat 'Alice' writes"):
            await once(bob, feed(block, 2))
    assert block.tokens == (1,)


async def test_two_feeds_of_one_submit_that_write_one_block(engine: WatchedEngine) -> None:
    block = engine.block("b")
    async with CacheCoordinator(engine, prefill_chunk=2) as coordinator:
        with pytest.raises(FeedError, match="Two feeds of one tick"):
            await once(coordinator.join("b"), feed(block, 1, 2, 3), feed(block, 2))
    assert block.tokens == ()


async def test_submitting_twice_at_once(engine: WatchedEngine) -> None:
    block, other = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("Alice"), coordinator.join("Bob")
        group.start_soon(once, alice, feed(block, 1))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(UsageError, match="'Alice' has submitted already"):
            await alice.submit(feed(block, 2))
        group.start_soon(once, bob, feed(other, 1))
    assert block.tokens == (1,)
    assert engine.ticks == [["a", "b"]]


async def test_a_seat_that_has_left_cannot_be_used(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        seat = coordinator.join("Alice")
        seat.leave()
        with pytest.raises(ClosedError, match="'Alice' has left its coordinator: join again"):
            await seat.submit(feed(engine.block(), 1))
        with pytest.raises(ClosedError, match="has left"), seat.parked():
            pass


async def test_leaving_tells_a_submit_that_waits(engine: WatchedEngine) -> None:
    block = engine.block("a")
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("Alice"), coordinator.join("Bob")

        async def waits() -> None:
            with pytest.raises(ClosedError, match="'Alice' has left"):
                await alice.submit(feed(block, 1))

        group.start_soon(waits)
        await anyio.wait_all_tasks_blocked()
        alice.leave()
        await think(bob, engine.block("b"), 1)
    assert block.tokens == ()


async def test_leaving_during_the_forward_keeps_the_tokens(engine: WatchedEngine) -> None:
    block = engine.block("a")
    ledger = Ledger()
    engine.gate.clear()
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice = coordinator.join("Alice", on_commit=ledger)

        async def waits() -> None:
            with pytest.raises(ClosedError, match="'Alice' has left"):
                await alice.submit(feed(block, 1))

        group.start_soon(waits)
        await until(lambda: engine.entered == 1)
        alice.leave()
        await anyio.wait_all_tasks_blocked()
        engine.gate.set()
        await until(lambda: len(ledger.commits) == 1)
    assert block.tokens == (1,) == ledger.text(block)


async def test_a_forward_that_raises_fails_its_tick_and_later_ticks_go_on(
    engine: WatchedEngine,
) -> None:
    engine.failure = MemoryError("no memory left\nand much more")
    failed: list[TickError] = []
    ledger = Ledger()
    passed: list[int] = []

    async def work(seat: Seat) -> None:
        block = engine.block(seat.name)
        with seat:
            try:
                await seat.submit(feed(block, 1, sampler=greedy()))
            except TickError as error:
                failed.append(error)
                assert len(block) == 0
            result = await seat.submit(feed(block, 2, sampler=greedy()))
            assert (result.tick, block.tokens) == (1, (2,))

    async def bystander(seat: Seat) -> None:
        with seat:
            passed.append((await seat.submit()).tick)

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(work, coordinator.join(name, on_commit=ledger))
        group.start_soon(bystander, coordinator.join("d"))
    assert len(failed) == len(set(map(id, failed))) == 3
    assert all(isinstance(error.__cause__, MemoryError) for error in failed)
    assert "(MemoryError: no memory left)" in str(failed[0])
    assert [commit.tick for commit in ledger.commits] == [1, 1, 1]
    assert passed == [0], "who only passed has no part in the failure"
    assert coordinator.statistics().ticks == 1


async def test_a_failed_forward_keeps_no_tensors(
    engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory: what the forward held must go, though the caller looks at the error."""
    held: list[weakref.ref[torch.Tensor]] = []

    def out_of_memory(*args: object, **kwargs: object) -> None:
        hidden = torch.zeros(1000)
        held.append(weakref.ref(hidden))
        raise MemoryError("no memory left")

    monkeypatch.setattr(engine.model.model, "forward", out_of_memory)
    gc.disable()
    try:
        async with CacheCoordinator(engine) as coordinator:
            with coordinator.join("a") as seat:
                with pytest.raises(TickError) as caught:
                    await seat.submit(feed(engine.block(), 1))
                assert held[0]() is None
                assert isinstance(caught.value.__cause__, MemoryError)
    finally:
        gc.enable()


async def test_logits_that_are_not_numbers_fail_the_tick(engine: WatchedEngine) -> None:
    block = engine.block("a")
    weight = engine.model.get_input_embeddings().weight
    kept = weight.data[5].clone()
    weight.data[5] = float("nan")
    try:
        async with CacheCoordinator(engine) as coordinator:
            with coordinator.join("a") as seat:
                with pytest.raises(TickError, match="NaN"):
                    await seat.submit(feed(block, 5))
                await seat.submit(feed(block, 6))
    finally:
        weight.data[5] = kept
    assert block.tokens == (6,)


async def test_a_sampler_that_fails_costs_the_others_nothing(engine: WatchedEngine) -> None:
    async def texts(*, faulty: bool) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}

        async def steady(seat: Seat) -> None:
            sampler = Sampler(WARM, seed=ord(seat.name))
            found[seat.name] = await think(seat, engine.block(seat.name), 5, sampler=sampler)

        async def fails(seat: Seat) -> None:
            block = engine.block(seat.name)
            nothing_left = SamplingParams(bias={VOCAB + 3: 1.0})
            with pytest.raises(TickError, match="No token could be sampled for seat 'b'"):
                await once(seat, feed(block, 1, sampler=Sampler(nothing_left)))
            assert block.tokens == (1,)

        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for name in "abc":
                if faulty or name != "b":
                    work = fails if name == "b" else steady
                    group.start_soon(work, coordinator.join(name))
        return found

    assert await texts(faulty=True) == await texts(faulty=False)


async def test_a_full_cache_fails_who_does_not_fit_in_join_order() -> None:
    with engine_for(max_tokens=20) as engine:
        blocks = {name: engine.block(name) for name in "abc"}
        outcomes: dict[str, object] = {}

        async def work(seat: Seat, size: int) -> None:
            try:
                await once(seat, feed(blocks[seat.name], *[1] * size))
                outcomes[seat.name] = "fits"
            except CacheFullError as error:
                outcomes[seat.name] = str(error)

        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            sizes = {"a": 12, "b": 9, "c": 8}
            for seat, size in [(coordinator.join(name), size) for name, size in sizes.items()]:
                group.start_soon(work, seat, size)
        assert outcomes["a"] == outcomes["c"] == "fits"
        assert "'b' needs room for 9 more tokens" in str(outcomes["b"])
        assert "budget of 20 tokens this tick has 8 left" in str(outcomes["b"])
        assert engine.used_tokens == 20


async def test_a_full_cache_in_one_seat_leaves_the_others_ticking() -> None:
    with engine_for(max_tokens=13) as engine:
        blocks = {name: engine.block(name) for name in "abc"}
        error: CacheFullError | None = None
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            alice, bob, carol = (coordinator.join(name) for name in "abc")
            group.start_soon(think, alice, blocks["a"], 4)
            group.start_soon(think, carol, blocks["c"], 4)
            with bob:
                for token in range(9):
                    try:
                        await bob.submit(feed(blocks["b"], token))
                    except CacheFullError as caught:
                        error = caught
                        coordinator.release(blocks["b"])
                        break
        assert error is not None
        assert [len(blocks[name]) for name in "ac"] == [4, 4]


async def test_a_long_feed_that_does_not_fit_is_refused_before_any_of_it_is_fed() -> None:
    with engine_for(max_tokens=20) as engine:
        block = engine.block("b")
        error, _ = await beside_others(engine, feed(block, *[1] * 21), chunk=4)
        assert isinstance(error, CacheFullError)
        assert len(block) == 0


async def test_a_long_feed_that_fails_half_way_keeps_what_was_committed() -> None:
    with engine_for(max_tokens=20) as engine:
        block = engine.block("b")
        error, ledger = await beside_others(engine, feed(block, *[1] * 15), chunk=4)
        assert isinstance(error, CacheFullError)
        assert ledger.text(block) == block.tokens == (1,) * 12


async def test_views_that_grow_too_long_together(engine: WatchedEngine) -> None:
    """Each feed alone would fit the context; together the later ones don't."""
    prompt = engine.block("prompt")
    caught: dict[str, HogwildError] = {}
    blocks = {name: engine.block(name) for name in "abc"}

    async def work(seat: Seat) -> None:
        own = blocks[seat.name]
        view = [prompt, *(blocks[name] for name in "abc" if name != seat.name), own]
        try:
            await once(seat, feed(own, 1, 2, view=view))
        except ContextLengthError as error:
            caught[seat.name] = error

    async with CacheCoordinator(engine) as coordinator:
        await once(coordinator.join("prompt"), feed(prompt, *[3] * (CONTEXT - 4)))
        async with anyio.create_task_group() as group:
            for seat in [coordinator.join(name) for name in "abc"]:
                group.start_soon(work, seat)
    assert list(caught) == ["c"]
    assert f"would be {CONTEXT + 2} tokens long with what is fed in this tick" in str(caught["c"])
    assert [len(block) for block in blocks.values()] == [2, 2, 0]


async def test_an_on_commit_that_raises_fails_its_own_seat(engine: WatchedEngine) -> None:
    def broken(commit: Commit) -> None:
        raise RuntimeError(f"cannot write tick {commit.tick}")

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("a", on_commit=broken), coordinator.join("b")
        group.start_soon(think, bob, engine.block("b"), 3)
        with pytest.raises(RuntimeError, match="cannot write tick 1"):
            await once(alice, feed(engine.block("a"), 1))
    assert engine.ticks == [["a", "b"], ["b"], ["b"]]


async def test_a_view_function_may_leave_join_and_release(engine: WatchedEngine) -> None:
    block, spare = engine.block("a"), engine.block("spare")

    def view() -> list[CacheBlock]:
        coordinator.join("late").leave()
        coordinator.release(spare)
        seat.leave()
        return [block]

    async with CacheCoordinator(engine) as coordinator:
        seat = coordinator.join("a")
        with pytest.raises(ClosedError, match="has left"):
            await seat.submit(feed(block, 1, view=view))
        await think(coordinator.join("b"), engine.block("b"), 1)
    assert not spare.alive


async def test_blocks_are_released_when_no_tick_computes_them(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    engine.gate.clear()
    seen: list[bool] = []
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice = coordinator.join("a", on_commit=lambda commit: seen.append(b.alive))
        group.start_soon(partial(once, alice, feed(a, 1, view=[b, a])))
        await until(lambda: engine.entered == 1)
        coordinator.release(b, a)
        coordinator.release(b)
        assert b.alive
        engine.gate.set()
        await until(lambda: not a.alive)
        assert not b.alive
        c = engine.block("c")
        coordinator.release(c)
        assert not c.alive
    assert seen == [True], "the commits of a tick come before its blocks go"
    assert engine.used_tokens == 0
