"""Norms: RMS norms that compute by the engine's own kernels, on the CPU or on a GPU.

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
from hogwild_agents.engine.forms import BARE, PLUS_ONE, ROUNDED, WHOLE
from hogwild_agents.engine.kernels import Kernels, kernels_for, kernels_on

_FEW = 1 << 15
"""So many numbers are normed by one thread: to wake others would take longer."""
_SHARE = 1 << 12
"""Otherwise a thread takes rows of about so many numbers at a time."""


def find_norms(model: nn.Module) -> dict[nn.Module, Callable[..., Tensor]]:
    """Return what computes for the norms of a model that lie where kernels run, by norm."""
    home = next((one.device for one in model.parameters()), torch.device("cpu"))
    found: dict[nn.Module, Callable[..., Tensor]] = {}
    for module in model.modules():
        norm = _norm_of(module, home) if _may_be(module) else None
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
    kernels = kernels_for(weight.data) if weight.dim() == 1 and weight.is_contiguous() else None
    return kernels is not None and _is_row(len(weight), kernels)


def _is_row(count: int, kernels: Kernels) -> bool:
    """Whether so many numbers can be normed."""
    if kernels == "gpu":
        from hogwild_agents.engine.gpu_rows import MOST  # imports triton

        return count <= MOST
    from hogwild_agents.engine.vectors import WIDTH  # imports numba

    return not count % WIDTH


def _norm_of(module: nn.Module, home: torch.device) -> _Norm | None:
    """Return what computes as a module does, if anything is found."""
    weight: Tensor | None = vars(module)["_parameters"].get("weight")
    device = home if weight is None else weight.device
    kernels = kernels_on(device)
    if kernels is None:
        return None
    forms = (BARE,) if weight is None else (ROUNDED, WHOLE, PLUS_ONE)
    norms = [_Norm(module, form, kernels) for form in forms]
    return next((norm for norm in norms if _agrees(module, norm, device)), None)


def _agrees(module: nn.Module, norm: _Norm, device: torch.device) -> bool:
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
    states = (draw(3, 5, count) * sizes).to(device)
    if weight is None:
        return all(agree(module, norm, states.to(dtype)) for dtype in compiled.DTYPES)
    other = draw(count).to(device, weight.dtype)
    try:
        own["weight"] = nn.Parameter(other, requires_grad=False)
        return agree(module, norm, states.to(weight.dtype))
    finally:
        own["weight"] = weight


class _Norm:
    """What norms for a module, by its own weight."""

    def __init__(self, module: nn.Module, form: int, kernels: Kernels) -> None:
        self._module, self._form, self._kernels = module, form, kernels
        self._plain, self._name = type(module).forward, _epsilon_name(module)
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
        bare = self._form == BARE
        weight = None if bare else vars(self._module)["_parameters"]["weight"]
        if self._kernels == "gpu":
            from hogwild_agents.engine import gpu_rows

            gpu_rows.norm(states, weight, normed, self._number, self._form)
        else:
            _run(states, weight, normed, self._epsilon, self._form)
        return result if normed is result else result.copy_(normed)

    def _takes(self, states: Tensor) -> bool:
        """Whether states can be normed, and the module is what it was."""
        if vars(self._module).get(self._name) != self._number:
            return False
        if kernels_for(states) != self._kernels or not states.numel():
            return False
        weight: Tensor | None = vars(self._module)["_parameters"].get("weight")
        if weight is None or self._form == BARE:
            both = weight is None and self._form == BARE
            return both and _is_row(states.shape[-1], self._kernels)
        alike = states.dtype == weight.dtype and states.shape[-1:] == weight.shape
        return alike and states.device == weight.device and weight.is_contiguous()


def _run(
    states: Tensor, weight: Tensor | None, results: Tensor, epsilon: Tensor, form: int
) -> None:
    """Norm states in one piece on the CPU, given the epsilon as [1] float64."""
    count = states.shape[-1]
    job = (
        states,
        0 if weight is None else weight,
        results,
        epsilon,
        states.numel() // count,
        count,
        form,
        max(1, _SHARE // count),
    )
    function = compiled.norms(states.dtype).address
    threads.run(function, 0, job, alone=states.numel() <= _FEW)
