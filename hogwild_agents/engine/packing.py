"""Packing: 16-bit linear layers laid out once more for processors without 16-bit products.

Such a processor (x86 with AVX2 only) widens every bfloat16 weight again for each row of a tick, so
that N workers cost N times as much as one. FBGEMM, which is part of torch there, keeps a copy in
float16, widens it in registers once for all rows, and adds up in float32. bfloat16 weights above
7.6e-6 are the same numbers in float16; below, they are off by less than 3e-8.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from hogwild_agents.engine.memory import available
from hogwild_agents.errors import ConfigError

_LARGEST = torch.finfo(torch.float16).max
_NATIVE = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
"""Of each dtype, what tells whether the processor multiplies it itself."""
_ROOM = 0.5
"""How much of the free memory the copy may take unless it is asked for."""


class Packing:
    """The packed copies of a model's linear layers; the layers compute with them until undone.

    Args:
        layers: those to pack. Their own weights stay where they are.

    Attributes:
        bytes: what the copies take.
    """

    def __init__(self, layers: list[nn.Linear]) -> None:
        self._layers: list[nn.Linear] = []
        self.bytes = 0
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for layer, weights in zip(layers, pool.map(_packed, layers), strict=True):
                if weights is not None:
                    layer.forward = partial(_product, weights)  # type: ignore[method-assign]
                    self._layers.append(layer)
                    self.bytes += _bytes(layer)

    def undo(self) -> None:
        """Let the layers compute with their own weights again."""
        for layer in self._layers:
            del layer.forward
        self._layers.clear()
        self.bytes = 0


def find_layers(model: nn.Module, wanted: bool | None) -> list[nn.Linear]:
    """Return the layers of a model to pack.

    Args:
        model: any model.
        wanted: whether to pack; None for where it helps: the processor has no products of the
            weights' dtype, and there is room for a copy.

    Raises:
        ConfigError: it is wanted, and cannot be done.
    """
    if wanted is False:
        return []
    layers = [layer for layer in model.modules() if _is_plain(layer)]
    if wanted:
        if not layers or not _has_fbgemm():
            raise ConfigError(
                "pack_weights is on, but "
                + (
                    "torch has no FBGEMM on this processor"
                    if layers
                    else "the model has no linear layers with 16-bit weights on the CPU"
                )
                + ": leave it out."
            )
        return layers
    layers = [layer for layer in layers if not _is_native(layer.weight.dtype)]
    free = available(torch.device("cpu"))
    need = sum(map(_bytes, layers))
    if not layers or not _has_fbgemm() or (free is not None and need > _ROOM * free):
        return []
    return layers


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    if type(layer) is not nn.Linear or "forward" in vars(layer):  # a subclass, or somebody's hook
        return False
    weight = layer.weight
    return type(weight.data) is Tensor and weight.is_cpu and weight.dtype in _NATIVE


def _is_native(dtype: torch.dtype) -> bool:
    tell = getattr(torch.ops.mkldnn, _NATIVE[dtype], None)
    return bool(tell()) if tell is not None else False


def _has_fbgemm() -> bool:
    try:
        _pack(torch.zeros(1, 1), None)
    except (RuntimeError, AttributeError):
        return False
    return torch.backends.quantized.engine in ("fbgemm", "x86")


def _packed(layer: nn.Linear) -> Any:
    """Return the packed weights, or None if float16 does not hold them."""
    with torch.no_grad():
        if layer.weight.abs().max() > _LARGEST:
            return None
        bias: Tensor | None = layer.bias
        return _pack(layer.weight.float(), None if bias is None else bias.float())


def _pack(weight: Tensor, bias: Tensor | None) -> Any:
    return torch.ops.quantized.linear_prepack_fp16(weight, bias)


def _product(weights: Any, states: Tensor) -> Tensor:
    product: Tensor = torch.ops.quantized.linear_dynamic_fp16(states.float(), weights)
    return product.to(states.dtype)


def _bytes(layer: nn.Linear) -> int:
    return layer.weight.numel() * layer.weight.element_size()
