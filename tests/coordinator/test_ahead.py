"""Computing ahead changes nothing but when a forward is run, whatever the seats do instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents.coordinator import CacheCoordinator, Commit, Fork, Move, Seat, TickResult
from hogwild_agents.engine import CacheBlock, Sampler, SamplingParams
from hogwild_agents.engine.feed import entry_block
from hogwild_agents.errors import CacheFullError, HogwildError, TickError
from tests.coordinator.rig import (
    WARM,
    Ledger,
    WatchedEngine,
    engine_for,
    feed,
    greedy,
    once,
    run_async,
    think,
    token_of,
    until,
)

pytestmark = pytest.mark.timeout(30)
on_both = pytest.mark.anyio


async def prepared(engine: WatchedEngine, coordinator: CacheCoordinator) -> None:
    """Let there be memory: a guess takes no new one."""
    block = engine.block("spare")
    await once(coordinator.join("spare"), feed(block, 1))
    coordinator.release(block)


# -- whatever seats do, it comes to the same


@dataclass(frozen=True)
class Turn:
    """What a seat does with a token that was sampled for it."""

    kind: str
    amount: int


KINDS = (
    *("go on", "go on", "go on", "go on", "go on", "more", "other", "sampler", "view", "pass"),
    *("truncate", "fork", "move", "step", "score", "probe", "park", "think", "release", "leave"),
    *("timeout", "join", "own fork"),
)
TURNS = st.lists(st.builds(Turn, kind=st.sampled_from(KINDS), amount=st.integers(0, 4)), max_size=9)


@dataclass
class Play:
    """What some seats do, and all that came of it."""

    engine: WatchedEngine
    ahead: bool
    seats: list[list[Turn]]
    chunk: int
    results: list[tuple[str, TickResult | str]] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    blocks: list[CacheBlock] = field(default_factory=list)

    async def run(self) -> None:
        self.history = self.engine.block("history")
        options: dict[str, Any] = {"ahead": self.ahead, "prefill_chunk": self.chunk}
        async with (
            CacheCoordinator(self.engine, **options) as self.coordinator,
            anyio.create_task_group() as self.group,
        ):
            await prepared(self.engine, self.coordinator)
            for turns in self.seats:
                self.join(turns)
        self.statistics = self.coordinator.statistics()

    def join(self, turns: list[Turn]) -> None:
        block = self.engine.block(f"{len(self.blocks)}")
        self.blocks.append(block)
        seat = self.coordinator.join(block.name, on_commit=self.ledger)
        self.group.start_soon(self.work, seat, block, turns)

    async def work(self, seat: Seat, own: CacheBlock, turns: list[Turn]) -> None:
        sampler = Sampler(WARM, seed=int(seat.name))
        hidden: set[CacheBlock] = set()

        def view() -> list[CacheBlock]:
            others = [b for b in self.blocks if b is not own and b not in hidden and b.alive]
            return [self.history, *others, own]

        async def submit(*feeds: Any, then: Any = ()) -> TickResult:
            result = await seat.submit(*feeds, then=then)
            self.results.append((seat.name, result))
            return result

        with seat:
            await submit()  # so that the first turns come in order
            pending: list[int] = [3, 4]
            for turn in [*turns, Turn("go on", 0)]:
                try:
                    match turn.kind:
                        case "more":
                            pending = [*pending, *range(turn.amount)]
                        case "other":
                            pending = [turn.amount]
                        case "sampler":
                            sampler.params = SamplingParams(temperature=0.5 * turn.amount)
                        case "view":
                            hidden ^= {self.blocks[turn.amount % len(self.blocks)]} - {own}
                        case "truncate":
                            self.engine.truncate(own, len(own) // 2)
                        case "own fork":
                            self.blocks.append(self.engine.fork(own, "copy"))
                        case "move":
                            self.engine.move(own, self.history)
                        case "fork" | "step":
                            fork, move = Fork(source=own), Move(source=own, target=self.history)
                            then = [fork if turn.kind == "fork" else move]
                            result = await submit(feed(own, *pending, view=view), then=then)
                            self.blocks += result.forked
                            pending = [turn.amount]
                        case "score":
                            scored = [turn.amount, 7]
                            await submit(feed(own, *pending, view=view, scored=scored))
                            pending = [turn.amount]
                        case "probe":
                            block = self.engine.block("probe")
                            await submit(
                                feed(own, *pending, view=view),
                                feed(block, 1, 2, view=lambda b=block: [*view(), b], scored=[5]),
                            )
                            self.coordinator.release(block)
                            pending = [turn.amount]
                        case "pass":
                            await submit()
                        case "park":
                            with seat.parked():
                                await anyio.lowlevel.checkpoint()
                        case "think":
                            for _ in range(turn.amount):
                                await anyio.lowlevel.checkpoint()
                        case "release":
                            block = self.blocks[turn.amount % len(self.blocks)]
                            if block.name in ("copy", "fork"):
                                self.coordinator.release(block)
                        case "timeout":
                            with anyio.CancelScope() as scope:
                                scope.cancel()
                                await submit(feed(own, *pending))
                        case "join" if len(self.blocks) < 5:
                            self.join([Turn("go on", 0)] * turn.amount)
                        case "leave":
                            return
                    result = await submit(feed(own, *pending, view=view, sampler=sampler))
                    found = result.sampled[0]
                    assert found is not None
                    pending = [found.token]
                except HogwildError as error:
                    self.results.append((seat.name, str(error)))
                    pending = [3]

    def outcome(self) -> Any:
        """All that must not depend on computing ahead; blocks go by their numbers."""
        numbers: dict[int, int] = {}

        def number(block: CacheBlock) -> int:
            return numbers.setdefault(id(block), len(numbers))

        def told(commit: Commit) -> Any:
            feeds = [
                (number(one.block), [number(entry_block(entry)) for entry in one.view], one.tokens)
                for one in commit.feeds
            ]
            moves = [(number(move.source), number(move.target)) for move in commit.moves]
            forks = [
                (number(fork.source), number(fork.target), fork.after) for fork in commit.forks
            ]
            return commit.tick, commit.seat, feeds, moves, forks

        commits = list(map(told, self.ledger.commits))
        results = [
            (name, result)
            if isinstance(result, str)
            else (name, result.tick, result.sampled, result.scores, len(result.forked))
            for name, result in self.results
        ]
        left = [(block.name, block.tokens, block.alive) for block in self.blocks]
        return commits, results, left, self.engine.used_tokens, self.engine.ticks


def perform(backend: str, seats: list[list[Turn]], ahead: bool, chunk: int, budget: Any) -> Play:
    with engine_for(max_tokens=budget) as engine:
        play = Play(engine, ahead, seats, chunk)
        run_async(backend, play.run)
        engine.check_integrity()
        return play


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(
    seats=st.lists(TURNS, min_size=1, max_size=4),
    chunk=st.sampled_from([2, 512]),
    budget=st.sampled_from([None, None, 12, 40]),
)
def test_it_comes_to_the_same(
    backend: str, seats: list[list[Turn]], chunk: int, budget: int | None
) -> None:
    plays = [perform(backend, seats, ahead, chunk, budget) for ahead in (False, True)]
    assert plays[1].outcome() == plays[0].outcome()
    assert plays[0].engine.tried == 0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"go on"}))
def test_one_who_does_something_else_costs_nobody_a_token(kind: str) -> None:
    """The second of three seats, in the midst of ticks that are guessed right."""
    seats = [[Turn("go on", 0)] * 9 for _ in range(3)]
    seats[1][4] = Turn(kind, 2)
    without, ahead = (perform("asyncio", seats, ahead, 512, None) for ahead in (False, True))
    assert ahead.outcome() == without.outcome()
    assert ahead.statistics.guessed >= 5


# -- when it is computed


@on_both
async def test_a_forward_is_under_way_while_a_seat_still_works(engine: WatchedEngine) -> None:
    block = engine.block("a")
    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        with coordinator.join("a") as seat:
            result = await seat.submit(feed(block, 3, sampler=greedy()))
            for _ in range(3):
                await until(lambda: engine.tried == len(block))
                result = await seat.submit(feed(block, token_of(result), sampler=greedy()))
            await until(lambda: engine.tried == len(block) == 4)
        statistics = coordinator.statistics()
    assert engine.ticks == [["spare"], ["a"], ["a"], ["a"], ["a"]]
    assert (statistics.guessed, statistics.ticks) == (3, 5)
    assert statistics.misguessed == 0  # the last one may still come true
    assert coordinator.statistics().misguessed == 1


@on_both
async def test_without_the_option_nothing_is_guessed(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        await prepared(engine, coordinator)
        await think(coordinator.join("a"), engine.block("a"), 5)
    assert engine.tried == 0


@on_both
async def test_no_guess_is_made_after_a_token_that_breaks(engine: WatchedEngine) -> None:
    block, asked = engine.block("a"), list[int]()

    def breaks(token: int) -> bool:
        asked.append(token)
        if len(asked) == 3:
            raise LookupError("in the user's code")
        return len(asked) < 3

    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        tokens = [3]
        with coordinator.join("a") as seat:
            for _ in range(5):
                handed_in = feed(block, tokens[-1], sampler=greedy(), breaks=breaks)
                result = await seat.submit(handed_in)
                tokens.append(token_of(result))
        assert coordinator.statistics().guessed == 1
    assert asked == tokens[1:]


@on_both
async def test_nothing_is_guessed_while_others_have_to_be_waited_for(
    engine: WatchedEngine,
) -> None:
    """One who has handed in besides, one in the midst of a long text, and one who asks."""
    a, b = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine, ahead=True, prefill_chunk=2) as coordinator:
        await prepared(engine, coordinator)
        async with anyio.create_task_group() as group:
            group.start_soon(think, coordinator.join("a"), a, 4)
            group.start_soon(once, coordinator.join("b"), feed(b, *range(8)))
    assert engine.sizes == [[1], [1, 2], [1, 2], [1, 2], [1, 2]]
    assert engine.tried == 0


@on_both
async def test_fewer_and_fewer_are_guessed_while_they_are_wrong(engine: WatchedEngine) -> None:
    block = engine.block("a")
    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        with coordinator.join("a") as seat:
            for _ in range(100):
                await seat.submit(feed(block, 5, 6, sampler=greedy()))
        assert coordinator.statistics().misguessed == engine.tried
    assert 5 <= engine.tried <= 8


@on_both
async def test_it_begins_again_when_a_guess_is_right(engine: WatchedEngine) -> None:
    block = engine.block("a")
    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        with coordinator.join("a") as seat:
            for _ in range(6):
                result = await seat.submit(feed(block, 5, 6, sampler=greedy()))
            for _ in range(12):
                result = await seat.submit(feed(block, token_of(result), sampler=greedy()))
        assert coordinator.statistics().guessed >= 8


# -- what comes in between


@on_both
async def test_released_blocks_wait_for_the_forward_and_their_room_counts() -> None:
    with engine_for(max_tokens=12) as engine:
        async with CacheCoordinator(engine, ahead=True) as coordinator:
            own, big = engine.block("own"), engine.block("big")
            await once(coordinator.join("big"), feed(big, *range(9)))
            with coordinator.join("a") as seat:
                result = await seat.submit(feed(own, 3, sampler=greedy()))
                await until(lambda: engine.tried == 1)
                assert engine.used_tokens == 10  # without the token on trial
                coordinator.release(big)
                await seat.submit(feed(own, token_of(result), *range(9)))
                assert not big.alive
                with pytest.raises(CacheFullError):
                    await seat.submit(feed(own, 1, 2))


@on_both
async def test_released_blocks_are_freed_though_no_tick_follows(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        block = engine.block("a")
        with coordinator.join("a") as seat:
            engine.trial_gate.clear()
            await seat.submit(feed(block, 3, sampler=greedy()))
            await until(lambda: engine.tried == 1)
            coordinator.release(block)
            assert block.alive
            engine.trial_gate.set()
            await until(lambda: not block.alive)
            assert engine.used_tokens == 0
            assert coordinator.statistics().misguessed == 1


@on_both
async def test_a_guess_that_fails_is_run_in_earnest(engine: WatchedEngine) -> None:
    engine.tries_fail = True
    block, other = engine.block("a"), engine.block("b")
    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        tokens = await think(coordinator.join("a"), block, 4)
        assert engine.tried
        assert coordinator.statistics().guessed == 0
    engine.tries_fail = False
    async with CacheCoordinator(engine) as coordinator:
        assert await think(coordinator.join("b"), other, 4) == tokens


@on_both
async def test_a_forward_that_fails_in_earnest_too_is_told(engine: WatchedEngine) -> None:
    block = engine.block("a")
    async with CacheCoordinator(engine, ahead=True) as coordinator:
        await prepared(engine, coordinator)
        with coordinator.join("a") as seat:
            engine.tries_fail = True
            await seat.submit(feed(block, 3, sampler=greedy()))
            engine.failure = RuntimeError("broken")
            with pytest.raises(TickError, match="tick 3 failed"):
                await seat.submit(feed(block, 4, sampler=greedy()))
    assert block.tokens == (3,)


# -- the end


@on_both
@pytest.mark.parametrize("begun", [False, True])
async def test_closing_waits_for_a_guess_and_takes_it_back(
    engine: WatchedEngine, begun: bool
) -> None:
    block, spare = engine.block("a"), engine.block("b")

    async def open_late() -> None:
        await anyio.sleep(0.05)
        engine.trial_gate.set()

    async with anyio.create_task_group() as group:
        async with CacheCoordinator(engine, ahead=True) as coordinator:
            await prepared(engine, coordinator)
            await once(coordinator.join("b"), feed(spare, 1))
            with coordinator.join("a") as seat:
                if begun:
                    engine.trial_gate.clear()
                await seat.submit(feed(block, 3, sampler=greedy()))
                if begun:
                    await until(lambda: engine.tried == 1)
                    group.start_soon(open_late)
                coordinator.release(spare)
        assert not engine.busy.locked()
        assert not spare.alive
        assert engine._trial is None
        assert block.tokens == (3,)
        engine.check_integrity()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@given(after=st.floats(0, 0.02), seats=st.integers(1, 3))
def test_cancelled_at_any_moment_nothing_is_left(backend: str, after: float, seats: int) -> None:
    async def main() -> None:
        with anyio.move_on_after(after):
            async with CacheCoordinator(engine, ahead=True) as coordinator:
                await prepared(engine, coordinator)
                async with anyio.create_task_group() as group:
                    for name in "abc"[:seats]:
                        block = engine.block(name)
                        work = partial(think, view=[block])
                        group.start_soon(work, coordinator.join(name), block, 99)
        assert engine._trial is None
        assert not engine.busy.locked()
        assert len(anyio.get_running_tasks()) == tasks

    tasks = 0

    async def counted() -> None:
        nonlocal tasks
        tasks = len(anyio.get_running_tasks())
        await main()

    with engine_for() as engine:
        run_async(backend, counted)
        engine.check_integrity()
