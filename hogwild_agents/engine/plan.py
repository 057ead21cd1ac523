"""Plan: one tick worked out in integers, before any layer runs.

All tokens of all feeds are packed into one row; the position of a token is its place in its own
block. For each entry of each view the plan knows by how much the feed's queries must be rotated
further, and it groups the readers of every stretch of the cache, so that a layer reads each
stretch once for all the feeds that see it. Built once per tick and used by every layer; layers
that see differently far have readings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from operator import index

import torch
from torch import Tensor

from hogwild_agents.engine.adapter import Adapter, QueryScale
from hogwild_agents.engine.block import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.engine.pool import LayerShape, Pool, Slab, pieces
from hogwild_agents.engine.reach import Reach
from hogwild_agents.engine.rope import Angles, Rope, to_device
from hogwild_agents.engine.schedule import (
    Part,
    Schedule,
    Tuning,
    lay_out,
    parts_of,
    tuning_of,
)
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
    """Neighbouring slots, and the rows of the query table that read them.

    Attributes:
        mask: [rows, size] float32, 0 where the row sees the slot and -inf where it does not; None
            where all see all.
    """

    slab: Slab
    start: int
    size: int
    first_row: int
    rows: int
    mask: Tensor | None

    def folded_mask(self, group: int) -> Tensor | None:
        """Return the mask for ``group`` heads side by side, [rows * group, size]."""
        return None if self.mask is None else self.mask.repeat_interleave(group, 0)


@dataclass
class OwnPart:
    """The tokens ``first`` to ``last`` of the tick that attend to each other causally.

    Attributes:
        mask: [tokens, tokens] float32 where a token's reach ends within the part, else None.
    """

    first: int
    last: int
    mask: Tensor | None


@dataclass
class Write:
    """Where the new keys and values go: slots of one slab, from tokens of the tick."""

    slab: Slab
    slots: Tensor  # [count], int64
    tokens: Tensor | None  # [count], int64; None for all of them

    def on(self, device: torch.device) -> Write:
        """Return the same with its tensors on a device."""
        tokens = None if self.tokens is None else self.tokens.to(device)
        return Write(self.slab, self.slots.to(device), tokens)

    def store(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write the keys and values [kv_heads, T, dim] of all the tick's tokens in a layer."""
        if self.tokens is not None:
            keys, values = keys.index_select(1, self.tokens), values.index_select(1, self.tokens)
        self.slab.keys[layer].index_copy_(1, self.slots, keys)
        self.slab.values[layer].index_copy_(1, self.slots, values)


@dataclass
class Reading:
    """How the layers of one reach read the cache. Tensors lie on the engine's device.

    Attributes:
        query_rows: [R] which token each row of the query table is made of; a token has one row
            for each entry of its view. Rows of one stretch are neighbours.
        offsets: [R] by how many positions each row turns further.
        stretches: what is read from the cache.
        own_parts: feeds of several tokens, which attend causally to each other.
        merge: [T, S] which partial results belong to each token; padded with the index of an
            empty partial.
        regular: whether the partial results s of all tokens follow each other, for each s: that
            of token t is number s * T + t, as where all tokens read all stretches.
    """

    query_rows: Tensor
    offsets: Tensor
    stretches: list[Stretch]
    own_parts: list[OwnPart]
    merge: Tensor
    regular: bool

    def on(self, device: torch.device) -> Reading:
        """Return the same with its tensors on a device."""
        return Reading(
            query_rows=self.query_rows.to(device),
            offsets=self.offsets.to(device),
            stretches=[
                stretch if stretch.mask is None else replace(stretch, mask=stretch.mask.to(device))
                for stretch in self.stretches
            ],
            own_parts=[
                part if part.mask is None else replace(part, mask=part.mask.to(device))
                for part in self.own_parts
            ],
            merge=self.merge.to(device),
            regular=self.regular,
        )


