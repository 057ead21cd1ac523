"""Experts: mixtures of experts on the CPU that compute with the engine's own compiled products.

The rows of a tick are put in the order of the experts that they chose, as transformers does it for
torch's grouped products; what multiplies each expert's rows by its weights reads these once, at the
speed of memory, and looks itself which experts were chosen. So the work is laid out the same
whoever is, and can be recorded.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.products import Rounded, are_wanted, fit, most_rows, rounded
from hogwild_agents.engine.replaced import Replaced

_FLAGS = {"has_gate": True, "has_bias": False, "is_transposed": False}
"""What transformers says of experts that it can compute in several ways, and of most of them."""
_BOUNDS = {torch.float32: 1e-4}
"""By how much results may differ from the model's own, relative to their norm; 2e-2 for others."""


class Experts(Replaced):
    """Experts that compute with compiled products until undone.

    Args:
        modules: which ones. Their own weights stay where they are.
        int8: whether they compute with copies of their weights rounded to 8 bits.
    """

    def __init__(self, modules: list[nn.Module], *, int8: bool) -> None:
        experts = [_Experts(module, int8=int8) for module in modules]
        size = sum(one.int8_bytes for one in experts)
        super().__init__(dict(zip(modules, experts, strict=True)), size)


def find_experts(model: nn.Module, wanted: bool | None, *, int8: bool = False) -> list[nn.Module]:
    """Return the modules of a model whose experts are to compute with compiled products.

    Args:
        model: any model.
        wanted: as of :func:`~hogwild_agents.engine.products.find_layers`.
        int8: whether all are that can be, with rounded weights.
    """
    if (wanted is False and not int8) or not compiled.works():
        return []
    return [
        module
        for module in model.modules()
        if are_plain(module)
        and all(map(fit, _weights(module)))
        and (int8 or are_wanted(_weights(module)[0], wanted))
        and _agree(module)
    ]


def are_plain(module: nn.Module) -> bool:
    """Whether a module's experts are laid out as linear layers are, all in one tensor."""
    state = vars(module)
    return (
        all(state.get(flag) is value for flag, value in _FLAGS.items())
        and not state.get("has_post_expert_norm")
        and "forward" not in state  # somebody's hook
        and all(weight.dim() == 3 for weight in _weights(module))
    )


def _weights(module: Any) -> tuple[Tensor, Tensor]:
    """Return the weights into and out of the experts, [experts, outs, ins] each."""
    return module.gate_up_proj, module.down_proj


def _agree(module: nn.Module) -> bool:
    """Whether compiled products give what a module does, for some states and experts."""
    weight, experts = _weights(module)[0], _Experts(module, int8=False)
    random = torch.Generator("cpu").manual_seed(0)
    host: dict[str, Any] = {"generator": random, "device": "cpu"}
    states = torch.randn(3, weight.shape[-1], dtype=torch.float32, **host).to(weight.dtype)
    chosen = torch.randperm(len(weight), **host)[:2].repeat(3, 1)
    chosen[2] = chosen[2].flip(0)
    shares = torch.rand(3, chosen.shape[1], dtype=torch.float32, **host).to(weight.dtype)
    try:
        with torch.no_grad():
            plain, own = module(states, chosen, shares), experts(states, chosen, shares)
    except Exception:
        return False
    error = (own.float() - plain.float()).norm() / plain.float().norm().clamp_min(1e-12)
    alike = own.dtype == plain.dtype and own.shape == plain.shape
    return alike and float(error) <= _BOUNDS.get(weight.dtype, 2e-2)


class _Experts:
    """What computes for a module, with its own weights, by its own activation."""

    def __init__(self, module: Any, *, int8: bool) -> None:
        from hogwild_agents.engine import cpu_products  # imports numba

        self._module, self._plain = module, type(module).forward
        self._dtype = _weights(module)[0].dtype
        self._copies = [rounded(weight) if int8 else None for weight in _weights(module)]
        self._copied = _weights(module) if int8 else None
        self._most = most_rows(torch.int8 if int8 else self._dtype)
        self._numbers = torch.arange(len(_weights(module)[0]), device="cpu")
        self._place_for, self._block_for = cpu_products.place_for, cpu_products.block_for

    @property
    def int8_bytes(self) -> int:
        """What the copies take."""
        return sum(part.nbytes for copy in self._copies if copy for part in copy)

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        """Compute what the module does: with states, which experts were chosen, and their shares.

        Those are [T, ins], [T, k] and [T, k]. The number after the last expert stands for any that
        another process has.
        """
        if options or len(args) != 3 or not self._takes(*args):
            plain: Tensor = self._plain(self._module, *args, **options)
            return plain
        hidden, choices, shares = args
        into, out = zip(_weights(self._module), self._copies, strict=True)
        many = choices.shape[1]
        chosen, order = choices.reshape(-1).sort()
        ends = torch.searchsorted(chosen, self._numbers, right=True)
        states = self._multiply(*into, hidden[order // many], ends)
        states = self._multiply(*out, self._module._apply_gate(states), ends)
        states = states * shares.reshape(-1, 1)[order]
        result = states[order.argsort()].view(-1, many, states.shape[-1]).sum(1)
        found: Tensor = result.to(hidden.dtype)
        return found

    def _takes(self, states: Tensor, choices: Tensor, shares: Tensor) -> bool:
        """Whether states can be multiplied, and the experts are laid out as they were."""
        weights = _weights(self._module)
        few = choices.numel() <= self._most * len(self._numbers)
        fits = states.dim() == choices.dim() == 2 and choices.dtype == torch.int64
        return (
            few
            and fits
            and shares.shape == choices.shape
            and states.dtype == self._dtype
            and compiled.takes(states)
            and all(one.dtype == self._dtype and fit(one) for one in weights)
            and len(weights[0]) == len(self._numbers)
            and (self._copied is None or all(map(is_, weights, self._copied)))
        )

    def _multiply(
        self, weights: Tensor, copy: Rounded | None, states: Tensor, ends: Tensor
    ) -> Tensor:
        """Multiply each expert's rows by its weights.

        Args:
            weights: [experts, outs, ins].
            copy: what is multiplied by instead.
            states: [rows, ins], in the order of the experts.
            ends: [experts] int64, where each one's rows end.
        """
        (experts, outs, count), rows = weights.shape, len(states)
        numbers, scales = copy or (weights, 0)
        states = states.contiguous()
        result = states.new_empty(rows, outs).zero_()  # as it stays for other processes' experts
        block = self._block_for(outs, torch.get_num_threads())
        job = (numbers, scales, ends, states, result, outs, count, rows, block, experts)
        function = compiled.group_products(numbers.dtype, states.dtype).address
        threads.run(function, self._place_for(rows, count), job)
        return result
