"""Share: what one run has of the cache, its blocks and its seats at the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from hogwild_agents.common import Prefill
from hogwild_agents.coordinator import CacheCoordinator, Commit, Seat
from hogwild_agents.engine import CacheBlock, Engine
from hogwild_agents.errors import ClosedError


class Share:
    """One run's part of the cache.

    Args:
        engine: the model's.
        coordinator: shared with other runs; None to make one of its own.

    Attributes:
        coordinator: what runs the ticks; None until :meth:`open` has made it.
        several: whether other runs may use it too.
    """

    def __init__(self, engine: Engine, coordinator: CacheCoordinator | None) -> None:
        self.coordinator = coordinator
        self.several = coordinator is not None
        self._engine = engine
        self._blocks: dict[CacheBlock, None] = {}
        self._borrowed: list[CacheBlock] = []

    async def open(self, stack: AsyncExitStack) -> None:
        """Make a coordinator if there is none; ``stack`` closes it."""
        if self.coordinator is None:
            self.coordinator = CacheCoordinator(self._engine)
            await stack.enter_async_context(self.coordinator)

    def join(self, name: str, on_commit: Callable[[Commit], None] | None = None) -> Seat:
        """Return a new seat at the coordinator.

        Raises:
            ClosedError: the coordinator is not open.
        """
        if self.coordinator is None:
            raise ClosedError("The run has no coordinator yet: execute it first.")
        return self.coordinator.join(name, on_commit=on_commit, team=self)

    async def let_pass(self) -> None:
        """Wait for the tick that may be computed at this moment, for whoever has just left."""
        with self.join("") as seat:
            await seat.submit()

    def block(self, name: str) -> CacheBlock:
        """Return a new block of the run."""
        block = self._engine.block(name)
        self._blocks[block] = None
        return block

    async def borrow(self, tokens: Sequence[int], name: str, prefill: Prefill) -> CacheBlock:
        """Return a block with these tokens that other runs of the coordinator share.

        Raises:
            ClosedError: the coordinator is not open.
        """
        if self.coordinator is None:
            raise ClosedError("The run has no coordinator yet: execute it first.")
        block = await self.coordinator.common.borrow(tokens, name, prefill)
        self._borrowed.append(block)
        return block

    def cut(self, block: CacheBlock, length: int) -> None:
        """Shorten a block; only where no tick can be under way, as in an ``on_commit``."""
        self._engine.truncate(block, length)

    def adopt(self, block: CacheBlock) -> None:
        """Take over a block that the coordinator has made for the run."""
        self._blocks[block] = None

    def release(self, *blocks: CacheBlock) -> None:
        """Give blocks back, as soon as no tick is computed."""
        for block in blocks:
            self._blocks.pop(block, None)
        if self.coordinator is not None:
            self.coordinator.release(*blocks)

    def give_back(self) -> None:
        """Give all blocks back."""
        self.release(*self._blocks)
        borrowed, self._borrowed = self._borrowed, []
        for block in borrowed:
            assert self.coordinator is not None, "it has lent them"
            self.coordinator.common.give_back(block)
