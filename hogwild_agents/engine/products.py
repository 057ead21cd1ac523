"""Products: linear layers on the CPU that compute with the engine's own compiled products.

Where x86 has AVX2 only, torch widens every bfloat16 weight again for each row of a tick, so that N
workers cost N times as much as one; where it has AVX-512, its instructions for bfloat16 give half
the products that those for float32 do; where it has tiles (AMX), torch lays all weights out anew
for each product; and with float32 weights four rows take it twice as long as one. The compiled
products read a weight once for all rows, widen it where the model has it or give it to a tile, and
add up in float32. They also multiply with weights rounded to int8, of which memory has half as many
bytes to hand over.
"""

from __future__ import annotations

import platform
import sys
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.replaced import Replaced
from hogwild_agents.errors import ConfigError

_X86 = "x86_64", "AMD64"
_HALVES = torch.bfloat16, torch.float16
_WHOLE = 1 << 18
"""Float32 weights are multiplied from so many on: fewer lie in the processor's cache, where torch
is as fast."""
_MOST_FLOATS, _MOST_TILED = 48, 96
"""Of rows, with float32 weights, and where tiles multiply them: torch multiplies more faster."""
_NATIVE = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
"""What of torch.ops.mkldnn tells whether another one multiplies it itself."""
Rounded = tuple[Tensor, Tensor]
"""Weights rounded to int8, [..., outs, count], and each output's factor, [..., outs] float32."""


class Products(Replaced):
    """Linear layers that compute with compiled products until undone.

    Args:
        layers: which ones. Their own weights stay where they are.
        int8: whether they compute with copies of their weights rounded to 8 bits.
    """

    def __init__(self, layers: list[nn.Linear], *, int8: bool) -> None:
        copies = [rounded(layer.weight) if int8 else None for layer in layers]
        size = sum(part.nbytes for copy in copies if copy for part in copy)
        products = [_Product(*pair) for pair in zip(layers, copies, strict=True)]
        super().__init__(dict(zip(layers, products, strict=True)), size)


def find_layers(model: nn.Module, wanted: bool | None, *, int8: bool = False) -> list[nn.Linear]:
    """Return the layers of a model that are to compute with compiled products.

    Args:
        model: any model.
        wanted: whether layers are whose weights have 16 bits or are many; None for where it helps:
            the processor does not multiply matrices of their dtype itself.
        int8: whether all are that can be, with rounded weights.

    Raises:
        ConfigError: ``int8`` is asked for, and nothing can compute so.
    """
    if not int8 and wanted is False:
        return []
    layers = [layer for layer in model.modules() if _is_plain(layer)]
    if not int8:
        layers = [layer for layer in layers if are_wanted(layer.weight, wanted)]
    works = bool(layers) and compiled.works()
    fitting = [layer for layer in layers if fit(layer.weight)] if works else []
    if int8 and not fitting:
        raise ConfigError(
            "int8_weights is on, but "
            + (
                "nothing can be compiled here (it takes numba, and a torch with GCC's OpenMP)"
                if layers and not works
                else "the model has no linear layers on the CPU whose weights could be rounded"
            )
            + ": leave it out."
        )
    return fitting


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    if type(layer) is not nn.Linear or "forward" in vars(layer):  # a subclass, or somebody's hook
        return False
    return _lie_plainly(layer.weight, layer.bias, layer.weight.dtype)


def _lie_plainly(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether a layer's numbers can be read where they lie, and are of a dtype."""
    parts = [weight] if bias is None else [weight, bias]
    return all(
        one.dtype == dtype and one.is_contiguous() and compiled.takes(one.data) for one in parts
    )


def are_wanted(weights: Tensor, wanted: bool | None) -> bool:
    """Whether weights are to be multiplied by compiled products; see :func:`find_layers`."""
    worth_it = weights.dtype in _HALVES or weights.numel() >= _WHOLE
    return worth_it and bool(wanted or not _is_native(weights.dtype))


def fit(weights: Tensor) -> bool:
    """Whether weights [..., outs, ins] can be multiplied: their inputs have to fill pairs."""
    from hogwild_agents.engine.vectors import WIDTH  # imports numba

    plain = compiled.takes(weights.data) and weights.is_contiguous()
    return plain and not weights.shape[-1] % (2 * WIDTH)


def most_rows(weights: torch.dtype) -> int:
    """Return with how many rows weights of a dtype are multiplied faster than by torch."""
    from hogwild_agents.engine.cpu_amx import TILES  # imports numba

    tiled = _MOST_TILED if TILES else sys.maxsize
    return {torch.float32: _MOST_FLOATS, torch.bfloat16: tiled}.get(weights, sys.maxsize)


def _is_native(dtype: torch.dtype) -> bool:
    """Whether the processor multiplies matrices of a dtype fast enough by torch."""
    if dtype not in _HALVES:
        return platform.machine() not in _X86  # where it was not measured
    if platform.machine() in _X86:  # where the compiled products have tiles of bfloat16, too
        half = dtype == torch.float16
        tell = getattr(torch.cpu, "_is_amx_fp16_supported", None) if half else None
    else:
        tell = getattr(torch.ops.mkldnn, _NATIVE[dtype], None)
    return bool(tell()) if tell is not None else False


def rounded(weight: Tensor) -> Rounded:
    """Return weights [..., outs, count] rounded to whole numbers times each output's factor."""
    if weight.dim() > 2:  # one after the other, for the sake of memory
        parts = [rounded(part) for part in weight]
        return torch.stack([part for part, _ in parts]), torch.stack([part for _, part in parts])
    with torch.no_grad():
        wide = weight.float()
        scales = wide.abs().amax(1).clamp_min(1e-12) / 127
        return (wide / scales[:, None]).round_().to(torch.int8), scales


class _Product:
    """What multiplies for a layer, with its own weights or with a rounded copy."""

    def __init__(self, layer: nn.Linear, copy: Rounded | None) -> None:
        from hogwild_agents.engine import cpu_products  # imports numba

        self._layer, self._copy = layer, copy
        self._copied = None if copy is None else layer.weight
        self._dtype = layer.weight.dtype
        weights = layer.weight if copy is None else copy[0]
        self._function = compiled.products(weights.dtype, self._dtype).address
        self._most = most_rows(weights.dtype)
        self._place_for, self._block_for = cpu_products.place_for, cpu_products.block_for

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """Compute what the layer does with states [..., count]."""
        if options or len(args) != 1 or not self._takes(*args):
            plain: Tensor = type(self._layer).forward(self._layer, *args, **options)
            return plain
        weight: Tensor = self._layer.weight
        bias: Tensor | None = self._layer.bias
        states: Tensor = args[0]
        (outs, count), rows = weight.shape, states.numel() // states.shape[-1]
        numbers, scales = self._copy or (weight, None)
        states = states.contiguous()
        result = states.new_empty(*states.shape[:-1], outs)
        job = (
            numbers,
            0 if scales is None else scales,
            0 if bias is None else bias,
            states,
            result,
            outs,
            count,
            rows,
            self._block_for(outs, torch.get_num_threads()),
        )
        threads.run(self._function, self._place_for(rows, count), job)
        return result

    def _takes(self, states: Tensor) -> bool:
        """Whether states can be multiplied, and the layer is laid out as it was."""
        weight = self._layer.weight
        fits = states.dtype == self._dtype and states.shape[-1:] == weight.shape[1:]
        return (
            fits
            and compiled.takes(states)
            and states.numel() <= self._most * states.shape[-1]
            and _lie_plainly(weight, self._layer.bias, self._dtype)
            and (self._copy is None or self._copied is weight)
            and type(self._layer) is nn.Linear
        )
