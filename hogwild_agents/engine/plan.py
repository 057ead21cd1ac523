"""Plan: one tick worked out in integers, before any layer runs.

All tokens of all feeds are packed into one row; the position of a token is its place in its own
block. For each entry of each view the plan knows by how much the feed's queries must be rotated
further, and it groups the readers of every stretch of the cache, so that a layer reads each
stretch once for all the feeds that see it. Built once per tick and used by every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index

import torch
from torch import Tensor

from hogwild_agents.engine.block import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.engine.pool import Pool, Slab, pieces
from hogwild_agents.engine.rope import Rope
from hogwild_agents.errors import FeedError


@dataclass(frozen=True, eq=False)
class Feed:
    """What one worker hands in for a tick.

    Attributes:
        block: the block that is written.
        view: the blocks (or slices) this feed attends to, in order; the last one is ``block``.
        tokens: the token ids to append, at least one; kept as plain integers.

    Raises:
        FeedError: a token is no integer.
    """

    block: CacheBlock
    view: Sequence[ViewEntry]
    tokens: Sequence[int]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "tokens", tuple(map(index, self.tokens)))
        except TypeError as error:
            raise FeedError(
                f"The feed for {self.block!r} holds tokens that are no integers ({error}): give a "
                "sequence of token ids."
            ) from error


@dataclass
class Stretch:
    """Neighbouring slots, and the rows of the query table that read them."""

    slab: Slab
    start: int
    size: int
    first_row: int
    rows: int


@dataclass
class OwnPart:
    """The tokens ``first`` to ``last`` of the tick that attend to each other causally."""

    first: int
    last: int


@dataclass
class Write:
    """Where the new keys and values go: slots of one slab, from tokens of the tick."""

    slab: Slab
    slots: Tensor  # [count], int64
    tokens: Tensor  # [count], int64


@dataclass
class Plan:
    """One tick. Tensors lie on the engine's device.

    Attributes:
        input_ids: [1, T] token ids of all feeds, one after another.
        position_ids: [1, T] block-local positions.
        last: [feeds] index of the last token of each feed.
        writes: where keys and values go.
        query_rows: [R] which token each row of the query table is made of; a token has one row
            for each entry of its view. Rows of one stretch are neighbours.
        angles: cos and sin that rotate each row further, [1, R, rotary_dim].
        stretches: what is read from the cache.
        own_parts: feeds of several tokens, which attend causally to each other.
        merge: [T, S] which partial results belong to each token; padded with the index of an
            empty partial.
    """

    input_ids: Tensor
    position_ids: Tensor
    last: Tensor
    writes: list[Write]
    query_rows: Tensor
    angles: tuple[Tensor, Tensor]
    stretches: list[Stretch]
    own_parts: list[OwnPart]
    merge: Tensor
    rope: Rope


@dataclass
class _Readers:
    """Who reads one range of one block: the tokens, and how far their queries turn."""

    tokens: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


def build_plan(feeds: Sequence[Feed], rope: Rope, pool: Pool, device: torch.device) -> Plan:
    """Work out one tick.

    The feeds were checked, and their blocks own the slots of the new tokens already (lengths do
    not count them yet).
    """
    fresh = {id(feed.block): len(feed.tokens) for feed in feeds}
    readers: dict[tuple[int, int, int], _Readers] = {}
    blocks = {id(entry_block(e)): entry_block(e) for feed in feeds for e in feed.view}
    own_parts: list[OwnPart] = []
    ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    for feed in feeds:
        first = len(ids)
        ids += feed.tokens
        positions += range(len(feed.block), len(feed.block) + len(feed.tokens))
        last.append(len(ids) - 1)
        rows = range(first, len(ids))
        if len(rows) > 1:
            own_parts.append(OwnPart(first, len(ids)))
        _add_readers(readers, feed, rows, fresh)

    stretches, tokens, offsets, seen_by = _stretches(readers, blocks, own_parts, len(ids))
    return Plan(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        last=torch.tensor(last, device=device),
        writes=_writes(feeds, pool, device),
        query_rows=torch.tensor(tokens, dtype=torch.int64, device=device),
        angles=rope.angles(torch.tensor(offsets, dtype=torch.int64, device=device)),
        stretches=stretches,
        own_parts=own_parts,
        merge=_merge_table(seen_by, device),
        rope=rope,
    )


def entry_block(entry: ViewEntry) -> CacheBlock:
    """Return the block that a view entry names."""
    return entry.block if isinstance(entry, BlockSlice) else entry


def entry_range(entry: ViewEntry, fresh: int) -> tuple[int, int]:
    """Return the entries (low, high) of its block that a view entry shows in this tick.

    Args:
        entry: the view entry.
        fresh: how many tokens the block gains in this tick.
    """
    end = len(entry_block(entry)) + fresh
    if isinstance(entry, BlockSlice):
        return entry.start, end if entry.stop is None else entry.stop
    return 0, end


def _add_readers(
    readers: dict[tuple[int, int, int], _Readers],
    feed: Feed,
    rows: range,
    fresh: dict[int, int],
) -> None:
    """Enter the feed as a reader of everything in its view."""
    spans = []
    length = 0
    for entry in feed.view:
        block = entry_block(entry)
        low, high = entry_range(entry, fresh.get(id(block), 0))
        spans.append((block, low, high, length - low))
        length += high - low
    own_origin = spans[-1][3]  # view position of the own block's entry 0
    for number, (block, low, high, origin) in enumerate(spans):
        gained = fresh.get(id(block), 0)
        cut = len(block)
        ranges = [(low, high)]
        if gained > 1:  # cut where the new tokens begin, so that all feeds share the old part
            ranges = [(low, min(high, cut)), (max(low, cut), high)]
            if number == len(spans) - 1:
                ranges.pop()  # seen causally, from this tick's own keys
        for part in ranges:
            if part[0] < part[1]:
                entry_readers = readers.setdefault((id(block), *part), _Readers())
                entry_readers.tokens += rows
                entry_readers.offsets += [own_origin - origin] * len(rows)


def _stretches(
    readers: dict[tuple[int, int, int], _Readers],
    blocks: dict[int, CacheBlock],
    own_parts: list[OwnPart],
    count: int,
) -> tuple[list[Stretch], list[int], list[int], list[list[int]]]:
    """Lay out the query table, and number the partial results of each token."""
    stretches: list[Stretch] = []
    tokens: list[int] = []
    offsets: list[int] = []
    seen_by: list[list[int]] = [[] for _ in range(count)]
    partial = 0
    for (block, low, high), who in readers.items():
        first = len(tokens)
        tokens += who.tokens
        offsets += who.offsets
        for slab, start, stop in pieces(blocks[block]._runs, low, high):
            stretches.append(Stretch(slab, start, stop - start, first, len(who.tokens)))
            for token in who.tokens:
                seen_by[token].append(partial)
                partial += 1
    for part in own_parts:
        for token in range(part.first, part.last):
            seen_by[token].append(partial)
            partial += 1
    return stretches, tokens, offsets, seen_by


def _writes(feeds: Sequence[Feed], pool: Pool, device: torch.device) -> list[Write]:
    slots: dict[int, tuple[list[int], list[int]]] = {}
    slabs = {id(slab): slab for slab in pool.slabs}
    token = 0
    for feed in feeds:
        length = len(feed.block)
        for slab, start, stop in pieces(feed.block._runs, length, length + len(feed.tokens)):
            to, source = slots.setdefault(id(slab), ([], []))
            to += range(start, stop)
            source += range(token, token + stop - start)
            token += stop - start
    return [
        Write(slabs[key], torch.tensor(to, device=device), torch.tensor(source, device=device))
        for key, (to, source) in slots.items()
    ]


def _merge_table(seen_by: list[list[int]], device: torch.device) -> Tensor:
    """Return [T, S] partial numbers, padded with the number after the last one."""
    empty = sum(map(len, seen_by))
    width = max(map(len, seen_by))
    padded = [numbers + [empty] * (width - len(numbers)) for numbers in seen_by]
    return torch.tensor(padded, device=device)
