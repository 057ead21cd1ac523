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

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hogwild_agents.engine.adapter import Adapter, LayerAdapter
from hogwild_agents.engine.columns import Ints, ends, ints, ranges
from hogwild_agents.engine.kernels import kernels_on
from hogwild_agents.engine.pool import LayerShape, Slab, pieces
from hogwild_agents.engine.reach import Reach
from hogwild_agents.engine.readers import Readers

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
        fast_bytes: of fast memory, at most, for a program of four warps; one of eight has twice.
        stages: at most so many tiles of keys and values are asked for, under way or multiplied
            at once.
        lasting: whether tiles of 64 rows and more are multiplied where keys and values lie, as by
            compute capability 9.0, which need a place for one tile more then.
        warps: of a program; None for what suits the tile.
    """

    kernel: Literal["gpu", "cpu"] = "gpu"
    programs: int
    grain: int = 64
    rows: int = 128
    fast_bytes: int = 48 << 10
    stages: int = 4
    lasting: bool = False
    warps: int | None = None


def tuning_of(shape: LayerShape) -> Tuning | None:
    """Return how work is cut for a layer that is left to a kernel; None if torch attends there.

    The kernels are for GPUs on which triton is installed, and for CPUs where numba is.
    """
    kernels = kernels_on(shape.device) if shape.dtype in DTYPES else None
    if kernels == "cpu":
        return _cpu_tuning(shape)
    return _gpu_tuning(shape.device) if kernels == "gpu" else None


def _cpu_tuning(shape: LayerShape) -> Tuning:
    threads = torch.get_num_threads()
    # A head is one thread's where that divides them evenly: then no thread waits for another.
    programs = threads if shape.kv_heads % threads == 0 else 4 * threads
    return Tuning(kernel="cpu", programs=programs)


@cache
def _gpu_tuning(device: torch.device) -> Tuning:
    found = torch.cuda.get_device_properties(device)
    fast = found.shared_memory_per_multiprocessor
    return tuning_for(found.multi_processor_count, fast, (found.major, found.minor))


def tuning_for(processors: int, fast_bytes: int, capability: tuple[int, int]) -> Tuning:
    """Return how work is cut for a GPU.

    Args:
        processors: how many multiprocessors it has.
        fast_bytes: of shared memory, of one of them.
        capability: its compute capability.
    """
    return Tuning(
        programs=_RESIDENT * processors,
        fast_bytes=fast_bytes // _RESIDENT - _RESERVED,
        lasting=capability >= (9, 0),
    )


_RESIDENT, _RESERVED = 2, 1 << 10
"""So many programs of four warps a multiprocessor has registers for, and takes so many bytes of
fast memory for each of them besides."""
_ITEMS = 4
"""For so many items a token there is room where a tick is to be like others: few need more."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What the layers of one reach read: neighbouring slots of one slab each, and by which rows.

    Attributes:
        slabs: [parts, 2] number and size of each part's slab.
        counts: [parts] how many rows each has.
        rows: [R, 4] of each row the token, how far its query turns, and the first and the last
            slot that it sees.
    """

    slabs: Ints
    counts: Ints
    rows: Ints


def parts_of(reading: Sequence[Readers], slabs: Sequence[Slab]) -> Parts:
    """Return what is read: one part for each piece of memory in which a stretch lies."""
    numbers = {id(slab): number for number, slab in enumerate(slabs)}
    stretches: list[int] = []
    places: list[tuple[int, ...]] = []  # slab's number and size, entries, by how much slots differ
    for number, (block, low, high) in enumerate(chain(*(who.stretches for who in reading))):
        for slab, start, stop in pieces(block._runs, low, high):
            end = low + stop - start
            stretches.append(number)
            places.append((numbers[id(slab)], slab.size, low, end - 1, start - low))
            low = end
    found = np.array(places)
    counts = np.concatenate([who.counts for who in reading])
    rows = np.concatenate([who.rows for who in reading])  # a copy, changed below
    if len(places) > len(counts):  # each row reads all the pieces of its stretch, as far as it sees
        firsts, counts = (ends(counts) - counts)[stretches], counts[stretches]
        rows = rows[ranges(firsts, counts)]
    part = np.repeat(np.arange(len(places)), counts)
    low, high, shift = found[part, 2:].T
    rows[:, 2], rows[:, 3] = np.maximum(rows[:, 2], low), np.minimum(rows[:, 3], high)
    seen = rows[:, 2] <= rows[:, 3]
    if not seen.all():
        counts = np.bincount(part[seen], minlength=len(places))
        found, counts, rows, shift = found[counts > 0], counts[counts > 0], rows[seen], shift[seen]
    rows[:, 2:] += shift[:, None]
    return Parts(found[:, :2], counts, rows)


def slots_of(found: Iterable[tuple[Slab, int, int]], slabs: Sequence[Slab], count: int = 0) -> Ints:
    """Return [slots, 3]: the slab's number, its size, and the slot; of pieces of memory.

    At least so many are returned; where there are not as many, the slots of the last ones are
    -1: nothing is stored there.
    """
    numbers = {id(slab): number for number, slab in enumerate(slabs)}
    slots: list[int] = []
    for slab, start, stop in found:
        for slot in range(start, stop):
            slots += (numbers[id(slab)], slab.size, slot)
    slots += (0, 0, -1) * (count - len(slots) // 3)
    return ints(slots).reshape(-1, 3)


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
        slots: where each token is stored: number of the slab, its size, slot; -1 for nowhere.
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
        return self.shape == other.shape

    @cached_property
    def shape(self) -> Hashable:
        """Everything but the numbers in the table: equal where these lie in the same places."""
        alike: dict[int, tuple[Kind, list[int]]] = {}  # layers of one kind share one object
        for index, kind in self.kinds.items():
            alike.setdefault(id(kind), (kind, []))[1].append(index)
        groups = tuple((kind, tuple(layers)) for kind, layers in alike.values())
        places = tuple(self.layouts.items())
        return groups, self.tokens, places, self.offsets, self.slots, self.addresses


def lay_out(
    layers: Mapping[int, Tuning],
    adapter: Adapter,
    parts: Mapping[Reach, Parts],
    slots: Ints,
    slabs: Sequence[Slab],
    *,
    roomy: bool = False,
) -> Schedule:
    """Lay out a tick.

    Args:
        layers: which ones are left to the kernel, and how work is cut for them.
        adapter: what they are.
        parts: what the layers of each reach read, and by which rows.
        slots: [T, 3] where each token of the tick is stored; -1 for one that is not.
        slabs: all there are.
        roomy: give the sections whose lengths differ from tick to tick room for those of most
            ticks of so many tokens, so that more of these are alike.
    """
    sections = _Sections(power_of_two(len(slots)) if roomy else 0)
    slots_at = sections.add(slots)
    most = {reach: int(part.counts.max()) for reach, part in parts.items()}
    kinds: dict[int, Kind] = {}
    for alike in adapter.alike:
        left = [index for index in alike if index in layers]
        if left:
            how = adapter.layers[left[0]]
            kind = how.reach, Tile.of(how, layers[left[0]], most[how.reach])
            kinds |= dict.fromkeys(left, kind)
    offsets = np.unique(np.concatenate([part.rows[:, 1] for part in parts.values()]))
    rows_at = {}
    for reach, part in parts.items():
        rows = part.rows.copy()
        rows[:, 1] = offsets.searchsorted(rows[:, 1])
        rows_at[reach] = sections.add(rows)
    different = dict.fromkeys({id(kind): kind for kind in kinds.values()}.values())
    layouts = {
        (reach, tile): _layout(sections, parts[reach], tile, rows_at[reach], len(slots))
        for reach, tile in different
    }
    offsets_at = sections.add(offsets, 1)
    room = room_for(len(slabs))
    places = np.zeros((len(adapter.layers), room, 2), np.int64)
    for number, slab in enumerate(slabs):
        places[:, number] = slab.addresses.numpy()
    table, places_at = sections.joined(places)
    return Schedule(table, kinds, len(slots), layouts, offsets_at, slots_at, places_at, room)


def _layout(
    sections: _Sections, parts: Parts, tile: Tile, rows: tuple[int, int], tokens: int
) -> Layout:
    items, program_ends = _deal(parts, tile)
    token = parts.rows[ranges(items[:, 4], items[:, 5]), 0]  # of each partial result
    partial = len(token)
    return Layout(
        items=sections.add(items, _ITEMS * 8),
        item_ends=sections.add(program_ends),
        rows=rows,
        partials=sections.add(token.argsort(kind="stable")),
        partial_ends=sections.add(ends(np.bincount(token + 1, minlength=tokens + 1))),
        room=room_for(partial) if partial <= 1024 else -(-partial // 1024) * 1024,
    )


def _deal(parts: Parts, tile: Tile) -> tuple[Ints, Ints]:
    """Cut the work into tiles, and deal it out evenly; return the items, and each program's end."""
    part, row, count = _tiles(parts.counts, tile.rows)
    start = np.minimum.reduceat(parts.rows[:, 2], row)
    stop = np.maximum.reduceat(parts.rows[:, 3], row) + 1
    program_ends = ints([0, len(row)])  # of a single one, whose items are the tiles
    if tile.programs > 1:
        of, start, stop, program_ends = _shared_out(start, stop, tile)
        part, row, count = part[of], row[of], count[of]
    items = np.zeros((len(row), 8), np.int64)
    items[:, :2] = parts.slabs[part]
    items[:, 2], items[:, 3] = start, stop
    items[:, 4], items[:, 5] = row, count
    items[:, 6] = ends(count) - count
    return items, program_ends


