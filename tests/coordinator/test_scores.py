"""Log-probabilities of named tokens after a feed: those of the model, for whoever asked."""

from __future__ import annotations

import math

import anyio
import pytest
import torch

from hogwild_agents.coordinator import CacheCoordinator, Seat, TickResult
from hogwild_agents.engine import Feed, Sampler, SamplingParams
from hogwild_agents.errors import FeedError, TickError
from tests.coordinator.rig import VOCAB, WARM, WatchedEngine, engine_for, feed, greedy, once, think

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(15)]

TEXTS = {"a": (1, 2, 3), "b": (9,), "c": (4, 4, 4, 4, 4)}


async def log_probabilities(tokens: tuple[int, ...]) -> list[float]:
    """All of them after a text, from an engine and a forward of its own."""
    with engine_for(twin=1) as plain:
        block = plain.block()
        logits = await anyio.to_thread.run_sync(plain.forward, [Feed(block, [block], tokens)])
    return [float(value) for value in logits[0].log_softmax(-1)]


async def test_scores_are_the_models_own_log_probabilities(engine: WatchedEngine) -> None:
    """Whatever is fed beside, and whatever the sampling parameters would make of them."""
    scored = {"a": (7, 0, VOCAB - 1, 7), "b": range(VOCAB), "c": ()}
    banned = SamplingParams(temperature=0.3, banned=frozenset(range(30)), bias={50: 9.0})
    found: dict[str, TickResult] = {}

    async def work(seat: Seat) -> None:
        name = seat.name
        sampler = None if name == "a" else Sampler(banned)
        found[name] = await once(
            seat, feed(engine.block(name), *TEXTS[name], sampler=sampler, scored=scored[name])
        )

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        for seat in [coordinator.join(name) for name in TEXTS]:
            group.start_soon(work, seat)
    assert engine.ticks == [["a", "b", "c"]]
    for name, result in found.items():
        truth = await log_probabilities(TEXTS[name])
        assert result.scores[0] == pytest.approx([truth[token] for token in scored[name]], abs=1e-4)
        assert (result.sampled[0] is None) == (name == "a")
    assert sum(map(math.exp, found["b"].scores[0])) == pytest.approx(1)


async def test_each_feed_of_a_submit_has_scores_of_its_own(engine: WatchedEngine) -> None:
    blocks = [engine.block(name) for name in TEXTS]
    async with CacheCoordinator(engine) as coordinator:
        result = await once(
            coordinator.join("a"),
            feed(blocks[0], *TEXTS["a"], scored=[5, 6]),
            feed(blocks[1], *TEXTS["b"]),
            feed(blocks[2], *TEXTS["c"], scored=[6], sampler=greedy()),
        )
    truths = [await log_probabilities(tokens) for tokens in TEXTS.values()]
    assert [len(scores) for scores in result.scores] == [2, 0, 1]
    assert result.scores[0] == pytest.approx(truths[0][5:7], abs=1e-4)
    assert result.scores[2] == pytest.approx(truths[2][6:7], abs=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, None])
async def test_a_long_feed_is_scored_after_its_last_token(chunk: int | None) -> None:
    with engine_for() as engine:
        async with CacheCoordinator(engine, prefill_chunk=chunk) as coordinator:
            result = await once(
                coordinator.join("c"),
                feed(engine.block("c"), *TEXTS["c"], scored=[3, 2, 1]),
                feed(engine.block("b"), *TEXTS["b"], scored=[60]),
            )
    long, short = await log_probabilities(TEXTS["c"]), await log_probabilities(TEXTS["b"])
    assert result.scores[0] == pytest.approx(long[3:0:-1], abs=1e-4)
    assert result.scores[1] == pytest.approx(long[:0] + short[60:], abs=1e-4)


async def test_being_scored_changes_no_draw(engine: WatchedEngine) -> None:
    async def text(scored: list[int]) -> list[int]:
        block, sampler = engine.block("a"), Sampler(WARM, seed=3)
        tokens = [1]
        async with CacheCoordinator(engine) as coordinator:
            with coordinator.join("a") as seat:
                for _ in range(10):
                    step = feed(block, tokens[-1], sampler=sampler, scored=scored)
                    sampled = (await seat.submit(step)).sampled[0]
                    assert sampled is not None
                    tokens.append(sampled.token)
        return tokens

    assert await text([1, 2, 3]) == await text([])


@pytest.mark.parametrize("wrong", [VOCAB, -1, "x", None])
async def test_a_token_that_does_not_exist_fails_its_seat_alone(
    engine: WatchedEngine, wrong: object
) -> None:
    block = engine.block("bad")
    async with (
        CacheCoordinator(engine, prefill_chunk=2) as coordinator,
        anyio.create_task_group() as group,
    ):
        alice, bob = coordinator.join("Alice"), coordinator.join("Bob")
        group.start_soon(think, bob, engine.block("b"), 3)
        scored: list[int] = [1, wrong]  # type: ignore[list-item]
        with pytest.raises(FeedError, match="is scored for"):
            await once(alice, feed(block, 1, 2, 3, scored=scored))
    assert len(block) == 0, "it is found before anything is fed"
    assert engine.ticks == [["b"]] * 3


async def test_scoring_that_fails_costs_only_those_who_asked(
    engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is in the thread can fail there: memory for the rows, for instance."""

    def out_of_memory(*args: object) -> None:
        raise MemoryError("no memory left")

    block = engine.block("a")
    monkeypatch.setattr("torch.Tensor.log_softmax", out_of_memory)
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        alice, bob = coordinator.join("Alice"), coordinator.join("Bob")
        group.start_soon(think, bob, engine.block("b"), 3)
        with pytest.raises(TickError, match="'Alice' fed in tick 1 is in the cache") as caught:
            await once(alice, feed(block, 1, scored=[1]))
    assert isinstance(caught.value.__cause__, MemoryError)
    assert block.tokens == (1,)
    assert engine.ticks == [["a", "b"], ["b"], ["b"]]


async def test_only_the_rows_that_were_asked_for_are_computed_and_once(
    engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    compute = torch.Tensor.log_softmax

    def watched(logits: torch.Tensor, dim: int) -> torch.Tensor:
        shapes.append(tuple(logits.shape))
        return compute(logits, dim)

    monkeypatch.setattr("torch.Tensor.log_softmax", watched)
    async with (
        CacheCoordinator(engine, prefill_chunk=2) as coordinator,
        anyio.create_task_group() as group,
    ):
        seats = {name: coordinator.join(name) for name in "abc"}
        for name in "ab":
            group.start_soon(think, seats[name], engine.block(name), 4)
        await once(seats["c"], feed(engine.block("c"), *TEXTS["c"], scored=[1, 2]))
    assert engine.sizes[2] == [1, 1, 1]
    assert shapes == [(1, VOCAB)]
