"""Report: all numbers of a benchmark, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from hogwild_agents.bench.floors import Bandwidth
from hogwild_agents.bench.prefill import Prefill
from hogwild_agents.bench.runtime import Runtime
from hogwild_agents.bench.shares import Shares
from hogwild_agents.bench.timing import NOISY, Timing
from hogwild_agents.counts import counted

ENGINE, SINGLE, PLAIN, BATCH = "engine", "single", "plain", "batch"
CONCATENATING, PRODUCTS, OWN = "concatenating", "products", "own_products"
NAMES: Mapping[str, str] = {
    ENGINE: "hogwild",
    SINGLE: "transformers, one sequence, its fastest way",
    PLAIN: "transformers, one sequence, as it comes",
    BATCH: "transformers, a batch of N sequences",
    CONCATENATING: "the same ticks, concatenating and re-rotating for each worker",
    PRODUCTS: "the model's matrix products alone",
    OWN: "these by the engine's own kernels",
}
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that one contestant takes besides the weights.

    Attributes:
        cache: keys and values.
        peak: the most that a tick takes for a moment; None where that cannot be told.
    """

    cache: int
    peak: int | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of workers in one context.

    Attributes:
        workers: how many.
        context: tokens that each of them sees.
        own: tokens of each worker's own block; the rest is shared.
        times: by contestant; milliseconds per tick.
        weights: bytes of weights that a tick reads.
        states: bytes of keys and values, each counted once.
        shares: where the time of the engine's tick goes.
        memory: by contestant.
        notes: what was left out, and why.
    """

    workers: int
    context: int
    own: int
    times: Mapping[str, Timing]
    weights: int
    states: int
    shares: Shares | None
    memory: Mapping[str, Memory]
    notes: Sequence[str] = ()

    @property
    def tokens_per_second(self) -> float:
        """Of all workers together."""
        return self.workers / self.times[ENGINE].median * 1e3

    def gain(self, name: str) -> float | None:
        """Return tokens per second over those of a baseline, by the median of the rounds."""
        if name not in self.times:
            return None
        tokens = 1 if name in (SINGLE, PLAIN) else self.workers
        return self.times[name].over(self.times[ENGINE]) * self.workers / tokens

    def over(self, name: str) -> float | None:
        """Return the tick over the bare matrix products."""
        return self.times[ENGINE].over(self.times[name]) if name in self.times else None

    def floor(self, bytes_per_second: float) -> float:
        """Return the milliseconds of reading weights, keys and values once."""
        return (self.weights + self.states) / bytes_per_second * 1e3

    @property
    def noisy(self) -> bool:
        """Whether the single sequence varied too much over the rounds."""
        return self.times[SINGLE].spread > NOISY


@dataclass(frozen=True, kw_only=True)
class Report:
    """A benchmark.

    Attributes:
        model: what was measured: its name, dtype and bytes.
        machine: where and when, and with what.
        settings: rounds and ticks.
        ways: how transformers' single sequence was fastest, by context, and what was tried.
        bandwidth: of the memory.
        cells: one for each context and number of workers.
        runtimes: one for each number of workers.
        prefill: what a prompt that others read meanwhile costs a team.
        peak: the most bytes that the process had.
        notes: what was not measured, and why.
        complete: False if it was interrupted.
    """

    model: Mapping[str, object]
    machine: Mapping[str, object]
    settings: Mapping[str, object]
    ways: Mapping[int, Mapping[str, object]]
    bandwidth: Bandwidth
    cells: Sequence[Cell] = ()
    runtimes: Sequence[Runtime] = ()
    prefill: Prefill | None = None
    peak: int | None = None
    notes: Sequence[str] = field(default=())
    complete: bool = True

    def runtime(self, workers: int) -> Runtime | None:
        """Return what the runtime adds for a number of workers, if that was measured."""
        return next((one for one in self.runtimes if one.workers == workers), None)

    @property
    def floor_speed(self) -> tuple[float, str]:
        """The bandwidth that the floor is told by: reading on a CPU, copying on a GPU."""
        if self.machine["kind"] == "cpu":
            return self.bandwidth.read, "read"
        return self.bandwidth.copy, "copy"

    @property
    def noise(self) -> list[str]:
        """One sentence for each cell whose figures cannot be trusted."""
        return [_noise(cell) for cell in self.cells if cell.noisy]


def _noise(cell: Cell) -> str:
    single = cell.times[SINGLE]
    return (
        f"Too noisy with {counted(cell.workers, 'worker')} at context {short(cell.context)}: a "
        f"single sequence took {single.low:.3g} to {single.high:.3g} ms (the middle half of the "
        f"rounds), a spread of {single.spread:.1%} of the median, where {NOISY:.0%} is the most: "
        "close what else runs and measure again."
    )


def short(tokens: int) -> str:
    """Return a number of tokens as people write it: 4096 as 4k."""
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else str(tokens)


def as_json(report: Report) -> str:
    """Return all numbers as the text of a JSON file."""
    content = {
        "format": FORMAT,
        "complete": report.complete,
        "machine": report.machine,
        "model": report.model,
        "settings": report.settings,
        "baselines": dict(NAMES),
        "ways": {str(context): way for context, way in report.ways.items()},
        "bandwidth": {**asdict(report.bandwidth), "unit": "bytes per second"},
        "cells": [_cell(cell, report.bandwidth) for cell in report.cells],
        "runtime": [_runtime(one) for one in report.runtimes],
        "prefill": None if report.prefill is None else _prefill(report.prefill),
        "peak_bytes": report.peak,
        "noise": report.noise,
        "notes": list(report.notes),
    }
    return json.dumps(content, indent=1) + "\n"


def _cell(cell: Cell, bandwidth: Bandwidth) -> dict[str, object]:
    tick = cell.times[ENGINE].median
    floors = {"read": cell.floor(bandwidth.read), "copy": cell.floor(bandwidth.copy)}
    return {
        "workers": cell.workers,
        "context": cell.context,
        "own_tokens": cell.own,
        "ms_per_tick": {name: _timing(one) for name, one in cell.times.items()},
        "tokens_per_second": cell.tokens_per_second,
        "tokens_per_second_over": {
            name: cell.gain(name) for name in (SINGLE, PLAIN, BATCH, CONCATENATING)
        },
        "bytes_read": {"weights": cell.weights, "keys_and_values": cell.states},
        "floor_ms": floors,
        "tick_over": {
            **{name: cell.over(name) for name in (PRODUCTS, OWN) if name in cell.times},
            **{name: tick / floor for name, floor in floors.items()},
        },
        "shares": None if cell.shares is None else asdict(cell.shares),
        "memory_bytes": {name: asdict(one) for name, one in cell.memory.items()},
        "noisy": cell.noisy,
        "notes": list(cell.notes),
    }


def _runtime(one: Runtime) -> dict[str, object]:
    return {
        "workers": one.workers,
        "ms_per_tick": {
            name: _timing(getattr(one, name))
            for name in ("team", "bare", "sampling", "added", "between")
        },
        "added_over_bare": one.added.over(one.bare),
        "team_over_bare": one.team.over(one.bare),
    }


def _prefill(one: Prefill) -> dict[str, object]:
    return {
        "workers": one.workers,
        "chunk": one.chunk,
        "ms": {name: _timing(getattr(one, name)) for name in ("tick", "alone", "together")},
        "together_over_both": one.over,
    }


def _timing(timing: Timing) -> dict[str, object]:
    return {
        "median": timing.median,
        "low": timing.low,
        "high": timing.high,
        "rounds": list(timing.values),
    }
