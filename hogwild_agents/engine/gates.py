"""Gates: gated MLPs whose gates the engine's own kernels compute, on the CPU or on a GPU.

Nearly all models have ``down(activation(gate(x)) * up(x))``, where torch runs two operators between
the products, and takes its time for the activation of 16-bit numbers. Which modules are such is not
read from their code: their products are replaced for a moment by given numbers, and what comes out
tells what lies between them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as torch_modules

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.agreement import agree
from hogwild_agents.engine.forms import GELU, SILU
from hogwild_agents.engine.kernels import Kernels, kernels_for
from hogwild_agents.engine.replaced import Replaced

_APART = ("gate_proj", "up_proj", "down_proj")
"""The products of a gated MLP, as models call them."""
_TOGETHER = ("gate_up_proj", "down_proj")
"""Those of one whose first two are one, the gate's outputs first."""
_FEW = 1 << 14
"""So many numbers are one thread's: to wake others would take longer."""
_SIZES = 1.5, 40.0, 1000.0
"""Of the numbers that an MLP is tried with: some models keep large ones within limits."""


def _gelu(states: Tensor) -> Tensor:
    return functional.gelu(states, approximate="tanh")


def find_gates(model: nn.Module) -> dict[nn.Module, Callable[..., Tensor]]:
    """Return what computes for the gated MLPs of a model that lie where kernels run, by MLP.

    It is to be called while their products are the model's own.
    """
    found: dict[nn.Module, Callable[..., Tensor]] = {}
    for module in model.modules():
        names = _names(module)
        gate = _gate_of(module, names) if names else None
        if gate is not None:
            found[module] = gate
    return found


def _names(module: nn.Module) -> tuple[str, ...]:
    """Return what the products of a module are called that may be a gated MLP; none of another."""
    parts = vars(module)["_modules"]
    if _has_own_tensors(module) or "forward" in vars(module):  # somebody's hook
        return ()
    for names in (_APART, _TOGETHER):
        kernels = {_kernels_for(parts.get(name)) for name in names}
        if len(kernels) == 1 and (kind := kernels.pop()) is not None:
            return names if _is_row(parts[names[-1]].in_features, kind) else ()
    return ()


def _is_row(count: int, kernels: Kernels) -> bool:
    """Whether the gates of so many numbers can be computed."""
    if kernels == "gpu":
        return True
    from hogwild_agents.engine.vectors import WIDTH  # imports numba

    return not count % WIDTH


def _has_own_tensors(module: nn.Module) -> bool:
    state = vars(module)
    return bool(state["_parameters"] or state["_buffers"])


def _kernels_for(layer: Any) -> Kernels | None:
    """Return whose kernels run where a product's weights lie, if it is one."""
    if not isinstance(layer, nn.Linear) or "forward" in vars(layer):  # somebody's hook
        return None
    return kernels_for(layer.weight.data)


def _gate_of(module: nn.Module, names: tuple[str, ...]) -> _Gate | None:
    """Return what computes as a module does, if anything is found."""
    dtypes = {torch.float32, vars(module)["_modules"][names[0]].weight.dtype}
    for form, activation in ((SILU, functional.silu), (GELU, _gelu)):
        gate = _Gate(module, names, form, activation)
        if all(_agrees(module, gate, names, *tried) for tried in product(dtypes, _SIZES)):
            return gate
    return None


def _agrees(
    module: nn.Module, gate: _Gate, names: tuple[str, ...], dtype: torch.dtype, size: float
) -> bool:
    """Whether a gate gives what a module does between its products, and calls them as it does."""
    *into, out = map(vars(module)["_modules"].__getitem__, names)
    random, kind = torch.Generator("cpu").manual_seed(0), torch.float32
    draw = partial(torch.randn, generator=random, dtype=kind, device="cpu")
    here = partial(torch.Tensor.to, device=out.weight.device, dtype=dtype)
    states, width = here(draw((1, 3, 8))), (1, 3, out.in_features)
    given = [here(size * draw(width)) for _ in range(2)]
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
        if size > _SIZES[0]:  # of the least ones, nearly nothing is left for a gate to let through
            return agree(module, gate, states, most=1)
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
        self._parts = vars(module)["_modules"]  # which others may be put into, meanwhile
        self._others = {name: part for name, part in self._parts.items() if name not in names}
        self._around = [one for part in self._others.values() if part for one in part.modules()]
        self._said = {name: one for name, one in vars(module).items() if name[0] != "_"}
        *self._into, self._out = names
        self._module, self._plain = module, type(module).forward
        self._form, self._activation = form, activation

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """Compute what the module does with states [..., count]."""
        if options or len(args) != 1 or not self._is_unchanged():
            plain: Tensor = self._plain(self._module, *args, **options)
            return plain
        found = [self._parts[name](*args) for name in self._into]
        gates, ups = found if len(found) > 1 else found[0].chunk(2, -1)
        result: Tensor = self._parts[self._out](self._through(gates, ups))
        return result

    def _is_unchanged(self) -> bool:
        """Whether the module is what it was, and nobody hears of what lies between its products."""
        said = vars(self._module)
        return (
            all(self._parts.get(name) is one for name, one in self._others.items())
            and all(said.get(name) is one for name, one in self._said.items())
            and not any(map(_is_hooked, self._around))
            and not _has_own_tensors(self._module)
            and not torch_modules._global_forward_hooks
            and not torch_modules._global_forward_pre_hooks
        )

    def _through(self, gates: Tensor, ups: Tensor) -> Tensor:
        """Return what the gates let through, [..., width]."""
        kernels = _kernels_of(gates, ups)
        if kernels is None:
            return self._activation(gates) * ups
        result = gates.new_empty(gates.shape)
        rows = _rows(gates), _rows(ups), _rows(result)
        if kernels == "gpu":
            from hogwild_agents.engine import gpu_rows

            gpu_rows.gate(*rows, self._form)
        else:
            _run(*rows, self._form)
        return result


def _kernels_of(gates: Tensor, ups: Tensor) -> Kernels | None:
    """Return whose kernels compute what gates let through; None if that is torch's."""
    kernels = kernels_for(gates)
    if kernels is None or kernels_for(ups) != kernels or gates.device != ups.device:
        return None
    alike = ups.dtype == gates.dtype and ups.shape == gates.shape and gates.numel() > 0
    return kernels if alike and _is_row(gates.shape[-1], kernels) else None


def _run(gates: Tensor, ups: Tensor, results: Tensor, form: int) -> None:
    """Compute what gates let through on the CPU, [rows, width] each."""
    job = (gates, ups, results, *gates.shape, gates.stride(0), ups.stride(0), form)
    alone = gates.numel() <= _FEW
    threads.run(compiled.gates(gates.dtype).address, 0, job, alone=alone)


def _is_hooked(module: nn.Module) -> bool:
    state = vars(module)
    return bool(state["_forward_hooks"] or state["_forward_pre_hooks"] or "forward" in state)


def _rows(states: Tensor) -> Tensor:
    """Return states as rows [rows, width], each of which lies in one piece."""
    rows = states.reshape(-1, states.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()
