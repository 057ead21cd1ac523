"""GPU tick: a tick's schedule on one device, and the launches of a layer's attention there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from hogwild_agents.engine import gpu_attention
from hogwild_agents.engine.adapter import Adapter, LayerAdapter
from hogwild_agents.engine.columns import moved, pinned
from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.rope import Angles, Rope
from hogwild_agents.engine.schedule import Kind, Layout, Schedule, Tile, power_of_two

PRECISION = "ieee" if torch.version.hip else "tf32x3"
"""Of products in float32: as exact as float32; "ieee" needs more registers than there are."""
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_UNTURNED: dict[str, Any] = {"ROPE_START": 0, "PAIRS": 0, "NEIGHBOURS": False}


@dataclass(frozen=True)
class _Tables:
    """The tables of a layout on the device; see :class:`Layout`."""

    items: Tensor
    item_ends: Tensor
    rows: Tensor
    partials: Tensor
    partial_ends: Tensor

    @classmethod
    def of(cls, layout: Layout, table: Tensor) -> _Tables:
        """Return views of the one tensor in which they all lie."""
        places = (getattr(layout, field.name) for field in fields(cls))
        return cls(*(table[start:stop] for start, stop in places))


class GpuTick:
    """What the layers on one device need of a schedule, and the launches.

    Args:
        schedule: the tick.
        adapter: the layers.
        device: where this is for.
        home: where rotary tables are asked for angles.
    """

    def __init__(
        self, schedule: Schedule, adapter: Adapter, device: torch.device, home: torch.device
    ) -> None:
        self._adapter, self._device, self._home = adapter, device, home
        self._schedule = schedule
        self._table = moved(schedule.table, device)
        self._slots = self._table[slice(*schedule.slots)]
        self._addresses = self._table[slice(*schedule.addresses)].view(len(adapter.layers), -1)
        self._tables = {
            kind: _Tables.of(layout, self._table) for kind, layout in schedule.layouts.items()
        }
        self.compute_angles()

    def compute_angles(self) -> None:
        """Compute the angles of the tick's offsets; after :meth:`refill` they are others.

        Its launches can be recorded, before those of :meth:`attend`.
        """
        self._angles = {rope: self._turns(rope) for rope in self._ropes()}

    def refill(self, schedule: Schedule) -> bool:
        """Take over another tick in place, so that the same launches serve it, after new angles.

        Returns:
            False if its sections do not lie where this one's do; nothing has changed then.
        """
        if not self._schedule.fits(schedule):
            return False
        self._schedule = schedule
        self._table.copy_(pinned(schedule.table, self._device), non_blocking=True)
        return True

    def attend(
        self,
        index: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scale: float,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Store the new keys and values of a layer, and attend.

        Args:
            index: of the layer.
            queries: [heads, T, key_dim], rotated to block-local positions.
            keys: [kv_heads, T, key_dim], likewise.
            values: [kv_heads, T, value_dim].
            scale: factor of the scores.
            sinks: [heads] logits that take their share of the softmax and give nothing.

        Returns:
            [T, heads, value_dim] in the dtype of the queries.
        """
        how, kind = self._adapter.layers[index], self._schedule.kinds[index]
        addresses = self._addresses[index]
        with torch.cuda.device_of(queries):  # type: ignore[no-untyped-call]
            self._store(how.shape, _dense(keys), _dense(values), addresses)
            partials = self._attend(how, kind, _dense(queries), addresses, scale)
            return self._merge(how, kind, partials, queries.dtype, sinks)

    def _store(self, shape: LayerShape, keys: Tensor, values: Tensor, addresses: Tensor) -> None:
        tokens = self._schedule.tokens
        block = 1 if tokens <= 64 else 16
        gpu_attention.hogwild_store[-(-tokens // block), shape.kv_heads](
            keys,
            values,
            self._slots,
            addresses,
            tokens,
            *keys.stride()[:2],
            *values.stride()[:2],
            KEY_DIM=shape.key_dim,
            VALUE_DIM=shape.value_dim,
            DTYPE=TYPES[shape.dtype],
            BLOCK_T=block,
            BLOCK_K=power_of_two(shape.key_dim),
            BLOCK_V=power_of_two(shape.value_dim),
            num_warps=1 if block == 1 else 4,
        )

    def _attend(
        self,
        how: LayerAdapter,
        kind: Kind,
        queries: Tensor,
        addresses: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        """Return partial results and their log-sum-exps; recordings share the memory of these."""
        shape, rope, tables = how.shape, how.rope, self._tables[kind]
        tile, room = kind[1], self._schedule.layouts[kind].room
        lses = torch.empty(how.heads * room, dtype=torch.float32, device=self._device)
        outs = torch.empty(len(lses) * shape.value_dim, dtype=torch.float32, device=self._device)
        turning = _UNTURNED
        cosines = sines = lses  # not read
        if rope is not None:
            cosines, sines = self._angles[rope]
            turning = {
                "ROPE_START": rope.start,
                "PAIRS": cosines.shape[-1],
                "NEIGHBOURS": rope.pairing == "neighbours",
            }
        cut = Cut.of(how, tile)
        gpu_attention.hogwild_attend[tile.programs, shape.kv_heads](
            queries,
            cosines,
            sines,
            tables.items,
            tables.item_ends,
            tables.rows,
            addresses,
            outs,
            lses,
            *queries.stride()[:2],
            room,
            float(scale),
            float(how.softcap or 1.0),
            GROUP=how.heads // shape.kv_heads,
            KEY_DIM=shape.key_dim,
            VALUE_DIM=shape.value_dim,
            CAPPED=how.softcap is not None,
            DTYPE=TYPES[shape.dtype],
            PRECISION=PRECISION,
            BLOCK_M=tile.block,
            BLOCK_N=cut.slots,
            BLOCK_K=cut.key_dim,
            BLOCK_V=cut.value_dim,
            num_warps=cut.warps,
            num_stages=cut.stages,
            enable_fp_fusion=True,
            **turning,
        )
        return outs, lses

    def _merge(
        self,
        how: LayerAdapter,
        kind: Kind,
        partials: tuple[Tensor, Tensor],
        dtype: torch.dtype,
        sinks: Tensor | None,
    ) -> Tensor:
        tokens, width, tables = self._schedule.tokens, how.shape.value_dim, self._tables[kind]
        result = torch.empty(tokens, how.heads, width, dtype=dtype, device=self._device)
        outs, lses = partials
        gpu_attention.hogwild_merge[tokens, how.heads](
            outs,
            lses,
            tables.partial_ends,
            tables.partials,
            lses if sinks is None else sinks,
            result,
            self._schedule.layouts[kind].room,
            GROUP=how.heads // how.shape.kv_heads,
            VALUE_DIM=width,
            SINKS=sinks is not None,
            BLOCK_S=32,
            BLOCK_V=power_of_two(width),
            enable_fp_fusion=True,
        )
        return result

    def _layers(self) -> list[tuple[int, LayerAdapter]]:
        """Return the layers that are served here."""
        found = ((index, self._adapter.layers[index]) for index in self._schedule.kinds)
        return [(index, how) for index, how in found if how.shape.device == self._device]

    def _ropes(self) -> set[Rope]:
        return {how.rope for _, how in self._layers() if how.rope is not None}

    def _turns(self, rope: Rope) -> Angles:
        """Return the angles of the schedule's offsets."""
        offsets = self._table[slice(*self._schedule.offsets)].to(self._home)
        return rope.angles(offsets, self._device)


@dataclass(frozen=True)
class Cut:
    """The sizes of what one program has in hand at a time, all but the stages powers of two.

    Attributes:
        slots: keys and values.
        key_dim, value_dim: dimensions, with some of nothing.
        warps, stages: how triton is to build the program. With two stages it asks for a tile when
            it is done with the last one, with three one is under way while another is multiplied.
        bytes: of fast memory, at most.
    """

    slots: int
    key_dim: int
    value_dim: int
    warps: int
    stages: int
    bytes: int

    @classmethod
    def of(cls, how: LayerAdapter, tile: Tile) -> Cut:
        """Return what suits a layer: the widest tile of which one can be under way, if any."""
        shape, tuned, size = how.shape, tile.tuning, how.shape.dtype.itemsize
        key_dim, value_dim = (max(16, power_of_two(n)) for n in (shape.key_dim, shape.value_dim))
        wide = tile.block * max(key_dim, value_dim) * size >= 1 << 15
        warps = tuned.warps or (8 if wide else 4)
        lasts = tuned.lasting and tile.block >= 64
        parts = 2 if shape.dtype == torch.float32 else 1  # what PRECISION splits numbers into

        def cut(slots: int, stages: int) -> Cut:
            places = stages if lasts else max(1, stages - 1)
            held = parts * tile.block * (key_dim + (0 if lasts else slots))  # queries, and weights
            need = size * (held + places * slots * (key_dim + value_dim))
            return cls(slots, key_dim, value_dim, warps, stages, need)

        widths = [1 << n for n in range(max(16, tuned.grain).bit_length() - 1, 3, -1)]
        under_way = range(tuned.stages, 2, -1)
        cuts = [cut(slots, stages) for slots in widths for stages in under_way]
        cuts += [cut(16, stages) for stages in (2, 1)]
        fitting = (one for one in cuts if one.bytes <= tuned.fast_bytes * warps // 4)
        return next(fitting, cuts[-1])


def _dense(states: Tensor) -> Tensor:
    """Return states whose dimensions lie side by side."""
    return states if states.stride(-1) == 1 else states.contiguous()
