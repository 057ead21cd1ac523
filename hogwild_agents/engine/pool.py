"""Pool: the memory of all cache blocks, one slot a token, at addresses that never move.

A slab holds, for every layer, keys and values of ``size`` slots. A block owns *runs* of
neighbouring slots; it grows in place while the slot after its last run is free. A new run is put
into the middle of the largest gap, so that its left neighbour keeps room to grow: in practice a
block is one run, and attention reads it with one call.

Slots are handed out one by one, so a budget of N tokens holds exactly N tokens. Slabs are added
as the cache grows; on the CPU the system commits their memory only when it is first written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hogwild_agents.errors import CacheFullError

_FEWEST, _MOST = 4096, 65536
_LAZY_BYTES = 512 << 20


@dataclass(frozen=True)
class LayerShape:
    """What one attention layer stores per token."""

    kv_heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's key and value in this layer."""
        return self.kv_heads * (self.key_dim + self.value_dim) * self.dtype.itemsize


def first_slab(shapes: Sequence[LayerShape]) -> int:
    """Return the slots of a pool's first slab; each further one is as large as all before it.

    A block cannot grow over the end of a slab, and is read with one more call for each further
    run; so where memory is committed only when it is written, the first slab is a large one.
    """
    if any(shape.device.type != "cpu" for shape in shapes):
        return _FEWEST
    per_token = sum(shape.bytes_per_token for shape in shapes)
    return min(max(_LAZY_BYTES // per_token, _FEWEST), _MOST)


@dataclass(slots=True)
class Run:
    """Slots ``start`` to ``stop`` of one slab, owned by one block."""

    slab: Slab
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Slab:
    """Keys and values of ``size`` slots for every layer, and the gaps that are free.

    ``keys[layer]``: [kv_heads, size, key_dim]; ``values[layer]``: [kv_heads, size, value_dim].
    """

    def __init__(self, size: int, shapes: Sequence[LayerShape]) -> None:
        self.size = size
        self.gaps: list[list[int]] = [[0, size]]  # sorted, disjoint, never adjacent
        self.keys = [_empty(shape, size, shape.key_dim) for shape in shapes]
        self.values = [_empty(shape, size, shape.value_dim) for shape in shapes]

    @cached_property
    def addresses(self) -> Tensor:
        """Where the keys and the values of each layer begin, [layers, 2] int64 on the host."""
        pairs = zip(self.keys, self.values, strict=True)
        found = [[keys.data_ptr(), values.data_ptr()] for keys, values in pairs]
        return torch.tensor(found, device="cpu")

    def largest_gap(self) -> tuple[int, int]:
        """Return the first slot of the largest gap, and the slot behind it; (0, 0) without gaps."""
        sizes = [high - low for low, high in self.gaps]
        low, high = self.gaps[sizes.index(max(sizes))] if sizes else (0, 0)
        return low, high

    def take_next(self, slot: int, count: int) -> int:
        """Mark free slots that begin exactly at ``slot`` as used; return how many, up to count."""
        index = bisect_left(self.gaps, [slot])
        if index == len(self.gaps) or self.gaps[index][0] != slot:
            return 0
        gap = self.gaps[index]
        count = min(count, gap[1] - slot)
        gap[0] += count
        if gap[0] == gap[1]:
            del self.gaps[index]
        return count

    def take(self, start: int, stop: int) -> None:
        """Mark a part of one gap as used."""
        index = bisect_left(self.gaps, [start + 1]) - 1
        low, high = self.gaps[index]
        left_over = [gap for gap in ([low, start], [stop, high]) if gap[0] < gap[1]]
        self.gaps[index : index + 1] = left_over

    def give(self, start: int, stop: int) -> None:
        """Mark used slots as free again."""
        index = bisect_left(self.gaps, [start])
        if index < len(self.gaps) and self.gaps[index][0] == stop:
            stop = self.gaps.pop(index)[1]
        if index and self.gaps[index - 1][1] == start:
            start = self.gaps.pop(index - 1)[0]
            index -= 1
        self.gaps.insert(index, [start, stop])


class Pool:
    """All slabs of one engine, with an optional budget.

    Args:
        shapes: what each layer stores per token.
        max_tokens: the budget in tokens; ``None`` for as many as memory holds.
    """

    def __init__(self, shapes: Sequence[LayerShape], max_tokens: int | None) -> None:
        self.shapes = tuple(shapes)
        self.max_tokens = max_tokens
        self.slabs: list[Slab] = []
        self.used = 0

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        return sum(shape.bytes_per_token for shape in self.shapes)

    @property
    def free(self) -> int | None:
        """Tokens that still fit into the budget; ``None`` without a budget."""
        return None if self.max_tokens is None else self.max_tokens - self.used

    @property
    def spare(self) -> int:
        """Free slots of the memory that is there already."""
        return sum(slab.size for slab in self.slabs) - self.used

    def extend(self, runs: list[Run], count: int) -> None:
        """Append ``count`` slots to ``runs``, in place where the next slots are free.

        Raises:
            CacheFullError: the budget has no room; nothing was taken.
        """
        self.require(count)
        self._grow_slabs(count)
        self.used += count
        while count:
            count -= self._grow_last(runs, count) or self._place(runs, count)

    def require(self, count: int) -> None:
        """Check that ``count`` more tokens fit.

        Raises:
            CacheFullError: they do not.
        """
        if self.free is not None and count > self.free:
            raise CacheFullError(
                f"The cache budget of {self.max_tokens} tokens has room for {self.free} more, "
                f"but {count} are needed: free or truncate blocks, or give the engine a larger "
                "max_tokens or max_bytes."
            )

    def shrink(self, runs: list[Run], length: int) -> None:
        """Give back all slots of ``runs`` beyond the first ``length``."""
        surplus = sum(map(len, runs)) - length
        self.used -= surplus
        while surplus:
            last = runs[-1]
            count = min(surplus, len(last))
            last.slab.give(last.stop - count, last.stop)
            last.stop -= count
            surplus -= count
            if not len(last):
                runs.pop()

    def check_integrity(self, owners: Iterable[Sequence[Run]]) -> None:
        """Check that every slot is either free or owned by exactly one run.

        Raises:
            RuntimeError: a slot is lost or owned twice; this is a bug of the engine.
        """
        spans: dict[int, list[tuple[int, int]]] = {id(slab): [] for slab in self.slabs}
        owned = 0
        for run in (run for runs in owners for run in runs):
            spans[id(run.slab)].append((run.start, run.stop))
            owned += len(run)
        for slab in self.slabs:
            pieces = sorted(spans[id(slab)] + [(low, high) for low, high in slab.gaps])
            edges = [0, *(high for _, high in pieces)]
            if [low for low, _ in pieces] != edges[:-1] or edges[-1] != slab.size:
                raise RuntimeError(f"The pool lost slots or owns some twice: {pieces}.")
        if owned != self.used or (self.max_tokens is not None and owned > self.max_tokens):
            raise RuntimeError(f"The pool counts {self.used} used slots, blocks own {owned}.")

    def _grow_slabs(self, count: int) -> None:
        missing = count - self.spare
        if missing <= 0:
            return
        total = sum(slab.size for slab in self.slabs)
        size = max(missing, total or first_slab(self.shapes))
        if self.max_tokens is not None:
            size = min(size, self.max_tokens - total)
        try:
            slab = Slab(size, self.shapes)
        except (RuntimeError, MemoryError):  # torch's own is a RuntimeError
            if size == missing:
                raise
            slab = Slab(missing, self.shapes)
        self.slabs.append(slab)

    def _grow_last(self, runs: list[Run], count: int) -> int:
        if not runs:
            return 0
        last = runs[-1]
        count = last.slab.take_next(last.stop, count)
        last.stop += count
        return count

    def _place(self, runs: list[Run], count: int) -> int:
        gaps = [slab.largest_gap() for slab in self.slabs]
        sizes = [high - low for low, high in gaps]
        number = sizes.index(max(sizes))
        slab, (low, high) = self.slabs[number], gaps[number]
        count = min(count, high - low)
        start = low + (high - low - count) // 2 if low else low
        slab.take(start, start + count)
        runs.append(Run(slab, start, start + count))
        return count


def pieces(runs: Sequence[Run], low: int, high: int) -> list[tuple[Slab, int, int]]:
    """Return where the entries ``low`` to ``high`` of a block lie, as (slab, start, stop)."""
    if len(runs) == 1 and 0 <= low < high <= len(runs[0]):  # nearly always
        return [(runs[0].slab, runs[0].start + low, runs[0].start + high)]
    found = []
    for run in runs:
        size = len(run)
        if low < size and high > 0:
            found.append((run.slab, run.start + max(low, 0), run.start + min(high, size)))
        low, high = low - size, high - size
    return found


def _empty(shape: LayerShape, size: int, dim: int) -> Tensor:
    # A slab outlives the mode in which it was made: inference tensors could not be written later.
    with torch.inference_mode(False):
        return torch.empty(shape.kv_heads, size, dim, dtype=shape.dtype, device=shape.device)
