"""A tiny model whose logits depend on what it sees, and a report of made-up numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hogwild_agents import Engine
from hogwild_agents.bench.contents import Contents, fill_cache
from hogwild_agents.bench.floors import Bandwidth
from hogwild_agents.bench.presets import PRESETS, SPREAD, random_model, twin
from hogwild_agents.bench.report import (
    BATCH,
    CONCATENATING,
    ENGINE,
    PLAIN,
    PRODUCTS,
    SINGLE,
    Cell,
    Memory,
    Report,
)
from hogwild_agents.bench.runtime import Runtime
from hogwild_agents.bench.shares import BY_CLOCK, Shares
from hogwild_agents.bench.timing import Timing

CPU = torch.device("cpu")
SHARED, OWN = 37, 9


@dataclass(frozen=True)
class Rig:
    """An engine with contents, and a model over the same weights that it does not have."""

    engine: Engine
    plain: Any
    contents: Contents


@contextmanager
def rig(workers: int, dtype: torch.dtype = torch.float32) -> Iterator[Rig]:
    """Return a tiny model in use, with random keys and values for so many workers."""
    model = random_model(PRESETS["tiny"].config(), dtype, CPU)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:  # at transformers' own scale all tokens would be alike
                weight.mul_(weight.shape[-1] ** -0.5 / SPREAD)
    plain = twin(model)
    with Engine(model) as engine:
        yield Rig(engine, plain, fill_cache(engine, workers, SHARED, OWN))


def timing(*values: float) -> Timing:
    return Timing(tuple(map(float, values)))


def cell(workers: int = 2, context: int = 1024, **changes: Any) -> Cell:
    """Return a cell in which the engine takes 100 ms for so many workers."""
    times = {
        ENGINE: timing(100, 100, 100),
        SINGLE: timing(90, 90, 90),
        PLAIN: timing(110, 110, 110),
        BATCH: timing(150, 150, 150),
        CONCATENATING: timing(200, 200, 200),
        PRODUCTS: timing(80, 80, 80),
    }
    given: dict[str, Any] = {
        "workers": workers,
        "context": context,
        "own": 100,
        "times": times | changes.pop("times", {}),
        "weights": 900_000_000,
        "states": 100_000_000,
        "shares": Shares(model=0.8, attention=0.15, sampling=0.02, planning=0.03, how=BY_CLOCK),
        "memory": {ENGINE: Memory(cache=2**20, peak=2**21)},
    }
    return Cell(**(given | changes))


def report(*cells: Cell, **changes: Any) -> Report:
    runtime = Runtime(
        workers=2,
        team=timing(103, 103),
        bare=timing(100, 100),
        sampling=timing(1, 1),
        added=timing(3, 3),
        between=timing(2, 2),
    )
    given: dict[str, Any] = {
        "model": {"name": "made-up", "dtype": "bfloat16"},
        "machine": {"kind": "cpu", "device": "Abacus", "threads": 2, "date": "2026-01-01"},
        "settings": {"rounds": 3, "ticks": 4},
        "ways": {1024: {"chosen": "StaticCache, sdpa", "tried_ms": {"StaticCache, sdpa": 90.0}}},
        "bandwidth": Bandwidth(copy=10e9, read=20e9),
        "cells": cells,
        "runtimes": (runtime,),
        "peak": 2**30,
    }
    return Report(**(given | changes))
