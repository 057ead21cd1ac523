"""Gates: gated MLPs on the CPU whose gates the engine's own compiled function computes.

Nearly all models have ``down(activation(gate(x)) * up(x))``, where torch runs two operators between
the products, and takes its time for the activation of 16-bit numbers. Which modules are such is not
read from their code: their products are replaced for a moment by given numbers, and what comes out
tells what lies between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.agreement import agree
from hogwild_agents.engine.compiled_layers import uncompiled
from hogwild_agents.engine.replaced import Replaced

_APART = ("gate_proj", "up_proj", "down_proj")
"""The products of a gated MLP, as models call them."""
_TOGETHER = ("gate_up_proj", "down_proj")
"""Those of one whose first two are one, the gate's outputs first."""
_FEW = 1 << 14
"""So many numbers are one thread's: to wake others would take longer."""


def _gelu(states: Tensor) -> Tensor:
    return functional.gelu(states, approximate="tanh")


def find_gates(model: nn.Module) -> dict[nn.Module, Callable[..., Tensor]]:
    """Return what computes for the gated MLPs of a model that lie on the CPU, by MLP.

    It is to be called while their products are the model's own.
    """
    found: dict[nn.Module, Callable[..., Tensor]] = {}
    if compiled.works():
        for module in model.modules():
            names = _names(module)
            gate = _gate_of(module, names) if names else None
            if gate is not None:
                found[module] = gate
    return found


def _names(module: nn.Module) -> tuple[str, ...]:
    """Return what the products of a module are called that may be a gated MLP; none of another."""
    from hogwild_agents.engine.vectors import WIDTH  # imports numba

    parts = vars(module)["_modules"]
    for names in (_APART, _TOGETHER):
        if "forward" not in vars(module) and all(_is_plain(parts.get(name)) for name in names):
            return () if parts[names[-1]].in_features % WIDTH else names
    return ()


def _is_plain(layer: Any) -> bool:
    return (
        isinstance(layer, nn.Linear)
        and "forward" not in vars(layer)  # somebody's hook
        and layer.weight.is_cpu
        and layer.weight.dtype in compiled.DTYPES
    )


def _gate_of(module: nn.Module, names: tuple[str, ...]) -> _Gate | None:
    """Return what computes as a module does, if anything is found."""
    from hogwild_agents.engine import cpu_gates

    dtypes = {torch.float32, vars(module)["_modules"][names[0]].weight.dtype}
    for form, activation in ((cpu_gates.SILU, functional.silu), (cpu_gates.GELU, _gelu)):
        gate = _Gate(module, names, form, activation)
        if all(_agrees(module, gate, names, dtype) for dtype in dtypes):
            return gate
    return None


def _agrees(module: nn.Module, gate: _Gate, names: tuple[str, ...], dtype: torch.dtype) -> bool:
    """Whether a gate gives what a module does between its products, and calls them as it does."""
    *into, out = map(vars(module)["_modules"].__getitem__, names)
    random = torch.Generator().manual_seed(0)
    states = torch.randn(1, 3, 8, generator=random).to(dtype)
    width = (1, 3, out.in_features)
    given = [(1.5 * torch.randn(width, generator=random)).to(dtype) for _ in range(2)]
    answers = given if len(into) == len(given) else [torch.cat(given, -1)]

    def answering(answer: Tensor) -> Callable[[Tensor], Tensor]:
        def forward(asked: Tensor) -> Tensor:
            if asked is not states:
                raise ValueError("a product is not asked for the states themselves")
            return answer

        return forward

    replaced = Replaced(
        {**dict(zip(into, map(answering, answers), strict=True)), out: lambda opened: opened}
    )
    try:
        return agree(module, gate, states)
    finally:
        replaced.undo()


class _Gate:
    """What computes for a gated MLP, by its own products."""

    def __init__(
        self,
        module: nn.Module,
        names: tuple[str, ...],
        form: int,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        from hogwild_agents.engine.vectors import WIDTH

        self._parts = vars(module)["_modules"]  # which others may be put into, meanwhile
        self._others = {name: part for name, part in self._parts.items() if name not in names}
        *self._into, self._out = names
        self._module, self._plain = module, type(module).forward
        self._form, self._activation, self._width = form, activation, WIDTH

    def __call__(self, states: Tensor, *more: Any, **options: Any) -> Tensor:
        """Compute what the module does with states [..., count]."""
        parts = self._parts
        result: Tensor
        if more or options or any(parts.get(name) is not one for name, one in self._others.items()):
            result = self._plain(self._module, states, *more, **options)
        else:
            found = [parts[name](states) for name in self._into]
            gates, ups = found if len(found) > 1 else found[0].chunk(2, -1)
            result = parts[self._out](self._through(gates, ups))
        return result

    @uncompiled
    def _through(self, gates: Tensor, ups: Tensor) -> Tensor:
        """Return what the gates let through, [..., width]."""
        width, dtype = gates.shape[-1], gates.dtype
        alike = ups.dtype == dtype and ups.shape == gates.shape
        if not (alike and compiled.takes(gates) and compiled.takes(ups)) or width % self._width:
            return self._activation(gates) * ups
        result = gates.new_empty(gates.shape)
        gates, ups = _rows(gates), _rows(ups)
        job = (gates, ups, result, len(gates), width, gates.stride(0), ups.stride(0), self._form)
        threads.run(compiled.gates(dtype).address, 0, job, alone=gates.numel() <= _FEW)
        return result


def _rows(states: Tensor) -> Tensor:
    """Return states as rows [rows, width], each of which lies in one piece."""
    rows = states.reshape(-1, states.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()
