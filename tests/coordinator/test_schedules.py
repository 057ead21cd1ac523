"""Random schedules: whatever workers do to themselves and to each other, nobody hangs.

Hypothesis draws what each of some workers does, one after the other: write, end a step, fork,
score, think, park, time out, cancel another one, fail, spawn one, leave. Some engines run out of
memory, some forwards fail. On both event loops everything must come to its end, the commits must
tell exactly what is in the cache, no fork may be lost, and the cache's book-keeping must be whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import example, given, settings, strategies as st

from hogwild_agents.coordinator import CacheCoordinator, Fork, Move, Seat
from hogwild_agents.engine import CacheBlock, Sampler
from hogwild_agents.errors import HogwildError
from tests.coordinator.rig import WARM, Ledger, WatchedEngine, engine_for, feed, run_async

Act: TypeAlias = tuple[str, int]
"""What a worker does, and a small number that says how much, or to whom."""

KINDS = (
    *("write", "write", "write", "prefill", "step", "pass", "think", "park", "hurry"),
    *("fork", "score", "cancel", "dead", "clash", "fail", "spawn", "leave", "release"),
)
ACTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), min_size=1, max_size=8)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One drawn test."""

    workers: list[list[Act]]
    spawned: list[Act]
    chunk: int
    max_tokens: int | None
    failing: int | None
    patience: float | None
    ahead: bool = False
    teams: int = 1


SCHEDULES = st.builds(
    Schedule,
    workers=st.lists(ACTS, min_size=1, max_size=5),
    spawned=ACTS,
    chunk=st.integers(1, 4),
    max_tokens=st.one_of(st.none(), st.integers(4, 40)),
    failing=st.one_of(st.none(), st.integers(1, 6)),
    patience=st.one_of(st.none(), st.just(0.001)),
    ahead=st.booleans(),
    teams=st.integers(1, 3),
)


@dataclass
class Play:
    """A schedule being played."""

    schedule: Schedule
    engine: WatchedEngine
    ledger: Ledger = field(default_factory=Ledger)
    blocks: list[CacheBlock] = field(default_factory=list)
    released: list[CacheBlock] = field(default_factory=list)
    scopes: list[anyio.CancelScope] = field(default_factory=list)
    ended: int = 0

    async def run(self) -> None:
        self.history = self.engine.block("history")
        self.dead = self.engine.block("dead")
        self.engine.free(self.dead)
        async with (
            CacheCoordinator(
                self.engine,
                prefill_chunk=self.schedule.chunk,
                patience=self.schedule.patience,
                ahead=self.schedule.ahead,
            ) as self.coordinator,
            anyio.create_task_group() as self.group,
        ):
            for acts in self.schedule.workers:
                self.start(acts)
        assert self.coordinator.statistics().seats == 0
        assert self.ended == len(self.scopes)

    def start(self, acts: list[Act]) -> None:
        """Let one more worker join."""
        block = self.engine.block(f"{len(self.blocks)}")
        self.blocks.append(block)
        self.scopes.append(anyio.CancelScope())
        team = len(self.scopes) % self.schedule.teams
        seat = self.coordinator.join(block.name, on_commit=self.ledger, team=team)
        self.group.start_soon(self.work, seat, block, acts, self.scopes[-1])

    async def work(
        self, seat: Seat, block: CacheBlock, acts: list[Act], scope: anyio.CancelScope
    ) -> None:
        sampler = Sampler(WARM, seed=len(self.blocks))
        with scope, seat:
            for kind, amount in acts:
                try:
                    await self.act(seat, block, sampler, kind, amount)
                except (HogwildError, LookupError):
                    if amount > 2:
                        break
        self.ended += 1

    async def act(
        self, seat: Seat, block: CacheBlock, sampler: Sampler, kind: str, amount: int
    ) -> None:
        def view() -> list[CacheBlock]:
            others = [b for b in self.blocks if b is not block and b.alive]
            return [self.history, *others, block]

        match kind:
            case "write":
                for token in range(amount):
                    await seat.submit(feed(block, token, view=view, sampler=sampler))
            case "prefill":
                await seat.submit(feed(block, *range(3 * amount), view=view, sampler=sampler))
            case "step":
                fresh = self.engine.block("fresh")
                self.blocks.append(fresh)
                await seat.submit(
                    feed(block, 7, view=view),
                    feed(fresh, *range(amount + 1), sampler=sampler),
                    then=[Move(source=block, target=self.history)],
                )
            case "fork":
                ops: list[Fork | Move] = [
                    Fork(source=block, name="twin"),
                    Move(source=block, target=self.history),
                    Fork(source=self.history),
                ]
                feeds = [feed(block, 9, view=view)] if amount % 2 else []
                with anyio.move_on_after(0.0005 if amount == 5 else math.inf):
                    result = await seat.submit(*feeds, then=ops[: amount % 4])
                    self.blocks += result.forked
            case "score":
                scored = range(0, 20 * amount, 10)  # the last ones do not exist
                result = await seat.submit(feed(block, 5, view=view, scored=scored))
                assert len(result.scores[0]) == len(scored)
            case "pass":
                await seat.submit()
            case "think":
                for _ in range(amount * 3):
                    await checkpoint()
            case "park":
                with seat.parked():
                    await anyio.sleep(amount * 0.0005)
            case "hurry":
                with anyio.move_on_after(amount * 0.0005):
                    await seat.submit(feed(block, *range(amount + 1), view=view))
            case "cancel":
                self.scopes[amount % len(self.scopes)].cancel()
            case "dead":
                await seat.submit(feed(self.dead, 1))
            case "clash":
                await seat.submit(feed(self.history, 1))
            case "fail":
                raise LookupError("a worker fails")
            case "spawn" if len(self.scopes) < 8:
                self.start(self.schedule.spawned)
            case "leave":
                seat.leave()
            case "release":
                self.coordinator.release(block)
                self.released.append(block)

    def check(self) -> None:
        self.engine.check_integrity()
        known = {block for block in (self.history, *self.blocks) if block.alive}
        assert set(self.engine._cache.blocks.values()) == known, "a fork has leaked"
        for block in (self.history, *self.blocks):
            if block.alive:
                assert self.ledger.text(block) == block.tokens
            else:
                assert block in self.released
        ticks = [commit.tick for commit in self.ledger.commits]
        assert ticks == sorted(ticks)
        assert sum(map(len, self.engine.ticks)) == sum(
            len(commit.feeds) for commit in self.ledger.commits
        )


def play(backend: str, schedule: Schedule) -> None:
    with engine_for(max_tokens=schedule.max_tokens) as engine:
        engine.fails_at = schedule.failing
        played = Play(schedule, engine)
        run_async(backend, played.run)
        played.check()


EVERYBODY_AT_ONCE = Schedule(
    workers=[[("write", 5), ("cancel", index), ("write", 5)] for index in range(5)],
    spawned=[("step", 2), ("write", 2)],
    chunk=2,
    max_tokens=None,
    failing=None,
    patience=None,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@example(schedule=EVERYBODY_AT_ONCE)
@given(schedule=SCHEDULES)
def test_nobody_hangs_and_the_cache_is_whole(backend: str, schedule: Schedule) -> None:
    play(backend, schedule)


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=1000)
@given(schedule=SCHEDULES)
def test_nobody_hangs_in_a_longer_sweep(backend: str, schedule: Schedule) -> None:
    play(backend, schedule)
