"""Shares: where the time of a tick goes, measured in ticks of their own.

On a CPU by a clock around the sampling, the model's forward and each layer's attention. On a GPU
the kernels are asked, since there the calls return before the work is done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hogwild_agents.bench.contestant import Ticks
from hogwild_agents.bench.timing import synchronize, timed
from hogwild_agents.engine import Engine, compiled
from hogwild_agents.engine.attention import NAME
from hogwild_agents.engine.compiled_layers import uncompiled
from hogwild_agents.engine.tape import Tape
from hogwild_agents.engine.threads import Job

T = TypeVar("T")
BY_CLOCK = "clocks around the calls"
BY_CALL = "clocks around the calls of a recording"
BY_KERNEL = "torch.profiler, by the names of the kernels"
_ATTENTION = re.compile(r"attn|attention|hogwild_(store|attend|merge)|flash|fmha", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of a bare tick; together they are 1.

    Attributes:
        model: everything in the model's forward but its attention.
        attention: writing keys and values, and reading the cache.
        sampling: from logits to token ids on the host.
        planning: the rest of the engine: checks, the plan, the commit; on a GPU, the time in
            which it had nothing to do.
        how: how this was measured.
    """

    model: float
    attention: float
    sampling: float
    planning: float
    how: str


def measure_shares(engine: Engine, ticks: Ticks, device: torch.device, count: int) -> Shares | None:
    """Return the shares over some ticks; None where the model's forward cannot be watched."""
    ticks.settle()
    ticks.tick()
    if device.type == "cuda":
        return _by_kernel(ticks, device, count)
    return _by_call(engine, ticks, count) if engine.replayed else _by_clock(engine, ticks, count)


class _Clock:
    """Adds up the seconds spent in calls, by name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def around(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        """Return a call that does the same and is counted."""

        def counted(*args: Any, **kwargs: Any) -> T:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                past = time.perf_counter() - start
                self.spent[name] = self.spent.get(name, 0.0) + past

        return counted


def _by_clock(engine: Engine, ticks: Ticks, count: int) -> Shares | None:
    clock = _Clock()
    forward, sample = clock.around("forward", ticks.logits), clock.around("sample", ticks.sample)
    with _watched(engine.model, clock):
        sample(forward())  # compiled layers are built anew for another attention
        clock.spent.clear()
        for _ in range(count):
            sample(forward())
    spent = clock.spent
    if "model" not in spent or "attention" not in spent:
        return None
    whole = spent["forward"] + spent["sample"]
    return Shares(
        model=(spent["model"] - spent["attention"]) / whole,
        attention=spent["attention"] / whole,
        sampling=spent["sample"] / whole,
        planning=(spent["forward"] - spent["model"]) / whole,
        how=BY_CLOCK,
    )


def _by_call(engine: Engine, ticks: Ticks, count: int) -> Shares | None:
    """Ask the tape which the ticks are replayed from."""
    attention = {compiled.attention(shape.dtype).address for shape in engine.adapter.shapes}
    clock, whole, attending = _Clock(), 0.0, 0.0
    forward, sample = clock.around("forward", ticks.logits), clock.around("sample", ticks.sample)
    for _ in range(count):
        sample(forward())
        if not isinstance(engine.replayed, Tape):
            return None
        for call, seconds in engine.replayed.profile():
            whole += seconds
            if isinstance(call, Job) and call.function in attention:
                attending += seconds
    spent = clock.spent["forward"] + clock.spent["sample"]
    return Shares(
        model=(whole - attending) / spent,
        attention=attending / spent,
        sampling=clock.spent["sample"] / spent,
        planning=max(0.0, clock.spent["forward"] - whole) / spent,
        how=BY_CALL,
    )


@contextmanager
def _watched(model: Any, clock: _Clock) -> Iterator[None]:
    """Put a clock around a model's forward and the engine's attention."""
    attention, own = ALL_ATTENTION_FUNCTIONS[NAME], vars(model).get("forward")
    AttentionInterface.register(NAME, uncompiled(clock.around("attention", attention)))
    model.forward = clock.around("model", model.forward)
    try:
        yield
    finally:
        AttentionInterface.register(NAME, attention)
        if own is None:
            del model.forward
        else:
            model.forward = own


def _by_kernel(ticks: Ticks, device: torch.device, count: int) -> Shares | None:
    whole = sampling = 0.0
    for _ in range(count):
        logits = ticks.logits()
        sampling += timed(partial(ticks.sample, logits), device)
        whole += timed(ticks.logits, device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(count):
            ticks.logits()
        synchronize(device)
    kernels = [(one.key, one.self_device_time_total * 1e-3) for one in profiler.key_averages()]
    busy = min(whole, sum(spent for _, spent in kernels))
    attention = min(busy, sum(spent for name, spent in kernels if _ATTENTION.search(name)))
    if not busy:
        return None
    tick = whole + sampling
    return Shares(
        model=(busy - attention) / tick,
        attention=attention / tick,
        sampling=sampling / tick,
        planning=(whole - busy) / tick,
        how=BY_KERNEL,
    )
