"""Contents: blocks filled with random keys and values, without a prefill, and read back.

The one module here that reaches into the cache of an engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hogwild_agents.engine import CacheBlock, Engine
from hogwild_agents.engine.pool import pieces
from hogwild_agents.engine.rope import Angles, Rope

States = tuple[Tensor, Tensor]
"""Keys and values of one layer, [kv_heads, tokens, dim] each."""


@dataclass(frozen=True)
class Contents:
    """What N workers have in the cache: one block that all see, and one of each worker's own.

    Attributes:
        shared: the prompt with the history.
        own: one block a worker.
    """

    shared: CacheBlock
    own: tuple[CacheBlock, ...]

    @property
    def blocks(self) -> tuple[CacheBlock, ...]:
        """All of them."""
        return (self.shared, *self.own)

    @property
    def views(self) -> list[list[CacheBlock]]:
        """What each worker sees, in order: the shared block, the others', its own."""
        return [
            [self.shared, *(other for other in self.own if other is not block), block]
            for block in self.own
        ]


def fill_cache(engine: Engine, workers: int, shared: int, own: int, seed: int = 0) -> Contents:
    """Return new blocks of random keys and values: ``shared`` tokens, and ``own`` a worker.

    Raises:
        CacheFullError: the engine's budget has no room.
    """
    contents = Contents(
        engine.block("shared"), tuple(engine.block(f"own {n}") for n in range(workers))
    )
    generator = torch.Generator(engine.device).manual_seed(seed)
    for number, block in enumerate(contents.blocks):
        fill_block(engine, block, own if number else shared, generator)
    return contents


def free_cache(engine: Engine, contents: Contents) -> None:
    """Give the blocks back."""
    for block in contents.blocks:
        engine.free(block)


def fill_block(engine: Engine, block: CacheBlock, count: int, generator: torch.Generator) -> None:
    """Append random keys and values of ``count`` tokens to a block.

    Raises:
        CacheFullError: the engine's budget has no room.
    """
    engine._cache.pool.extend(block._runs, count)
    block._tokens += [(7919 * place + 13) % engine.vocab_size for place in range(count)]
    with torch.no_grad():
        for slab, start, stop in pieces(block._runs, 0, count):
            for states in (*slab.keys, *slab.values):
                states[:, start:stop].normal_(generator=generator)


def read_block(engine: Engine, block: CacheBlock) -> list[States]:
    """Return a copy of a block's keys and values, layer by layer, at block-local positions."""
    parts = pieces(block._runs, 0, len(block))
    return [
        (
            torch.cat([slab.keys[layer][:, start:stop] for slab, start, stop in parts], 1),
            torch.cat([slab.values[layer][:, start:stop] for slab, start, stop in parts], 1),
        )
        for layer in range(len(engine.adapter.layers))
    ]


class Turner:
    """Turns keys as one engine's model would have them at other positions."""

    def __init__(self, engine: Engine) -> None:
        self._layers = engine.adapter.layers
        self._device = engine.device

    def rope(self, layer: int) -> Rope | None:
        """Return the rotation of a layer, if it has one."""
        return self._layers[layer].rope

    def angles(self, rope: Rope, offsets: Sequence[int]) -> Angles:
        """Return the angles by which so many positions turn."""
        return rope.table.angles(torch.tensor(offsets, device=self._device))

    def turn(self, layer: int, keys: Tensor, offset: int) -> Tensor:
        """Return keys [kv_heads, tokens, key_dim] turned on by ``offset`` positions."""
        rope = self.rope(layer)
        if rope is None or not offset:
            return keys
        return rope.turn(keys, self.angles(rope, [offset]))


def read_view(engine: Engine, view: Sequence[CacheBlock]) -> list[States]:
    """Return keys and values of a view as those of one text, at view positions 0 to T-1."""
    turner = Turner(engine)
    layers: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in engine.adapter.layers]
    origin = 0
    with torch.no_grad():
        for block in view:
            for layer, (keys, values) in enumerate(read_block(engine, block)):
                layers[layer][0].append(turner.turn(layer, keys, origin))
                layers[layer][1].append(values)
            origin += len(block)
        return [(torch.cat(keys, 1), torch.cat(values, 1)) for keys, values in layers]
