"""Norms: RMS norms on the CPU that compute by the engine's own compiled one.

For one of them torch runs up to eight operators over few numbers, each of which costs more than
what it computes. Which form of the norm a model has is not read from its code: it is tried out
which one gives what the module gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.agreement import agree

_FEW = 1 << 15
"""So many numbers are normed by one thread: to wake others would take longer."""
_SHARE = 1 << 12
"""Otherwise a thread takes rows of about so many numbers at a time."""


def find_norms(model: nn.Module) -> dict[nn.Module, Callable[..., Tensor]]:
    """Return what computes for the norms of a model that lie on the CPU, by norm."""
    found: dict[nn.Module, Callable[..., Tensor]] = {}
    if compiled.works():
        for module in model.modules():
            norm = _norm_of(module) if _may_be(module) else None
            if norm is not None:
                found[module] = norm
    return found


def _may_be(module: nn.Module) -> bool:
    """Whether a module is called a norm, and has no more than one has."""
    state = vars(module)
    weight = state["_parameters"].get("weight")
    return (
        "RMSNorm" in type(module).__name__
        and "forward" not in state  # somebody's hook
        and not state["_modules"]
        and not any(state["_buffers"])
        and set(state["_parameters"]) <= {"weight"}
        and isinstance(state.get(_epsilon_name(module)), float)
        and (weight is None or _is_plain(weight))
    )


def _epsilon_name(module: nn.Module) -> str:
    return "variance_epsilon" if "variance_epsilon" in vars(module) else "eps"


def _is_plain(weight: Tensor) -> bool:
    from hogwild_agents.engine.vectors import WIDTH  # imports numba

    return (
        type(weight.data) is Tensor
        and weight.is_cpu
        and weight.is_contiguous()
        and weight.dim() == 1
        and weight.dtype in compiled.DTYPES
        and not len(weight) % WIDTH
    )


def _norm_of(module: nn.Module) -> _Norm | None:
    """Return what computes as a module does, if anything is found."""
    from hogwild_agents.engine import cpu_norms

    weight: Tensor | None = vars(module)["_parameters"].get("weight")
    bare = (cpu_norms.BARE,)
    forms = bare if weight is None else (cpu_norms.ROUNDED, cpu_norms.WHOLE, cpu_norms.PLUS_ONE)
    norms = [_Norm(module, form) for form in forms]
    return next((norm for norm in norms if _agrees(module, norm)), None)


def _agrees(module: nn.Module, norm: _Norm) -> bool:
    """Whether a norm gives what a module does, for large states and for some like the epsilon.

    It is asked for with another weight: by one of ones alone some forms could not be told apart.
    """
    own = vars(module)["_parameters"]
    weight: Tensor | None = own.get("weight")
    random, kind = torch.Generator("cpu").manual_seed(0), torch.float32
    epsilon = vars(module)[_epsilon_name(module)]
    sizes = torch.tensor([1.0, 30.0, epsilon**0.5], dtype=kind, device="cpu")[:, None, None]
    count = 256 if weight is None else len(weight)
    draw = partial(torch.randn, generator=random, dtype=kind, device="cpu")
    states = draw(3, 5, count) * sizes
    if weight is None:
        return all(agree(module, norm, states.to(dtype)) for dtype in compiled.DTYPES)
    other = draw(count).to(weight.dtype)
    try:
        own["weight"] = nn.Parameter(other, requires_grad=False)
        return agree(module, norm, states.to(weight.dtype))
    finally:
        own["weight"] = weight


class _Norm:
    """What norms for a module, by its own weight."""

    def __init__(self, module: nn.Module, form: int) -> None:
        from hogwild_agents.engine import cpu_norms, vectors

        self._module, self._form, self._bare = module, form, form == cpu_norms.BARE
        self._plain, self._width = type(module).forward, vectors.WIDTH
        self._name = _epsilon_name(module)
        self._number = vars(module)[self._name]
        self._epsilon = torch.tensor([self._number], dtype=torch.float64, device="cpu")

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """Compute what the module does with states [..., count]."""
        if options or len(args) != 1 or not self._takes(*args):
            plain: Tensor = self._plain(self._module, *args, **options)
            return plain
        states: Tensor = args[0].contiguous()
        result = torch.empty_like(args[0])  # its dimensions in the same order, as torch has it
        normed = result if result.is_contiguous() else torch.empty_like(states)
        count = states.shape[-1]
        job = (
            states,
            0 if self._bare else vars(self._module)["_parameters"]["weight"],
            normed,
            self._epsilon,
            states.numel() // count,
            count,
            self._form,
            max(1, _SHARE // count),
        )
        function = compiled.norms(states.dtype).address
        threads.run(function, 0, job, alone=states.numel() <= _FEW)
        return result if normed is result else result.copy_(normed)

    def _takes(self, states: Tensor) -> bool:
        """Whether states can be normed, and the module is what it was."""
        if not compiled.takes(states) or vars(self._module).get(self._name) != self._number:
            return False
        weight: Tensor | None = vars(self._module)["_parameters"].get("weight")
        if weight is None or self._bare:
            return weight is None and self._bare and not states.shape[-1] % self._width
        alike = states.dtype == weight.dtype and states.shape[-1:] == weight.shape
        return alike and weight.is_cpu and weight.is_contiguous()