def _shared_out(starts: Ints, stops: Ints, tile: Tile) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut tiles where a program has its share, counted in grains.

    Returns:
        of each item the tile, where it begins and where it ends; and each program's end.
    """
    grain = tile.tuning.grain
    grains = -(-(stops - starts) // grain)
    begins, total = ends(grains) - grains, int(grains.sum())
    shares = np.arange(tile.programs + 1) * -(-total // tile.programs)
    edges = np.union1d(begins, shares[shares < total])
    of = begins.searchsorted(edges, "right") - 1
    lows, highs = starts[of] + (edges - begins[of]) * grain, stops[of]
    np.minimum(highs[:-1], lows[:-1] + np.diff(edges) * grain, out=highs[:-1])
    return of, lows, highs, edges.searchsorted(shares)


def _tiles(counts: Ints, most: int) -> tuple[Ints, Ints, Ints]:
    """Cut parts of so many rows into tiles; return of each the part, the first row, how many."""
    firsts = ends(counts) - counts
    if counts.max() <= most:
        return np.arange(len(counts)), firsts, counts
    many = -(-counts // most)
    part = np.repeat(np.arange(len(counts)), many)
    place = ranges(np.zeros_like(many), many) * most  # in the part
    return part, firsts[part] + place, np.minimum(most, counts[part] - place)


class _Sections:
    """Numbers that end up in one tensor.

    Args:
        tokens: of how many sections have room at least, where they are told how much for each.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._found: list[Ints] = []
        self._length = 0

    def add(self, numbers: Ints, least: int = 0) -> tuple[int, int]:
        """Add a section, with room for at least so many numbers a token; return where it is."""
        section = np.zeros(room_for(max(numbers.size, least * self._tokens)), np.int64)
        section[: numbers.size] = numbers.ravel()
        return self._append(section)

    def joined(self, last: Ints) -> tuple[Tensor, tuple[int, int]]:
        """Return everything in one tensor, with a last section as it is, and where that is."""
        place = self._append(last.ravel())
        return torch.from_numpy(np.concatenate(self._found)), place

    def _append(self, section: Ints) -> tuple[int, int]:
        start, self._length = self._length, self._length + len(section)
        self._found.append(section)
        return start, self._length


def room_for(count: int) -> int:
    """Return how many numbers a section holds: triton likes addresses to be multiples of 16."""
    return max(16, power_of_two(count))


def power_of_two(count: int) -> int:
    """Return the smallest power of two, at least 1, that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length()
