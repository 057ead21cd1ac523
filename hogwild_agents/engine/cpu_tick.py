"""CPU tick: a tick's schedule in the memory of the host, and a layer's attention by it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hogwild_agents.engine import compiled, cpu_attention, threads
from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.cpu_attention import ATTEND, MERGE, STORE, Layer
from hogwild_agents.engine.schedule import Kind, Schedule
from hogwild_agents.engine.vectors import padded
from hogwild_agents.errors import TickError


class CpuTick:
    """What the layers on the CPU need of a schedule, and their attention.

    Args:
        schedule: the tick.
        adapter: the layers.
        home: where rotary tables are asked for angles.
    """

    def __init__(self, schedule: Schedule, adapter: Adapter, home: torch.device) -> None:
        self._schedule, self._adapter, self._home = schedule, adapter, home
        self._rooms: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._table = schedule.table.data_ptr()
        self.compute_angles()

    def compute_angles(self) -> None:
        """Compute the angles of the tick's offsets; after :meth:`refill` they are others."""
        offsets = self._schedule.table[slice(*self._schedule.offsets)].to(self._home)
        ropes = dict.fromkeys(rope for rope, _ in self._adapter.turning)
        device = self._schedule.table.device
        self._angles = {rope: rope.angles(offsets, device) for rope in ropes}

    def refill(self, schedule: Schedule) -> bool:
        """Take over another tick in place, so that the same jobs serve it, after new angles.

        Returns:
            False if its sections do not lie where this one's do; nothing has changed then.
        """
        if not self._schedule.fits(schedule):
            return False
        self._schedule.table.copy_(schedule.table)
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
        """Store the new keys and values of a layer, and attend; see :meth:`GpuTick.attend`.

        Raises:
            TickError: a state is no plain tensor.
        """
        how, schedule = self._adapter.layers[index], self._schedule
        kind, shape, rope = schedule.kinds[index], how.shape, how.rope
        tile, room = kind[1], schedule.layouts[kind].room
        group, dtype = how.heads // shape.kv_heads, queries.dtype
        queries, keys, values = (_dense(one, shape.dtype) for one in (queries, keys, values))
        result = queries.new_empty(schedule.tokens, how.heads, shape.value_dim)
        outs, lses = self._room(shape.kv_heads * room * group, padded(shape.value_dim))
        cos, sin = (outs, outs) if rope is None else self._angles[rope]
        sinks = None if sinks is None else sinks.float().contiguous()
        factors = torch.tensor([scale, how.softcap or 0.0], dtype=torch.float64, device="cpu")
        # mypy cannot count what the stars hold: 20 numbers, in the order of a layer.
        layer = Layer(  # type: ignore[call-arg, misc]
            *self._tables(kind),
            self._table + 8 * schedule.slots[0],
            self._slabs(index),
            *_place(queries),
            *_place(keys),
            *_place(values),
            *(cos, sin, outs, lses),
            sinks=0 if sinks is None else sinks,
            key_dim=shape.key_dim,
            value_dim=shape.value_dim,
            group=group,
            room=room,
            tokens=schedule.tokens,
            kv_heads=shape.kv_heads,
            programs=tile.programs,
            start=0 if rope is None else rope.start,
            pairs=0 if rope is None else cos.shape[-1],
            neighbours=int(rope is not None and rope.pairing == "neighbours"),
            result=result,
            factors=factors,
            phases=STORE + ATTEND + MERGE,
        )
        self._run(layer, shape.dtype, tile.block)
        return result.to(dtype)

    def _run(self, layer: Layer, dtype: torch.dtype, rows: int) -> None:
        """Do everything head by head, or, where several threads share a head, step by step."""
        address = compiled.attention(dtype).address
        place = cpu_attention.place_for(layer.key_dim, layer.value_dim, rows)
        if layer.programs == 1:
            threads.run(address, place, layer)
        else:
            for phase in (STORE, ATTEND, MERGE):
                threads.run(address, place, layer._replace(phases=phase))

    def _tables(self, kind: Kind) -> Iterator[int]:
        """Yield where the tables of a kind lie, in the order of a layout's fields."""
        layout = self._schedule.layouts[kind]
        for name in ("items", "item_ends", "rows", "partials", "partial_ends"):
            yield self._table + 8 * getattr(layout, name)[0]

    def _slabs(self, index: int) -> int:
        """Return where the addresses of a layer's slabs lie."""
        return self._table + 8 * (self._schedule.addresses[0] + 2 * self._schedule.slabs * index)

    def _room(self, results: int, width: int) -> tuple[Tensor, Tensor]:
        """Return memory for partial results, which layers of equal sizes use one after another."""
        if (results, width) not in self._rooms:
            sizes = (results, width), (results,)
            outs, lses = (torch.empty(one, dtype=torch.float32, device="cpu") for one in sizes)
            self._rooms[results, width] = outs, lses
        return self._rooms[results, width]


def _dense(states: Tensor, dtype: torch.dtype) -> Tensor:
    """Return states in the cache's dtype, whose dimensions lie side by side.

    Raises:
        TickError: they are of a subclass of tensors, which may have no memory of its own.
    """
    if type(states) is not Tensor:
        raise TickError(
            f"The engine's kernel reads plain tensors, but the model's attention was given a "
            f"{type(states).__name__}: make the engine with kernels=False."
        )
    states = states.to(dtype)
    return states if states.stride(-1) == 1 else states.contiguous()


def _place(states: Tensor) -> tuple[Tensor, int, int]:
    """Return where states [heads, T, dim] lie: themselves for their address, and two strides."""
    return states, states.stride(0), states.stride(1)
