"""What a tick does: lock-step, one forward for all, views, moves, results, commits."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import anyio
import pytest

from hogwild_agents.coordinator import CacheCoordinator, Move, TickFeed, TickResult
from hogwild_agents.engine import CacheBlock, Feed, Sampler, SamplingParams, ViewEntry
from hogwild_agents.errors import ConfigError
from tests.coordinator.rig import (
    WARM,
    Ledger,
    WatchedEngine,
    engine_for,
    feed,
    greedy,
    keys_of,
    once,
    think,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]


async def test_a_tick_waits_for_every_seat_and_runs_them_in_one_forward(
    engine: WatchedEngine,
) -> None:
    blocks = [engine.block(name) for name in "abc"]
    async with CacheCoordinator(engine) as coordinator:
        seats = [coordinator.join(block.name) for block in blocks]
        async with anyio.create_task_group() as group:
            group.start_soon(once, seats[2], feed(blocks[2], 1))
            group.start_soon(once, seats[0], feed(blocks[0], 2, 3))
            await anyio.wait_all_tasks_blocked()
            assert engine.ticks == []
            group.start_soon(once, seats[1], feed(blocks[1], 4))
    assert engine.ticks == [["a", "b", "c"]]
    assert [block.tokens for block in blocks] == [(2, 3), (4,), (1,)]


async def test_a_worker_gets_the_tokens_of_a_plain_loop(engine: WatchedEngine) -> None:
    block, view = engine.block("a"), engine.block("prompt")
    async with CacheCoordinator(engine) as coordinator:
        with coordinator.join("a") as seat:
            await seat.submit(feed(view, *range(10, 20)))
            tokens = await think(seat, block, 12, start=[5, 6], view=[view, block])
    with engine_for(twin=1) as plain:
        prompt, own = plain.block(), plain.block()
        ids, expected = [5, 6], []
        await anyio.to_thread.run_sync(plain.forward, [Feed(prompt, [prompt], range(10, 20))])
        for _ in range(12):
            logits = await anyio.to_thread.run_sync(plain.forward, [Feed(own, [prompt, own], ids)])
            ids = [int(logits.argmax())]
            expected += ids
    assert tokens == expected
    assert len(set(tokens)) > 3, "a model that repeats itself would prove little"


async def test_a_result_has_the_tick_and_a_token_for_each_feed_with_a_sampler(
    engine: WatchedEngine,
) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator:
        with coordinator.join("a") as seat:
            first = await seat.submit(feed(a, 1), feed(b, 2, view=[a, b], sampler=greedy()))
            second = await seat.submit(feed(a, 3))
            logprobs = Sampler(SamplingParams(temperature=0.0, logprobs=2))
            third = await seat.submit(feed(a, 4, sampler=logprobs))
    assert (first.tick, second.tick, third.tick) == (1, 2, 3)
    assert first.sampled[0] is None
    assert first.sampled[1] is not None
    assert second == TickResult(tick=2, sampled=(None,), scores=((),))
    assert third.sampled[0] is not None
    assert third.sampled[0].top[0] == (third.sampled[0].token, third.sampled[0].logprob)


async def test_a_view_function_is_called_when_the_tick_is_closed(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    late: list[CacheBlock] = []
    calls: list[int] = []
    ledger = Ledger()

    def view() -> list[CacheBlock]:
        calls.append(len(late))
        return [*late, a]

    async with CacheCoordinator(engine) as coordinator:
        seats = [coordinator.join(name, on_commit=ledger) for name in "ab"]
        async with anyio.create_task_group() as group:
            group.start_soon(once, seats[0], feed(a, 1, view=view))
            await anyio.wait_all_tasks_blocked()
            late.append(b)
            group.start_soon(once, seats[1], feed(b, 2))
    assert calls == [1]
    assert ledger.commits[0].feeds[0].view == (b, a)


async def test_moves_are_made_after_the_forward_in_join_order(engine: WatchedEngine) -> None:
    history, a, b = (engine.block(name) for name in ("history", "a", "b"))
    ledger = Ledger()
    async with CacheCoordinator(engine) as coordinator:
        seats = [coordinator.join(name, on_commit=ledger) for name in "ab"]
        async with anyio.create_task_group() as group:
            for seat, block, token in ((seats[1], b, 2), (seats[0], a, 1)):
                step = feed(block, token, token, view=[history, block])
                move = Move(source=block, target=history)
                group.start_soon(partial(once, seat, step, then=[move]))
    assert history.tokens == (1, 1, 2, 2)
    assert (len(a), len(b)) == (0, 0)
    assert ledger.text(history) == history.tokens


async def test_commits_come_in_join_order_before_anybody_is_woken(engine: WatchedEngine) -> None:
    order: list[str] = []
    async with CacheCoordinator(engine) as coordinator:
        seats = [
            coordinator.join(name, on_commit=lambda c: order.append(f"commit {c.seat} {c.tick}"))
            for name in "abc"
        ]

        async def work(index: int) -> None:
            with seats[index] as seat:
                await seat.submit(feed(engine.block(seat.name), 1))
                order.append(f"woken {seat.name}")

        async with anyio.create_task_group() as group:
            for index in (2, 0, 1):
                group.start_soon(work, index)
    assert order == [
        *("commit a 1", "commit b 1", "commit c 1"),
        *("woken a", "woken b", "woken c"),
    ]


async def test_a_seat_may_pass(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    ledger = Ledger()
    async with CacheCoordinator(engine) as coordinator:
        seats = [coordinator.join(name, on_commit=ledger) for name in "ab"]
        async with anyio.create_task_group() as group:
            group.start_soon(once, seats[1], feed(b, 1))
            with seats[0] as seat:
                assert await seat.submit() == TickResult(tick=1, sampled=())
                assert await seat.submit() == TickResult(tick=1, sampled=())
                result = await seat.submit(then=[Move(source=b, target=a)])
        assert coordinator.statistics().ticks == 1
    assert result == TickResult(tick=1, sampled=())
    assert (a.tokens, b.tokens) == ((1,), ())
    assert [(commit.seat, len(commit.moves)) for commit in ledger.commits] == [("b", 0), ("a", 1)]


async def test_a_parked_seat_owes_nothing_and_comes_back(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        with alice.parked(), alice.parked():
            for token in range(3):
                await bob.submit(feed(b, token))
        async with anyio.create_task_group() as group:
            group.start_soon(think, bob, b, 1)
            await anyio.wait_all_tasks_blocked()
            assert engine.ticks == [["b"]] * 3, "Alice is back, so Bob has to wait for her"
            await think(alice, a, 1)
    assert engine.ticks == [["b"]] * 3 + [["a", "b"]]


async def test_a_parked_seat_may_take_part_of_its_own_accord(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        with alice.parked():
            async with anyio.create_task_group() as group:
                group.start_soon(think, alice, a, 1)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(think, bob, b, 4)
    assert engine.ticks == [["a", "b"], ["b"], ["b"], ["b"]]


async def test_a_seat_that_joins_during_a_tick_is_in_the_next(engine: WatchedEngine) -> None:
    a, b = engine.block("a"), engine.block("b")
    engine.gate.clear()
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        with coordinator.join("a") as alice:
            group.start_soon(think, alice, a, 2)
            await until(lambda: engine.entered == 1)
            with coordinator.join("b") as bob:
                engine.gate.set()
                await think(bob, b, 1, view=[a, b])
    assert engine.ticks == [["a"], ["a", "b"]]


async def test_a_seat_that_leaves_holds_nobody_up_and_may_leave_twice(
    engine: WatchedEngine,
) -> None:
    a = engine.block("a")
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        group.start_soon(think, alice, a, 2)
        await anyio.wait_all_tasks_blocked()
        assert engine.ticks == []
        with bob:
            bob.leave()
        bob.leave()
        assert coordinator.statistics().seats == 1
    assert engine.ticks == [["a"], ["a"]]


async def test_teams_share_ticks_and_blocks_stay_apart(engine: WatchedEngine) -> None:
    async def team(names: str, count: int) -> list[list[int]]:
        prompt = engine.block("prompt")
        with coordinator.join("prefill") as seat:
            await seat.submit(feed(prompt, *range(len(names), 20)))
        blocks = [engine.block(name) for name in names]
        seats = [coordinator.join(name) for name in names]
        results: list[list[int]] = [[] for _ in names]

        async def work(index: int) -> None:
            with seats[index] as seat:
                view = [prompt, *(b for b in blocks if b is not blocks[index]), blocks[index]]
                start = [index + len(names)]
                results[index] = await think(seat, blocks[index], count, start=start, view=view)

        async with anyio.create_task_group() as group:
            for index in range(len(names)):
                group.start_soon(work, index)
        return results

    alone, together = [], {}
    for names, count in (("ab", 6), ("xyz", 9)):
        async with CacheCoordinator(engine) as coordinator:
            alone.append(await team(names, count))
    engine.ticks.clear()

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:

        async def both(names: str, count: int) -> None:
            together[names] = await team(names, count)

        group.start_soon(both, "ab", 6)
        group.start_soon(both, "xyz", 9)
    assert [together["ab"], together["xyz"]] == alone
    assert max(map(len, engine.ticks)) == 5


async def test_long_feeds_are_cut_and_the_others_tick_on(engine: WatchedEngine) -> None:
    long, short = engine.block("long"), engine.block("short")
    ledger = Ledger()
    async with CacheCoordinator(engine, prefill_chunk=4) as coordinator:
        alice, bob = coordinator.join("a", on_commit=ledger), coordinator.join("b")
        async with anyio.create_task_group() as group:

            async def prefill() -> None:
                with alice:
                    result = await alice.submit(feed(long, *range(10), sampler=greedy()))
                    assert result.tick == 3
                    assert result.sampled[0] is not None

            group.start_soon(prefill)
            group.start_soon(think, bob, short, 5)
        statistics = coordinator.statistics()
    assert engine.sizes == [[4, 1], [4, 1], [2, 1], [1], [1]]
    assert [commit.feeds[0].tokens for commit in ledger.commits] == [
        *((0, 1, 2, 3), (4, 5, 6, 7), (8, 9))
    ]
    assert (statistics.tokens, statistics.sampled) == (15, 6)


async def test_feeds_of_one_request_end_in_the_same_tick(engine: WatchedEngine) -> None:
    a, b, history = (engine.block(name) for name in ("a", "b", "history"))
    async with CacheCoordinator(engine, prefill_chunk=3) as coordinator:
        with coordinator.join("a") as seat:
            result = await seat.submit(
                feed(a, *range(8), sampler=greedy()),
                feed(b, 1, 2, view=[a, b], sampler=greedy()),
                then=[Move(source=a, target=history)],
            )
    assert engine.ticks == [["a"], ["a"], ["a", "b"]]
    assert engine.sizes == [[3], [3], [2, 2]]
    assert None not in result.sampled
    assert history.tokens == tuple(range(8))


@pytest.mark.parametrize("chunk", [1, 7, 40, None])
async def test_a_chunked_prefill_is_the_same_as_a_whole_one(chunk: int | None) -> None:
    texts, cached = [], []
    for size in (None, chunk):
        with engine_for("llama") as engine:
            prompt, own = engine.block("prompt"), engine.block("own")
            async with CacheCoordinator(engine, prefill_chunk=size) as coordinator:
                with coordinator.join("a") as seat:
                    await seat.submit(feed(prompt, *(7 * i % 61 for i in range(40))))
                    first = await seat.submit(
                        feed(own, *(5 * i % 61 for i in range(23)), view=[prompt, own])
                    )
                    assert first.sampled == (None,)
                    texts.append(await think(seat, own, 10, view=[prompt, own]))
            cached.append((keys_of(engine, prompt), keys_of(engine, own)))
    assert texts[0] == texts[1]
    for whole, cut in zip(*cached, strict=True):
        assert whole.shape == cut.shape
        assert float((whole - cut).abs().max()) < 1e-4


async def test_tokens_are_taken_as_they_were_when_submitted(engine: WatchedEngine) -> None:
    block = engine.block("a")
    tokens = [1, 2, 3, 4]
    async with CacheCoordinator(engine, prefill_chunk=2) as coordinator:
        alice, bob = coordinator.join("a"), coordinator.join("b")
        async with anyio.create_task_group() as group:
            group.start_soon(once, alice, TickFeed(block=block, tokens=tokens, view=[block]))
            await anyio.wait_all_tasks_blocked()
            tokens.reverse()
            bob.leave()
    assert block.tokens == (1, 2, 3, 4)


async def test_each_seat_draws_from_its_own_random_state(engine: WatchedEngine) -> None:
    async def texts(names: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        async with CacheCoordinator(engine) as coordinator:
            seats = [coordinator.join(name) for name in names]

            async def work(index: int) -> None:
                with seats[index] as seat:
                    sampler = Sampler(WARM, seed=ord(seat.name))
                    found[seat.name] = await think(
                        seat, engine.block(seat.name), 12, sampler=sampler
                    )

            async with anyio.create_task_group() as group:
                for index in range(len(names)):
                    group.start_soon(work, index)
        return found

    alone, together = await texts("a"), await texts("cab")
    assert together["a"] == alone["a"]
    assert together["b"] != together["a"]


async def test_a_repetition_penalty_counts_the_whole_view(engine: WatchedEngine) -> None:
    other, own = engine.block("other"), engine.block("own")
    banned = SamplingParams(temperature=0.0, repetition_penalty=1e9)
    async with CacheCoordinator(engine) as coordinator:
        with coordinator.join("a") as seat:
            await seat.submit(feed(other, *range(40)))
            view: list[ViewEntry] = [other[10:], own]
            tokens = await think(seat, own, 8, view=view, sampler=Sampler(banned))
    assert not set(tokens) & set(range(10, 40))
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("name", ["patience", "prefill_chunk"])
@pytest.mark.parametrize("value", [0, -1.0, True, "2", float("nan"), [1]])
def test_options_out_of_range_are_refused(engine: WatchedEngine, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is {re.escape(repr(value))}, but must be"):
        CacheCoordinator(engine, **{name: value})


def test_a_prefill_chunk_is_a_whole_number(engine: WatchedEngine) -> None:
    with pytest.raises(ConfigError, match=r"prefill_chunk is 1\.5, but must be a whole number"):
        CacheCoordinator(engine, prefill_chunk=1.5)  # type: ignore[arg-type]


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"given an Engine, such as model\.engine"):
        CacheCoordinator("bundled")  # type: ignore[arg-type]
