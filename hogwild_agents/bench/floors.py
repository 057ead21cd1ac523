"""Floors: what a tick cannot go below: its matrix products, and its bytes read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hogwild_agents.bench.timing import timed

BUFFER = {"cpu": 256 << 20, "cuda": 2 << 30}
"""Bytes of the buffers that are read and copied: well beyond any cache of the processor."""
REPEATS = 9


@dataclass(frozen=True, kw_only=True)
class Bandwidth:
    """What the memory gave at its best, in bytes a second.

    Attributes:
        copy: read and written bytes of a copy together.
        read: bytes of a sum.
    """

    copy: float
    read: float

    def best(self, other: Bandwidth) -> Bandwidth:
        """Return the better figures of two measurements."""
        return Bandwidth(copy=max(self.copy, other.copy), read=max(self.read, other.read))


def measure_bandwidth(device: torch.device) -> Bandwidth:
    """Copy and read large buffers a few times; the fastest counts."""
    size = BUFFER.get(device.type, BUFFER["cpu"])
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    copies = [timed(lambda: target.copy_(source), device) for _ in range(REPEATS)]
    reads = [timed(source.sum, device) for _ in range(REPEATS)]
    return Bandwidth(copy=2 * size / min(copies) * 1e3, read=size / min(reads) * 1e3)


class Products:
    """The bare matrix products of one tick: every linear layer, in order, on N rows.

    Layers that the engine multiplies itself do so here.

    Of a mixture of experts, as many experts run as N tokens choose in the mean if all are equally
    likely.
    """

    def __init__(self, model: nn.Module, workers: int) -> None:
        self.tokens = workers
        self._calls: list[Callable[[], Tensor]] = []
        for module in model.modules():
            if isinstance(module, nn.Linear):
                product = partial(functional.linear, weight=module.weight, bias=module.bias)
                self._add(vars(module).get("forward", product), module.weight, workers)
            for weight in _experts(module):
                chosen, rows = _chosen(model, len(weight), workers)
                for expert in weight[:chosen]:
                    self._add(partial(functional.linear, weight=expert), expert, rows)

    def _add(self, product: Callable[[Tensor], Tensor], weight: Tensor, rows: int) -> None:
        states = torch.ones(rows, weight.shape[-1], dtype=weight.dtype, device=weight.device)
        self._calls.append(partial(product, states))

    def reset(self) -> None:
        """Do nothing: there is no context."""

    def tick(self) -> None:
        """Run them all."""
        with torch.no_grad():
            for call in self._calls:
                call()


def weights_read(model: nn.Module, workers: int, *, int8: bool = False) -> int:
    """Return how many bytes of weights one tick of N tokens has to read.

    Args:
        model: the model.
        workers: N.
        int8: whether what the engine multiplies itself is rounded to 8 bits.
    """
    total = 0.0
    for module in model.modules():
        rounded = int8 and "forward" in vars(module)
        if isinstance(module, nn.Linear):
            total += _bytes(module.weight, rounded)
        for weight in _experts(module):
            chosen, _ = _chosen(model, len(weight), workers)
            total += _bytes(weight, rounded) * chosen / len(weight)
    return round(total)


def _experts(module: nn.Module) -> list[Tensor]:
    """Return the matrices of all experts, [experts, rows, columns], that a module holds itself."""
    own = list(module.parameters(recurse=False))
    return [weight for weight in own if weight.dim() == 3] if "Expert" in _name(module) else []


def _chosen(model: Any, experts: int, workers: int) -> tuple[int, int]:
    """Return how many experts N tokens choose together, and how many tokens each one gets."""
    each = int(model.config.get_text_config(decoder=True).num_experts_per_tok)
    chosen = max(1, round(experts * (1 - (1 - each / experts) ** workers)))
    return chosen, max(1, round(workers * each / chosen))


def _bytes(weight: Tensor, rounded: bool) -> int:
    if rounded:  # with a factor of each output
        return weight.numel() + 4 * weight.numel() // weight.shape[-1]
    return weight.numel() * weight.element_size()


def _name(module: nn.Module) -> str:
    return type(module).__name__
