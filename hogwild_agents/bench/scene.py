"""Scene: the attention of one tick without a model: blocks of random keys, and feeds that see them.

Everything in it but the numbers is the engine's own: the pool, the plan, the adapter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine.adapter import Adapter, LayerAdapter
from hogwild_agents.engine.attention import TickAttention
from hogwild_agents.engine.block import CacheBlock
from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.plan import Plan, build_plan
from hogwild_agents.engine.pool import LayerShape, Pool, pieces
from hogwild_agents.engine.reach import FULL, Reach
from hogwild_agents.engine.rope import Pairing, Rope, Table
from hogwild_agents.engine.schedule import Tuning


@dataclass(frozen=True, kw_only=True)
class Case:
    """What attends to what.

    Attributes:
        heads, kv_heads, key_dim, value_dim, dtype: of each layer.
        turning: how many dimensions of a head turn; 0 for none.
        pairing: which two turn together.
        start: the first dimension that turns.
        reach: how far back a query sees.
        sinks: whether heads have sinks.
        softcap: of the scores.
        workers: who feed at once; each sees all blocks, its own last.
        shared: tokens of the block that all share.
        own: tokens of each worker's own block.
        fed: tokens that the workers feed, by turns.
        layers: how many there are.
    """

    heads: int = 8
    kv_heads: int = 2
    key_dim: int = 64
    value_dim: int = 64
    dtype: torch.dtype = torch.float32
    turning: int = 64
    pairing: Pairing = "halves"
    start: int = 0
    reach: Reach = FULL
    sinks: bool = False
    softcap: float | None = None
    workers: int = 2
    shared: int = 100
    own: int = 20
    fed: tuple[int, ...] = (1,)
    layers: int = 1

    @property
    def layer_bytes(self) -> int:
        """Bytes of a token's key and value in one layer."""
        return self.kv_heads * (self.key_dim + self.value_dim) * self.dtype.itemsize


class Scene:
    """A case with random numbers in it, of which those of equal cases are equal.

    Args:
        case: what is in it.
        device: where.
        seed: of the numbers.
    """

    def __init__(self, case: Case, device: torch.device, seed: int = 0) -> None:
        self.case, self.device = case, torch.empty(0, device=device).device  # with its number
        self._random = torch.Generator(device).manual_seed(seed)
        self.adapter = Adapter(tuple(self._layer() for _ in range(1)) * case.layers)
        self.pool = Pool(self.adapter.shapes, None)
        shared = self._block("shared", case.shared)
        own = [self._block(f"own {number}", case.own) for number in range(case.workers)]
        self.blocks = [shared, *own] if case.shared else own
        self.feeds = []
        for number, block in enumerate(own):
            others = [other for other in own if other is not block]
            tokens = [0] * case.fed[number % len(case.fed)]
            self.feeds.append(Feed(block, [shared, *others, block], tokens))
        self.open_tick()
        count = sum(len(feed.tokens) for feed in self.feeds)
        self.query = self._normal(1, case.heads, count, case.key_dim)
        self.key = self._normal(1, case.kv_heads, count, case.key_dim)
        self.value = self._normal(1, case.kv_heads, count, case.value_dim)

    @property
    def scale(self) -> float:
        """The factor of the scores."""
        return 1 / math.sqrt(self.case.key_dim)

    def open_tick(self) -> None:
        """Give the feeds' blocks the slots of their new tokens."""
        for feed in self.feeds:
            self.pool.extend(feed.block._runs, len(feed.tokens))

    def next_tick(self) -> None:
        """Let the blocks grow by what was fed, and open the next tick, with the same feeds."""
        for feed in self.feeds:
            feed.block._tokens += feed.tokens
        self.open_tick()

    def plan(self, tuning: Tuning | None) -> Plan:
        """Return the tick's plan, for the kernel or, without a tuning, for torch."""
        return build_plan(self.feeds, self.adapter, self.pool, self.device, lambda shape: tuning)

    def by_torch(self) -> Tensor:
        """Store the new keys in the first layer, and attend there as the engine does by torch.

        Returns:
            [T, heads, value_dim].
        """
        attention, layer = (
            TickAttention(self.plan(None), self.adapter),
            SimpleNamespace(layer_idx=0),
        )
        given: Any = (layer, self.query, self.key, self.value, self.scale, {})
        return attention.attend(*given)[0]

    def precise(self) -> Scene:
        """Return the first layer of the same scene in float32, from the same rounded numbers."""
        twin = Scene(replace(self.case, dtype=torch.float32, layers=1), self.device)
        while len(twin.feeds[0].block) < len(self.feeds[0].block):
            twin.next_tick()
        for mine, theirs in zip(self.blocks, twin.blocks, strict=True):
            for to, source in zip(_first_layer(theirs), _first_layer(mine), strict=True):
                sizes = [piece.shape[1] for piece in to]  # perhaps others than here
                numbers = torch.split(torch.cat(source, 1), sizes, 1)
                for piece, part in zip(to, numbers, strict=True):
                    piece.copy_(part)
        twin.query, twin.key, twin.value = (
            states.float() for states in (self.query, self.key, self.value)
        )
        twin.adapter = Adapter(
            (replace(twin.adapter.layers[0], sinks=self.adapter.layers[0].sinks),)
        )
        return twin

    def _layer(self) -> LayerAdapter:
        case = self.case
        rope = None
        if case.turning:
            table = Table.of(_Rotary(case.turning), (1,), {}, self.device)
            rope = Rope(table, case.pairing, case.start)
        return LayerAdapter(
            heads=case.heads,
            shape=LayerShape(case.kv_heads, case.key_dim, case.value_dim, case.dtype, self.device),
            rope=rope,
            reach=case.reach,
            sinks=self._normal(case.heads) if case.sinks else None,
            softcap=case.softcap,
        )

    def _block(self, name: str, count: int) -> CacheBlock:
        block = CacheBlock(name)
        self.pool.extend(block._runs, count)
        block._tokens += [0] * count
        for slab, start, stop in pieces(block._runs, 0, count):
            for states in (*slab.keys, *slab.values):
                states[:, start:stop].normal_(generator=self._random)
        return block

    def _normal(self, *shape: int) -> Tensor:
        numbers = torch.empty(shape, dtype=self.case.dtype, device=self.device)
        return numbers.normal_(generator=self._random)


def _first_layer(block: CacheBlock) -> tuple[list[Tensor], list[Tensor]]:
    """Return the keys and the values of a block, each piece by piece, [kv_heads, slots, dim]."""
    found = [(run.slab, slice(run.start, run.stop)) for run in block._runs]
    keys = [slab.keys[0][:, slots] for slab, slots in found]
    return keys, [slab.values[0][:, slots] for slab, slots in found]


class _Rotary(nn.Module):
    """Angles as in Llama."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self._dimensions = dimensions

    def forward(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        powers = torch.arange(0, self._dimensions, 2, device=positions.device) / self._dimensions
        angles = positions[..., None].double() / 10000.0 ** powers.double()
        both = torch.cat((angles, angles), -1).float()
        return both.cos(), both.sin()
