"""Cache: all blocks of one engine. Here they are made, grown, moved, copied, cut and freed.

It trusts its caller: the engine has checked what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.block import CacheBlock
from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.pool import LayerShape, Pool, Run, pieces
from hogwild_agents.engine.rope import Angles, Rope, to_device
from hogwild_agents.errors import CacheFullError, ConfigError, FeedError

_TOGETHER = 1 << 20
"""Numbers that are turned in one go, at most: of long blocks one layer's keys after another's."""


class Cache:
    """All blocks of one engine, and their keys and values.

    Args:
        adapter: what the layers store, and how their keys turn.
        device: the engine's.
        max_tokens: budget in tokens.
        max_bytes: budget in bytes of keys and values; the smaller budget counts.

    Attributes:
        pool: where keys and values lie.
        blocks: those that live, by their ``id``.

    Raises:
        ConfigError: a budget is below one token.
    """

    def __init__(
        self,
        adapter: Adapter,
        device: torch.device,
        *,
        max_tokens: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.pool = Pool(adapter.shapes, _budget(adapter.shapes, max_tokens, max_bytes))
        self.blocks: dict[int, CacheBlock] = {}
        self._reserved: Sequence[Feed] = ()
        self._adapter = adapter
        self._device = device

    def require(self, *blocks: CacheBlock) -> None:
        """Check that blocks live, and here.

        Raises:
            ClosedError: one was freed.
            FeedError: one belongs to another engine, or is none.
        """
        for block in blocks:
            if id(block) not in self.blocks:
                if not isinstance(block, CacheBlock):
                    raise FeedError(f"{block!r} is no block: name one that engine.block() made.")
                block._require_alive()
                raise FeedError(f"{block!r} belongs to another engine: use this engine's blocks.")

    @property
    def used(self) -> int:
        """How many tokens all blocks hold, without what is only reserved."""
        return self.pool.used - sum(len(feed.tokens) for feed in self._reserved)

    def check_integrity(self) -> None:
        """Check that the book-keeping is whole.

        Raises:
            RuntimeError: it is not; this is a bug of the engine.
        """
        reserved = {id(feed.block): len(feed.tokens) for feed in self._reserved}
        for block in list(self.blocks.values()):  # others may make some meanwhile
            owned = sum(map(len, block._runs))
            if owned != len(block) + reserved.get(id(block), 0):
                raise RuntimeError(f"{block!r} owns {owned} slots.")
        self.pool.check_integrity([block._runs for block in list(self.blocks.values())])

    # -- a tick

    def reserve(self, feeds: Sequence[Feed]) -> None:
        """Take slots for what feeds append; the blocks grow only by :meth:`commit`.

        Raises:
            CacheFullError: the budget has no room.
        """
        self._reserved = feeds
        for feed in feeds:
            self.pool.extend(feed.block._runs, len(feed.tokens))

    def withdraw(self) -> None:
        """Give back what was reserved, as far as it was."""
        reserved, self._reserved = self._reserved, ()
        for feed in reversed(reserved):
            self.pool.shrink(feed.block._runs, len(feed.block))

    def commit(self) -> None:
        """Let the blocks grow by what was reserved: their new keys and values are there."""
        reserved, self._reserved = self._reserved, ()
        for feed in reserved:
            feed.block._tokens += feed.tokens

    # -- blocks

    def block(self, name: str) -> CacheBlock:
        """Return a new empty block."""
        block = CacheBlock(name)
        self.blocks[id(block)] = block
        return block

    def move(self, source: CacheBlock, target: CacheBlock) -> None:
        """Append all entries of source to target, and empty source; see :meth:`Engine.move`."""
        count, offset = len(source), len(target)
        if not count:
            return
        angles = self._angles(offset)
        try:
            self.pool.extend(target._runs, count)
        except (CacheFullError, RuntimeError, MemoryError):  # torch's own is a RuntimeError
            self._copy(source._runs, 0, source._runs, 0, count, angles)
            target._runs += source._runs
            source._runs = []
        else:
            try:
                self._copy(source._runs, 0, target._runs, offset, count, angles)
            except BaseException:
                self.pool.shrink(target._runs, offset)
                raise
            self.pool.shrink(source._runs, 0)
        target._tokens += source._tokens
        source._tokens = []

    def fork(self, block: CacheBlock, name: str) -> CacheBlock:
        """Return a new block with a copy of the entries.

        Raises:
            CacheFullError: the budget has no room for the copy.
        """
        twin = self.block(name)
        try:
            self.pool.extend(twin._runs, len(block))
            self._copy(block._runs, 0, twin._runs, 0, len(block), None)
        except BaseException:
            self.free(twin)
            raise
        twin._tokens = list(block._tokens)
        return twin

    def truncate(self, block: CacheBlock, length: int) -> None:
        """Drop the entries beyond the first ``length``."""
        self.pool.shrink(block._runs, length)
        del block._tokens[length:]

    def free(self, block: CacheBlock) -> None:
        """Give back the memory of a block, which lives no longer."""
        self.pool.shrink(block._runs, 0)
        block._tokens = []
        block._alive = False
        del self.blocks[id(block)]

    def clear(self) -> None:
        """Let no block live, and keep no memory."""
        for block in list(self.blocks.values()):  # others may make some meanwhile
            block._alive = False
            block._runs = []
        self.blocks.clear()
        self._reserved = ()
        self.pool = Pool(self.pool.shapes, self.pool.max_tokens)

    # -- keys and values

    def _copy(
        self,
        source: Sequence[Run],
        source_from: int,
        target: Sequence[Run],
        target_from: int,
        count: int,
        angles: Mapping[tuple[Rope, torch.device], Angles] | None,
    ) -> None:
        """Copy entries between runs, all keys turned alike; source and target may be the same.

        All is computed before anything is written, so that a failure changes nothing.
        """
        done = 0
        writes: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            while done < count:
                here = pieces(source, source_from + done, source_from + count)[0]
                there = pieces(target, target_from + done, target_from + count)[0]
                size = min(here[2] - here[1], there[2] - there[1])
                take, give = slice(here[1], here[1] + size), slice(there[1], there[1] + size)
                keys = [states[:, take] for states in here[0].keys]
                if angles:
                    self._turn(keys, angles)
                values = [states[:, take] for states in here[0].values]
                writes += zip((to[:, give] for to in there[0].keys), keys, strict=True)
                writes += zip((to[:, give] for to in there[0].values), values, strict=True)
                done += size
            for to, states in writes:
                to.copy_(states)

    def _turn(self, keys: list[Tensor], angles: Mapping[tuple[Rope, torch.device], Angles]) -> None:
        """Turn some slots' keys, [kv_heads, slots, key_dim] of each layer; like layers together."""
        for (rope, shape), layers in self._adapter.turning.items():
            most = max(1, _TOGETHER // keys[layers[0]].numel())
            for first in range(0, len(layers), most):
                some = layers[first : first + most]
                joined = torch.cat([keys[layer] for layer in some])
                turned = rope.turn(joined, angles[rope, shape.device])
                for layer, states in zip(some, torch.split(turned, shape.kv_heads), strict=True):
                    keys[layer] = states

    def _angles(self, offset: int) -> dict[tuple[Rope, torch.device], Angles]:
        """Return the angles of each rope, [1, pairs], on each device that has layers with it."""
        places = {(rope, shape.device) for rope, shape in self._adapter.turning}
        offsets = torch.full((1,), offset, device=self._device)
        with torch.no_grad():
            angles = {rope: rope.table.angles(offsets) for rope, _ in places}
            return {(rope, place): to_device(angles[rope], place) for rope, place in places}


def _budget(
    shapes: Sequence[LayerShape], max_tokens: int | None, max_bytes: int | None
) -> int | None:
    budgets = [] if max_tokens is None else [max_tokens]
    if max_bytes is not None:
        per_token = sum(shape.bytes_per_token for shape in shapes)
        if max_bytes < per_token:
            raise ConfigError(
                f"max_bytes is {max_bytes}, but one token of this model takes {per_token} bytes."
            )
        budgets.append(max_bytes // per_token)
    return min(budgets) if budgets else None
