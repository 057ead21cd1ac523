"""Schedule: one tick laid out for the kernel, in integers that reach the device in one transfer.

Every stretch of cache is read by *rows*: one for each token and view entry that shows it. Rows are
cut into tiles that one program can hold, and the tokens that a tile reads are dealt out over a
fixed number of programs, each getting about the same number. What a program does with one tile is
an *item*. How many items there are, and how far they go, stands in the tables, so a launch stays
the same from tick to tick while contexts grow.

All tables are sections of one tensor. A section has room for the next power of two of numbers, so
that its place stays the same for many ticks.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from hogwild_agents.engine import compiled
from hogwild_agents.engine.adapter import Adapter, LayerAdapter
from hogwild_agents.engine.compiled import KernelWarning
from hogwild_agents.engine.pool import LayerShape, Slab
from hogwild_agents.engine.reach import Reach

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What the kernel computes with."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How work is cut for a device. Nothing but speed depends on it.

    Attributes:
        kernel: whose the work is: Triton's on a GPU, or the compiled one of the CPU.
        programs: how many run at once, over all heads.
        grain: tokens, a power of two; work is dealt out in multiples of it.
        rows: at most so many rows of queries, over the heads of a group, in one tile.
        tile_bytes: of keys and values in fast memory at a time, at most.
        stages: how many tiles are under way at once.
        warps: of a program; None for what suits the tile.
    """

    kernel: Literal["gpu", "cpu"] = "gpu"
    programs: int
    grain: int = 64
    rows: int = 128
    tile_bytes: int = 32 << 10
    stages: int = 2
    warps: int | None = None


def tuning_of(shape: LayerShape) -> Tuning | None:
    """Return how work is cut for a layer that is left to a kernel; None if torch attends there.

    The kernels are for GPUs on which triton is installed, and for CPUs where numba is.
    """
    if shape.dtype not in DTYPES:
        return None
    if shape.device.type == "cpu":
        return _cpu_tuning(shape)
    return _tuning(shape.device) if shape.device.type == "cuda" else None


def _cpu_tuning(shape: LayerShape) -> Tuning | None:
    if shape.device.index or not compiled.works():  # there is but one CPU; others are make-believe
        return None
    threads = torch.get_num_threads()
    # A head is one thread's where that divides them evenly: then no thread waits for another.
    programs = threads if shape.kv_heads % threads == 0 else 4 * threads
    return Tuning(kernel="cpu", programs=programs)


@cache
def _tuning(device: torch.device) -> Tuning | None:
    if find_spec("triton") is None or _interprets():
        return None
    if torch.cuda.get_device_capability(device) < (8, 0):  # no products of bfloat16
        return None
    try:
        from hogwild_agents.engine.gpu_tick import try_out  # imports triton

        try_out(device)
    except Exception as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        warnings.warn(
            f"Triton's kernels do not run on {device} ({lines[0]}), so attention is left to torch, "
            "which is slower: see whether triton fits torch, and whether there is a C compiler.",
            KernelWarning,
            stacklevel=2,
        )
        return None
    return Tuning(programs=2 * torch.cuda.get_device_properties(device).multi_processor_count)