@dataclass
class Plan:
    """One tick. Tensors lie on the engine's device.

    Attributes:
        input_ids: [1, T] token ids of all feeds, one after another.
        position_ids: [1, T] block-local positions.
        view_positions: [T] those in the view of each token's feed.
        last: [feeds] index of the last token of each feed.
        writes: where keys and values go.
        readings: how layers read, by their reach.
        angles: by how much the rows of a reading turn further, by reach and rope.
        corrections: [T] factors on queries, by how they are scaled.
        schedule: for the layers that are left to the kernel, if there are any. If all are,
            ``writes``, ``readings`` and ``angles`` are empty.
    """

    input_ids: Tensor
    position_ids: Tensor
    view_positions: Tensor
    last: Tensor
    writes: list[Write]
    readings: dict[Reach, Reading]
    angles: dict[tuple[Reach, Rope], Angles]
    corrections: dict[QueryScale, Tensor]
    schedule: Schedule | None = None

    def on(self, device: torch.device) -> Plan:
        """Return what the layers on a device need, there; the model's own inputs stay."""
        return replace(
            self,
            writes=[write.on(device) for write in self.writes],
            readings={reach: reading.on(device) for reach, reading in self.readings.items()},
            angles={of: to_device(angles, device) for of, angles in self.angles.items()},
            corrections={of: factors.to(device) for of, factors in self.corrections.items()},
        )


@dataclass
class _Readers:
    """Who reads one range of one block: the tokens, how far their queries turn, from where on."""

    block: CacheBlock
    low: int
    high: int
    tokens: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)


@dataclass
class _Packed:
    """All feeds in one row."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    view_positions: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    rows: list[range] = field(default_factory=list)  # of each feed
    spans: list[list[_Span]] = field(default_factory=list)  # of each feed


_Span = tuple[CacheBlock, int, int, int]
"""A view entry: its block, its range (low, high), the view position of the block's entry 0."""


def build_plan(
    feeds: Sequence[Feed],
    adapter: Adapter,
    pool: Pool,
    device: torch.device,
    tuning: Callable[[LayerShape], Tuning | None] = tuning_of,
) -> Plan:
    """Work out one tick.

    The feeds were checked, and their blocks own the slots of the new tokens already (lengths do
    not count them yet).

    Args:
        feeds: of the tick.
        adapter: the model's layers.
        pool: where the blocks lie.
        device: where the model takes token ids.
        tuning: which layers are left to the kernel, and how work is cut for them.
    """
    fresh = {id(feed.block): len(feed.tokens) for feed in feeds}
    packed = _pack(feeds, fresh)
    positions = torch.tensor(packed.positions, device=device)
    view_positions = torch.tensor(packed.view_positions, device=device)
    cuts = {index: tuning(how.shape) for index, how in enumerate(adapter.layers)}
    left = {index: cut for index, cut in cuts.items() if cut is not None}
    by_torch = len(left) < len(adapter.layers)
    readings = {
        reach: _reading(packed, fresh, reach, device) for reach in adapter.reaches if by_torch
    }
    return Plan(
        input_ids=torch.tensor([packed.ids], device=device),
        position_ids=positions[None],
        view_positions=view_positions,
        last=torch.tensor(packed.last, device=device),
        writes=_writes(feeds, pool, device) if by_torch else [],
        readings=readings,
        angles={
            (reach, rope): rope.table.angles(readings[reach].offsets)
            for reach, rope in adapter.readings
            if rope is not None and by_torch
        },
        corrections={
            scale: scale.correction(view_positions, positions) for scale in adapter.scales
        },
        schedule=_schedule(feeds, packed, fresh, left, adapter, pool) if left else None,
    )


def _pack(feeds: Sequence[Feed], fresh: dict[int, int]) -> _Packed:
    packed = _Packed()
    ranges: dict[ViewEntry, tuple[CacheBlock, int, int]] = {}  # the same in all views of a tick
    for feed in feeds:
        first, count, length = len(packed.ids), len(feed.tokens), len(feed.block)
        spans = _spans(feed, fresh, ranges)
        origin = spans[-1][3]
        packed.ids += feed.tokens
        packed.positions += range(length, length + count)
        packed.view_positions += range(origin + length, origin + length + count)
        packed.last.append(first + count - 1)
        packed.rows.append(range(first, first + count))
        packed.spans.append(spans)
    return packed


