"""Rows: Triton's norms and gates against torch's own operators, checked and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from hogwild_agents.bench.timing import synchronize, timed
from hogwild_agents.engine.agreement import same
from hogwild_agents.engine.forms import BARE, GELU, PLUS_ONE, ROUNDED, SILU, WHOLE

EPSILON = 1e-6
NORMS = {"bare": BARE, "Llama's": ROUNDED, "OLMo 2's": WHOLE, "Gemma's": PLUS_ONE}
GATES = {"SiLU": SILU, "GELU": GELU}
REPLAYS, BURST = 9, 20


@dataclass(frozen=True)
class Rows:
    """What one kernel gave.

    Attributes:
        name: what it computed.
        right: whether that is what torch gives, but for how sums are rounded.
        ms: of one launch; None where it was not timed.
        plain_ms: of torch's operators.
    """

    name: str
    right: bool
    ms: float | None = None
    plain_ms: float | None = None


def measure_rows(device: torch.device, *, tiny: bool) -> Iterator[Rows]:
    """Yield what norms and gates give for rows of many sizes and dtypes.

    Args:
        device: a GPU, or the CPU where triton interprets.
        tiny: few and short rows.
    """
    norms = ((1, 64), (5, 36)) if tiny else ((1, 5120), (4, 5120), (16, 5120), (256, 128), (7, 900))
    gates = ((2, 96),) if tiny else ((1, 25600), (4, 25600), (16, 25600), (7, 900))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for rows, count in norms:
            for name, form in NORMS.items():
                yield _measure(f"norm, {name}", device, dtype, rows, count, _norms(form))
        for rows, count in gates:
            for name, form in GATES.items():
                yield _measure(f"gate, {name}", device, dtype, rows, count, _gates(form))


Pair = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]


def _measure(
    what: str, device: torch.device, dtype: torch.dtype, rows: int, count: int, pair: Pair
) -> Rows:
    random = torch.Generator(device).manual_seed(rows * count)
    states, others = (
        torch.randn(rows, count, generator=random, device=device).to(dtype) for _ in range(2)
    )
    own, plain = pair
    name = f"{what}, {rows} x {count}, {str(dtype).removeprefix('torch.')}"
    right = same(own(states, others), plain(states, others), most=0.01 + 2 / states.numel())
    if device.type != "cuda":
        return Rows(name, right)
    times = [_time(partial(call, states, others), device) for call in pair]
    return Rows(name, right, *times)


def _time(call: Callable[[], Tensor], device: torch.device) -> float:
    """Return the milliseconds of a call that is recorded, without Python."""
    synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(BURST):
            call()
    return median(timed(graph.replay, device) for _ in range(REPLAYS)) / BURST


def _norms(form: int) -> Pair:
    from hogwild_agents.engine import gpu_rows  # imports triton

    def own(states: Tensor, others: Tensor) -> Tensor:
        result, weight = torch.empty_like(states), None if form == BARE else others[0]
        gpu_rows.norm(states, weight, result, EPSILON, form)
        return result

    def plain(states: Tensor, others: Tensor) -> Tensor:
        wide, weight = states.float(), others[0]
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)
        if form == ROUNDED:
            return weight * wide.to(states.dtype)
        if form != BARE:
            wide = wide * (weight.float() + (1 if form == PLUS_ONE else 0))
        return wide.to(states.dtype)

    return own, plain


def _gates(form: int) -> Pair:
    from hogwild_agents.engine import gpu_rows  # imports triton

    def own(states: Tensor, others: Tensor) -> Tensor:
        result = torch.empty_like(states)
        gpu_rows.gate(states, others, result, form)
        return result

    def plain(states: Tensor, others: Tensor) -> Tensor:
        if form == SILU:
            return functional.silu(states) * others
        return functional.gelu(states, approximate="tanh") * others

    return own, plain