def _interprets() -> bool:
    """Whether Triton was told to interpret on the CPU, where no address of a GPU leads anywhere."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


Row = tuple[int, int, int, int]
"""A query that reads a stretch: of which token, turned how far, the first and the last slot that it
sees."""


@dataclass(frozen=True)
class Part:
    """Neighbouring slots of one slab, and the rows that read them."""

    slab: Slab
    rows: Sequence[Row]


def parts_of(
    found: Iterable[tuple[Slab, int, int]],
    entry: int,
    readers: Iterable[Row],
) -> Iterable[Part]:
    """Yield the parts of a block's range: one for each piece of memory in which it lies.

    Args:
        found: the pieces, as (slab, start, stop), in order.
        entry: the block's entry with which the first one begins.
        readers: who reads the range, with entries of the block for slots.
    """
    readers = list(readers)
    for slab, start, stop in found:
        end, shift = entry + stop - start, start - entry
        seeing = [
            (token, offset, max(first, entry) + shift, min(last, end - 1) + shift)
            for token, offset, first, last in readers
            if first < end and last >= entry
        ]
        if seeing:
            yield Part(slab, seeing)
        entry = end


@dataclass(frozen=True)
class Tile:
    """How many programs a layer has for each kv head, and how many rows one of them holds.

    Attributes:
        programs: for each kv head.
        rows: of the row table.
        block: of queries: ``rows`` times the heads of a group, up to a power of two.
        tuning: of the layer.
    """

    programs: int
    rows: int
    block: int
    tuning: Tuning

    @classmethod
    def of(cls, how: LayerAdapter, tuning: Tuning, rows: int) -> Tile:
        """Return what suits a layer of which no stretch is read by more than so many rows."""
        shape, group = how.shape, how.heads // how.shape.kv_heads
        numbers = 1 << (16 - shape.dtype.itemsize)  # of one tile, as registers hold them
        most = min(tuning.rows, numbers // power_of_two(max(shape.key_dim, shape.value_dim)))
        block = max(16, power_of_two(group), min(most, power_of_two(rows * group)))
        programs = -(-tuning.programs // shape.kv_heads)
        return cls(programs, block // group, block, tuning)


Kind = tuple[Reach, Tile]
"""Layers of one kind share their tables."""


@dataclass(frozen=True)
class Layout:
    """Where the tables of layers with one reach and one tile lie, as (start, stop).

    Attributes:
        items: eight numbers each: the slab's number, its size, first slot, slot after the last,
            first row, number of rows, number of the first partial result, 0.
        item_ends: [programs + 1] which items are a program's.
        rows: four numbers each: token, angle, first and last slot that it sees.
        partials: which partial results are a token's, token after token.
        partial_ends: [T + 1] which of them.
        room: of partial results.
    """

    items: tuple[int, int]
    item_ends: tuple[int, int]
    rows: tuple[int, int]
    partials: tuple[int, int]
    partial_ends: tuple[int, int]
    room: int


@dataclass(frozen=True)
class Schedule:
    """One tick for the kernel.

    Attributes:
        table: every section, int64, in the memory of the host.
        kinds: of the layers that are left to the kernel, by their indices.
        tokens: how many the tick has.
        layouts: the tables of each kind.
        offsets: where the different angles are, in positions by which a query turns.
        slots: where each token is stored: number of the slab, its size, slot.
        addresses: where the slabs lie, for each layer and slab its keys' and its values' address.
        slabs: for how many there is room.
    """

    table: Tensor
    kinds: dict[int, Kind]
    tokens: int
    layouts: dict[Kind, Layout]
    offsets: tuple[int, int]
    slots: tuple[int, int]
    addresses: tuple[int, int]
    slabs: int

    def fits(self, other: Schedule) -> bool:
        """Whether another tick has all its sections in the same places."""
        mine, theirs = (
            (one.kinds, one.tokens, one.layouts, one.offsets, one.slots, one.addresses)
            for one in (self, other)
        )
        return mine == theirs


def lay_out(
    layers: Mapping[int, Tuning],
    adapter: Adapter,
    parts: dict[Reach, list[Part]],
    slots: Sequence[tuple[Slab, int]],
    slabs: Sequence[Slab],
) -> Schedule:
    """Lay out a tick.

    Args:
        layers: which ones are left to the kernel, and how work is cut for them.
        adapter: what they are.
        parts: what the layers of each reach read, and by which rows.
        slots: where each token of the tick is stored.
        slabs: all there are.
    """
    numbers = {id(slab): number for number, slab in enumerate(slabs)}
    offsets: dict[int, int] = {}
    sections = _Sections()
    stored = [(numbers[id(slab)], slab.size, slot) for slab, slot in slots]
    slots_at = sections.add(number for triple in stored for number in triple)
    rows_at = {}
    most = {reach: max(len(part.rows) for part in parts[reach]) for reach in parts}
    kinds = {
        index: (how.reach, Tile.of(how, tuning, most[how.reach]))
        for index, tuning in layers.items()
        for how in (adapter.layers[index],)
    }
    for reach in dict.fromkeys(reach for reach, _ in kinds.values()):
        rows = (row for part in parts[reach] for row in part.rows)
        rows_at[reach] = sections.add(
            number
            for token, offset, first, last in rows
            for number in (token, offsets.setdefault(offset, len(offsets)), first, last)
        )
    layouts = {
        (reach, tile): _layout(sections, parts[reach], tile, numbers, rows_at[reach], len(slots))
        for reach, tile in dict.fromkeys(kinds.values())
    }
    offsets_at = sections.add(offsets)
    room = room_for(len(slabs))
    places = torch.zeros(len(adapter.layers), room, 2, dtype=torch.int64)
    for number, slab in enumerate(slabs):
        places[:, number] = slab.addresses
    table, places_at = sections.joined(places.flatten())
    return Schedule(table, kinds, len(slots), layouts, offsets_at, slots_at, places_at, room)


def _layout(
    sections: _Sections,
    parts: Sequence[Part],
    tile: Tile,
    numbers: dict[int, int],
    rows: tuple[int, int],
    tokens: int,
) -> Layout:
    items, ends = _deal(parts, tile, numbers)
    seen_by: list[list[int]] = [[] for _ in range(tokens)]
    of_row = [row[0] for part in parts for row in part.rows]
    partial = 0
    for item in items:
        for token in of_row[item[4] : item[4] + item[5]]:
            seen_by[token].append(partial)
            partial += 1
    counts = [0]
    for seen in seen_by:
        counts.append(counts[-1] + len(seen))
    return Layout(
        items=sections.add(number for item in items for number in item),
        item_ends=sections.add(ends),
        rows=rows,
        partials=sections.add(number for seen in seen_by for number in seen),
        partial_ends=sections.add(counts),
        room=room_for(partial) if partial <= 1024 else -(-partial // 1024) * 1024,
    )


def _deal(
    parts: Sequence[Part], tile: Tile, numbers: dict[int, int]
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Cut the work into tiles, and deal it out evenly; return the items, and each program's end."""
    tiles = []
    number = 0
    for part in parts:
        for at in range(0, len(part.rows), tile.rows):
            rows = part.rows[at : at + tile.rows]
            start, stop = min(row[2] for row in rows), max(row[3] for row in rows) + 1
            tiles.append((part.slab, start, stop, number, len(rows)))
            number += len(rows)
    grain = tile.tuning.grain
    total = sum(-(-(stop - start) // grain) for _, start, stop, _, _ in tiles)
    share = -(-total // tile.programs)
    items: list[tuple[int, ...]] = []
    ends = [0]
    left, partial = share, 0
    for slab, start, stop, row, count in tiles:
        while start < stop:
            if not left:
                ends.append(len(items))
                left = share
            end = min(stop, start + left * grain)
            items.append((numbers[id(slab)], slab.size, start, end, row, count, partial, 0))
            partial += count
            left -= -(-(end - start) // grain)
            start = end
    return items, ends + [len(items)] * (tile.programs + 1 - len(ends))


class _Sections:
    """Numbers that end up in one tensor."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def add(self, numbers: Iterable[int]) -> tuple[int, int]:
        """Add a section, and return where it is."""
        start = len(self._numbers)
        self._numbers += numbers
        count = len(self._numbers) - start
        self._numbers += [0] * (room_for(count) - count)
        return start, len(self._numbers)

    def joined(self, last: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return everything in one tensor, with a last section that is one, and where that is."""
        start = len(self._numbers)
        table = torch.cat([torch.tensor(self._numbers, dtype=torch.int64), last])
        return table, (start, len(table))


def room_for(count: int) -> int:
    """Return how many numbers a section holds: triton likes addresses to be multiples of 16."""
    return max(16, power_of_two(count))


def power_of_two(count: int) -> int:
    """Return the smallest power of two, at least 1, that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length()