def _spans(
    feed: Feed, fresh: dict[int, int], ranges: dict[ViewEntry, tuple[CacheBlock, int, int]]
) -> list[_Span]:
    """Lay out a feed's view; ``ranges`` is filled with what its entries show."""
    spans = []
    length = 0
    for entry in feed.view:
        if entry not in ranges:
            block = entry_block(entry)
            ranges[entry] = block, *entry_range(entry, fresh.get(id(block), 0))
        block, low, high = ranges[entry]
        spans.append((block, low, high, length - low))
        length += high - low
    return spans


def _reading(packed: _Packed, fresh: dict[int, int], reach: Reach, device: torch.device) -> Reading:
    readers: dict[tuple[int, int, int], _Readers] = {}
    lowest = [reach.lowest(position) for position in packed.view_positions]
    for spans, rows in zip(packed.spans, packed.rows, strict=True):
        _add_readers(readers, spans, rows, fresh, lowest)
    own_parts = [
        OwnPart(rows.start, rows.stop, _own_mask(packed, rows, lowest, device))
        for rows in packed.rows
        if len(rows) > 1
    ]
    return _laid_out(readers.values(), own_parts, len(packed.ids), device)


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
    spans: list[_Span],
    rows: range,
    fresh: dict[int, int],
    lowest: list[int],
) -> None:
    """Enter a feed's tokens as readers of everything in their view that they reach."""
    own_origin, last = spans[-1][3], len(spans) - 1
    for number, (block, low, high, origin) in enumerate(spans):
        ranges = [(low, high)]
        if fresh.get(id(block), 0) > 1:
            # Cut where the new tokens begin, so that all feeds share the old part; those of the
            # feed itself are seen causally, from this tick's own keys.
            cut = len(block)
            old, new = (low, min(high, cut)), (max(low, cut), high)
            ranges = [old] if number == last else [old, new]
        for start, stop in ranges:
            if start >= stop:
                continue
            entered = readers.get((id(block), start, stop))
            for row in rows:
                first = lowest[row] - origin
                if first < stop:
                    if entered is None:
                        entered = readers[id(block), start, stop] = _Readers(block, start, stop)
                    entered.tokens.append(row)
                    entered.offsets.append(own_origin - origin)
                    entered.firsts.append(max(start, first))


def _laid_out(
    readers: Iterable[_Readers],
    own_parts: list[OwnPart],
    count: int,
    device: torch.device,
) -> Reading:
    """Lay out the query table, and number the partial results of each token."""
    stretches: list[Stretch] = []
    tokens: list[int] = []
    offsets: list[int] = []
    seen_by: list[list[int]] = [[] for _ in range(count)]
    partial = 0
    for who in readers:
        entry, rows, first_row = who.low, 0, 0
        for slab, start, stop in pieces(who.block._runs, who.low, who.high):
            end = entry + stop - start
            seeing = [n for n, first in enumerate(who.firsts) if first < end]
            if len(seeing) > rows:  # later pieces are seen by the same rows or by more
                first_row, rows = len(tokens), len(seeing)
                tokens += [who.tokens[n] for n in seeing]
                offsets += [who.offsets[n] for n in seeing]
            if seeing:
                firsts = [max(who.firsts[n], entry) for n in seeing]
                skipped = min(firsts) - entry
                mask = _reach_mask(firsts, entry + skipped, end, device)
                size = stop - start - skipped
                stretches.append(Stretch(slab, start + skipped, size, first_row, rows, mask))
                for n in seeing:
                    seen_by[who.tokens[n]].append(partial)
                    partial += 1
            entry = end
    for part in own_parts:
        for token in range(part.first, part.last):
            seen_by[token].append(partial)
            partial += 1
    return Reading(
        query_rows=torch.tensor(tokens, dtype=torch.int64, device=device),
        offsets=torch.tensor(offsets, dtype=torch.int64, device=device),
        stretches=stretches,
        own_parts=own_parts,
        merge=_merge_table(seen_by, device),
        regular=partial % count == 0
        and all(
            numbers == list(range(token, partial, count)) for token, numbers in enumerate(seen_by)
        ),
    )


