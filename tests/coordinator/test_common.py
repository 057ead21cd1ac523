"""Blocks that runs share: encoded once, whoever is cancelled, and freed with the last borrower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents.common import Common
from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.engine import CacheBlock
from hogwild_agents.errors import LimitError, UsageError
from tests.coordinator.rig import (
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


def filler(
    coordinator: CacheCoordinator, *tokens: int, after: CacheBlock | None = None
) -> Callable[[CacheBlock], Awaitable[object]]:
    """What feeds a block, as a run does."""

    async def prefill(block: CacheBlock) -> None:
        view = [block] if after is None else [after, block]
        await once(coordinator.join("prefill"), feed(block, *tokens, view=view))

    return prefill


async def never(block: CacheBlock) -> None:
    pytest.fail("it is encoded already")


async def test_the_first_encodes_the_last_frees(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        common = coordinator.common
        first = await common.borrow([1, 2, 3], "heading", filler(coordinator, 1, 2, 3))
        second = await common.borrow((1, 2, 3), "other name", never)
        assert first is second
        assert (first.tokens, first.name, len(common)) == ((1, 2, 3), "heading", 1)
        common.give_back(first)
        assert first.alive
        common.give_back(second)
        assert not first.alive
        assert len(common) == 0
        third = await common.borrow([1, 2, 3], "again", filler(coordinator, 1, 2, 3))
        assert third.alive
        assert third is not first
    assert engine.ticks == [["heading"], ["again"]]
    common.give_back(third)
    assert engine.used_tokens == 0


async def test_many_at_once_encode_it_once(engine: WatchedEngine) -> None:
    found: list[CacheBlock] = []

    async def borrow() -> None:
        block = await coordinator.common.borrow([5, 6], "x", filler(coordinator, 5, 6))
        found.append(block)

    async with CacheCoordinator(engine) as coordinator:
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(borrow)
        assert len(found) == 6
        assert len(set(found)) == 1
    assert engine.ticks == [["x"]]


async def test_what_stands_before_tells_blocks_apart_and_stays(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        common = coordinator.common
        fronts = [
            await common.borrow([token], f"front {token}", filler(coordinator, token))
            for token in (1, 2)
        ]
        backs = [
            await common.borrow([7], "back", filler(coordinator, 7, after=front), after=front)
            for front in [*fronts, fronts[0]]
        ]
        alone = await common.borrow([7], "alone", filler(coordinator, 7))
        assert backs[0] is backs[2]
        assert len({*backs, alone}) == 3
        assert not bool((keys_of(engine, backs[0]) == keys_of(engine, backs[1])).all())
        common.give_back(fronts[0])
        assert fronts[0].alive, "the block behind it is still borrowed"
        with pytest.raises(UsageError, match="not on loan"):
            common.give_back(fronts[0])
        common.give_back(backs[0])
        common.give_back(backs[2])
        assert [block.alive for block in (fronts[0], backs[0], fronts[1])] == [False, False, True]
        for block in (fronts[1], backs[1], alone):
            common.give_back(block)
    assert engine.used_tokens == len(common) == 0


async def test_is_the_first_cancelled_the_next_encodes_it(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        common, scope = coordinator.common, anyio.CancelScope()

        async def hangs(block: CacheBlock) -> None:
            await filler(coordinator, 1)(block)
            await anyio.sleep_forever()

        async def doomed() -> None:
            with scope:
                await common.borrow([1, 2], "doomed", hangs)

        group.start_soon(doomed)
        await until(lambda: len(engine.ticks) == 1)
        scope_of_waiter = anyio.CancelScope()

        async def waits_in_vain() -> None:
            with scope_of_waiter:
                await common.borrow([1, 2], "in vain", never)

        group.start_soon(waits_in_vain)
        await anyio.wait_all_tasks_blocked()
        found: list[CacheBlock] = []

        async def waits() -> None:
            found.append(await common.borrow([1, 2], "heir", filler(coordinator, 1, 2)))

        group.start_soon(waits)
        await anyio.wait_all_tasks_blocked()
        scope_of_waiter.cancel()
        scope.cancel()
        await until(lambda: bool(found))
    assert found[0].name == "heir"
    assert engine.ticks == [["doomed"], ["heir"]]
    assert engine.used_tokens == 2
    common.give_back(found[0])
    assert engine.used_tokens == 0


async def test_does_the_first_fail_only_it_is_told(engine: WatchedEngine) -> None:
    async def fails(block: CacheBlock) -> None:
        await anyio.wait_all_tasks_blocked()
        raise LimitError("no room")

    found: list[CacheBlock] = []

    async def waits() -> None:
        found.append(await coordinator.common.borrow([1, 2], "b", filler(coordinator, 1, 2)))

    async def first() -> None:
        with pytest.raises(LimitError, match="no room"):
            await coordinator.common.borrow([1, 2], "a", fails)

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(waits)
    assert [block.name for block in found] == ["b"]


async def test_a_block_with_other_tokens_is_lent_to_nobody(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        common = coordinator.common
        for wrong in ((1, 3), (1,), (1, 2, 3)):
            with pytest.raises(UsageError, match="feed it exactly the tokens"):
                await common.borrow([1, 2], "x", filler(coordinator, *wrong))
        assert len(common) == engine.used_tokens == 0


async def test_a_block_without_tokens_is_not_encoded(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        block = await coordinator.common.borrow([], "nothing", never)
        assert await coordinator.common.borrow([], "nothing", never) is block
    assert len(block) == 0


async def test_what_was_not_borrowed_is_refused(engine: WatchedEngine) -> None:
    block = engine.block("mine")
    async with CacheCoordinator(engine) as coordinator:
        with pytest.raises(UsageError, match=r"'mine'.* is not on loan"):
            coordinator.common.give_back(block)
        with pytest.raises(UsageError, match="not on loan"):
            await coordinator.common.borrow([1], "x", never, after=block)
        assert repr(coordinator.common) == "Common(0 blocks)"


async def test_given_back_during_a_forward_it_is_freed_after_it(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        block = await coordinator.common.borrow([1], "x", filler(coordinator, 1))
        engine.gate.clear()
        own = engine.block("own")
        group.start_soon(think, coordinator.join("a"), own, 1)
        await until(lambda: engine.entered == 2)
        coordinator.common.give_back(block)
        assert block.alive
        engine.gate.set()
        await until(lambda: not block.alive)


async def test_views_with_lent_blocks_give_the_tokens_of_own_ones(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        texts = []
        for _ in range(2):
            front = await coordinator.common.borrow(
                range(9), "front", filler(coordinator, *range(9))
            )
            own = engine.block("own")
            texts.append(await think(coordinator.join("a"), own, 8, view=[front, own]))
        mine, own = engine.block("mine"), engine.block("own")
        await once(coordinator.join("p"), feed(mine, *range(9)))
        texts.append(await think(coordinator.join("a"), own, 8, view=[mine, own]))
    assert texts[0] == texts[1] == texts[2]


@dataclass(frozen=True, kw_only=True)
class Borrower:
    """What one drawn borrower does.

    Attributes:
        path: the tokens of the blocks that it borrows, one behind the other.
        delay: how many milliseconds it waits before, between and after.
        fails: whether its own prefill raises.
        patience: after how many milliseconds it is cancelled.
    """

    path: list[int]
    delay: int
    fails: bool
    patience: int | None


BORROWERS = st.builds(
    Borrower,
    path=st.lists(st.integers(0, 1), min_size=1, max_size=3),
    delay=st.integers(0, 2),
    fails=st.sampled_from([False, False, False, True]),
    patience=st.one_of(st.none(), st.integers(0, 4)),
)


@dataclass
class Play:
    """Drawn borrowers at work."""

    coordinator: CacheCoordinator
    encoding: Counter[tuple[CacheBlock | None, int]] = field(default_factory=Counter)

    @property
    def common(self) -> Common:
        return self.coordinator.common

    async def work(self, borrower: Borrower) -> None:
        limit = None if borrower.patience is None else borrower.patience / 1000
        lent: list[CacheBlock] = []
        with anyio.move_on_after(limit):
            try:
                for token in borrower.path:
                    await anyio.sleep(borrower.delay / 1000)
                    after = lent[-1] if lent else None
                    lent.append(
                        await self.common.borrow(
                            [token] * 3, "x", self.prefill(borrower, token, after), after=after
                        )
                    )
                    assert all(block.alive for block in lent)
                    assert lent[-1].tokens == (token,) * 3
                await anyio.sleep(borrower.delay / 1000)
            except LookupError:
                assert borrower.fails
            finally:
                for block in lent:
                    assert block.alive
                    self.common.give_back(block)

    def prefill(
        self, borrower: Borrower, token: int, after: CacheBlock | None
    ) -> Callable[[CacheBlock], Awaitable[object]]:
        async def prefill(block: CacheBlock) -> None:
            key = (after, token)
            self.encoding[key] += 1
            assert self.encoding[key] == 1, "two encode the same at once"
            try:
                if borrower.fails:
                    raise LookupError
                await filler(self.coordinator, *[token] * 3, after=after)(block)
            finally:
                self.encoding[key] -= 1

        return prefill


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@given(borrowers=st.lists(BORROWERS, min_size=1, max_size=7))
def test_whoever_comes_goes_or_fails_nothing_is_left(
    backend: str, borrowers: list[Borrower]
) -> None:
    async def main() -> None:
        async with CacheCoordinator(engine, prefill_chunk=1) as coordinator:
            play = Play(coordinator)
            async with anyio.create_task_group() as group:
                for borrower in borrowers:
                    group.start_soon(play.work, borrower)
            assert len(coordinator.common) == 0
            assert not coordinator.common._loans
        assert engine.used_tokens == 0
        assert not engine._cache.blocks

    with engine_for() as engine:
        run_async(backend, main)
