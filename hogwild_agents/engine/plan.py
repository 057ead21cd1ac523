"""Plan: one tick worked out in integers, before any layer runs.

All tokens of all feeds are packed into one row; the position of a token is its place in its own
block. For each entry of each view the plan knows by how much the feed's queries must be rotated
further, and it groups the readers of every stretch of the cache, so that a layer reads each
stretch once for all the feeds that see it. Built once per tick and used by every layer; layers
that see differently far have readings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hogwild_agents.engine.adapter import Adapter, QueryScale
from hogwild_agents.engine.columns import Ints, all_on_device, filled, on_device
from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.pool import LayerShape, Pool, Slab, pieces
from hogwild_agents.engine.reach import Reach
from hogwild_agents.engine.readers import Packed, Readers, own_readers, pack, readers
from hogwild_agents.engine.rope import Angles, Rope, to_device
from hogwild_agents.engine.schedule import (
    Schedule,
    Tuning,
    lay_out,
    parts_of,
    slots_of,
    tuning_of,
)


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
        tokens, feeds: how many there are; what the tick is filled up with stands behind them.
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
    tokens: int
    feeds: int
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

    def refill(self, other: Plan) -> None:
        """Take over what the model is given in another tick of as many tokens and feeds."""
        self.input_ids.copy_(other.input_ids)
        self.position_ids.copy_(other.position_ids)
        self.last.copy_(other.last)
        for scale, factors in self.corrections.items():
            factors.copy_(other.corrections[scale])


def build_plan(
    feeds: Sequence[Feed],
    adapter: Adapter,
    pool: Pool,
    device: torch.device,
    tuning: Callable[[LayerShape], Tuning | None] = tuning_of,
    fill: Callable[[int, int], tuple[int, int] | None] | None = None,
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
        fill: up to how many tokens and feeds a tick of so many is filled up, where all layers are
            left to the kernel; None for not at all. What is added stands behind the others, is
            stored nowhere and sees nothing.
    """
    left: dict[int, Tuning] = {}
    for alike in adapter.alike:
        cut = tuning(adapter.layers[alike[0]].shape)
        left |= dict.fromkeys(alike, cut) if cut else {}
    by_torch = len(left) < len(adapter.layers)
    packed = pack(feeds)
    last = packed.firsts + packed.counts - 1
    full = fill(len(packed.ids), len(feeds)) if fill and not by_torch else None
    tokens, rows = full or (len(packed.ids), len(feeds))
    columns = [
        filled(column, tokens) for column in (packed.ids, packed.positions, packed.view_positions)
    ]
    ids, positions, view_positions, last_tokens = all_on_device(
        (*columns, filled(last, rows)), device
    )
    readings = {reach: _reading(packed, reach, device) for reach in adapter.reaches if by_torch}
    return Plan(
        input_ids=ids[None],
        position_ids=positions[None],
        view_positions=view_positions,
        last=last_tokens,
        tokens=len(packed.ids),
        feeds=len(feeds),
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
        schedule=_schedule(feeds, packed, tokens, left, adapter, pool, roomy=full is not None)
        if left
        else None,
    )


def _reading(packed: Packed, reach: Reach, device: torch.device) -> Reading:
    lowest = reach.lowests(packed.view_positions)
    own_parts = [
        OwnPart(first, last, _own_mask(packed, slice(first, last), lowest, device))
        for feed in packed.several
        for first, last in [packed.tokens(feed)]
    ]
    return _laid_out(readers(packed, reach), own_parts, len(packed.ids), device)


def _laid_out(
    reading: Readers,
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
    for (block, low, high), found in reading.each():
        entry, rows, first_row = low, 0, 0
        for slab, start, stop in pieces(block._runs, low, high):
            end = entry + stop - start
            seeing = found[found[:, 2] < end]  # [n, 4]
            if len(seeing) > rows:  # later pieces are seen by the same rows or by more
                first_row, rows = len(tokens), len(seeing)
                tokens += seeing[:, 0].tolist()
                offsets += seeing[:, 1].tolist()
            if len(seeing):
                firsts = seeing[:, 2].clip(min=entry)
                skipped = int(firsts.min()) - entry
                mask = _reach_mask(firsts, entry + skipped, end, device)
                size = stop - start - skipped
                stretches.append(Stretch(slab, start + skipped, size, first_row, rows, mask))
                for token in seeing[:, 0].tolist():
                    seen_by[token].append(partial)
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


def _reach_mask(firsts: Ints, low: int, high: int, device: torch.device) -> Tensor | None:
    """Return [rows, high - low], -inf before each row's first entry, else 0; None if all 0."""
    if firsts.max() == low:
        return None
    entries = torch.arange(low, high, device=device)
    hidden = entries[None] < on_device(firsts, device)[:, None]
    return torch.zeros(hidden.shape, dtype=torch.float32, device=device).masked_fill(
        hidden, float("-inf")
    )


def _own_mask(packed: Packed, tokens: slice, lowest: Ints, device: torch.device) -> Tensor | None:
    """Return who sees whom among the tokens of one feed, where not all before are seen."""
    places, first = packed.view_positions[tokens], lowest[tokens]
    if first[-1] <= places[0]:
        return None
    seen, since = on_device(places, device), on_device(first, device)[:, None]
    hidden = (seen[None] > seen[:, None]) | (seen[None] < since)
    return torch.zeros(hidden.shape, dtype=torch.float32, device=device).masked_fill(
        hidden, float("-inf")
    )


def _schedule(
    feeds: Sequence[Feed],
    packed: Packed,
    tokens: int,
    layers: Mapping[int, Tuning],
    adapter: Adapter,
    pool: Pool,
    *,
    roomy: bool,
) -> Schedule:
    """Lay out the tick for the kernel, filled up to so many tokens."""
    slots = slots_of(_fresh(feeds), pool.slabs, tokens)
    reaches = dict.fromkeys(adapter.layers[index].reach for index in layers)
    ways = (own_readers, readers) if packed.several else (readers,)
    parts = {reach: parts_of([way(packed, reach) for way in ways], pool.slabs) for reach in reaches}
    return lay_out(layers, adapter, parts, slots, pool.slabs, roomy=roomy)


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