def _reach_mask(firsts: list[int], low: int, high: int, device: torch.device) -> Tensor | None:
    """Return [rows, high - low], -inf before each row's first entry, else 0; None if all 0."""
    if max(firsts) == low:
        return None
    entries = torch.arange(low, high, device=device)
    hidden = entries[None] < torch.tensor(firsts, device=device)[:, None]
    return torch.zeros(hidden.shape, device=device).masked_fill(hidden, float("-inf"))


def _own_mask(
    packed: _Packed, rows: range, lowest: list[int], device: torch.device
) -> Tensor | None:
    """Return who sees whom among the tokens of one feed, where not all before are seen."""
    if lowest[rows[-1]] <= packed.view_positions[rows[0]]:
        return None
    places = torch.tensor([packed.view_positions[row] for row in rows], device=device)
    first = torch.tensor([lowest[row] for row in rows], device=device)
    hidden = (places[None] > places[:, None]) | (places[None] < first[:, None])
    return torch.zeros(hidden.shape, device=device).masked_fill(hidden, float("-inf"))


def _schedule(
    feeds: Sequence[Feed],
    packed: _Packed,
    fresh: dict[int, int],
    layers: Mapping[int, Tuning],
    adapter: Adapter,
    pool: Pool,
) -> Schedule:
    """Lay out the tick for the kernel."""
    slots = [(slab, slot) for slab, low, high in _fresh(feeds) for slot in range(low, high)]
    reaches = dict.fromkeys(adapter.layers[index].reach for index in layers)
    parts = {reach: _parts(packed, fresh, reach) for reach in reaches}
    return lay_out(layers, adapter, parts, slots, pool.slabs)


def _parts(packed: _Packed, fresh: dict[int, int], reach: Reach) -> list[Part]:
    """Return what is read, and by which rows; of a feed's own new tokens each up to itself."""
    readers: dict[tuple[int, int, int], _Readers] = {}
    parts: list[Part] = []
    lowest = [reach.lowest(position) for position in packed.view_positions]
    for spans, rows in zip(packed.spans, packed.rows, strict=True):
        _add_readers(readers, spans, rows, fresh, lowest)
        block, low, high, origin = spans[-1]
        if len(rows) > 1:
            cut = max(low, high - len(rows))
            own = [
                (row, 0, max(cut, lowest[row] - origin), high - len(rows) + number)
                for number, row in enumerate(rows)
            ]
            parts += parts_of(pieces(block._runs, cut, high), cut, own)
    for who in readers.values():
        lasts = repeat(who.high - 1)
        reading = zip(who.tokens, who.offsets, who.firsts, lasts, strict=False)
        parts += parts_of(pieces(who.block._runs, who.low, who.high), who.low, reading)
    return parts


def _fresh(feeds: Sequence[Feed]) -> Iterator[tuple[Slab, int, int]]:
    """Yield where the new tokens of all feeds go, in their order, as (slab, start, stop)."""
    for feed in feeds:
        length = len(feed.block)
        yield from pieces(feed.block._runs, length, length + len(feed.tokens))


def _writes(feeds: Sequence[Feed], pool: Pool, device: torch.device) -> list[Write]:
    slots: dict[int, tuple[list[int], list[int]]] = {}
    slabs = {id(slab): slab for slab in pool.slabs}
    token = 0
    for slab, start, stop in _fresh(feeds):
        to, source = slots.setdefault(id(slab), ([], []))
        to += range(start, stop)
        source += range(token, token + stop - start)
        token += stop - start
    return [
        Write(
            slabs[key],
            torch.tensor(to, device=device),
            torch.tensor(source, device=device) if len(slots) > 1 else None,
        )
        for key, (to, source) in slots.items()
    ]


def _merge_table(seen_by: list[list[int]], device: torch.device) -> Tensor:
    """Return [T, S] partial numbers, padded with the number after the last one."""
    empty = sum(map(len, seen_by))
    width = max(map(len, seen_by))
    padded = [numbers + [empty] * (width - len(numbers)) for numbers in seen_by]
    return torch.tensor(padded, device=device)
