"""Experts: mixtures of experts on the CPU that compute with the engine's own compiled products.

The rows of a tick are put in the order of the experts that they chose, as transformers does it for
torch's grouped products; what multiplies each expert's rows by its weights reads these once, at the
speed of memory, and looks itself which experts were chosen. So the work is laid out the same
whoever is, and can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.compiled_layers import uncompiled
from hogwild_agents.engine.products import MOST_ROWS, are_wanted, fit

_FLAGS = {"has_gate": True, "has_bias": False, "is_transposed": False, "_is_expert_parallel": False}
"""What transformers says of experts that it can compute in several ways, and of most of them."""
_BOUNDS = {torch.float32: 1e-4}
"""By how much results may differ from the model's own, relative to their norm; 2e-2 for others."""


def find_experts(model: nn.Module, wanted: bool | None) -> dict[nn.Module, Callable[..., Tensor]]:
    """Return what computes for the experts of a model that lie on the CPU, by their module.

    Args:
        model: any model.
        wanted: as of :func:`~hogwild_agents.engine.products.find_layers`.
    """
    found: dict[nn.Module, Callable[..., Tensor]] = {}
    if wanted is not False and compiled.works():
        for module in model.modules():
            if _are_plain(module) and are_wanted(_weights(module)[0], wanted):
                experts = _Experts(module)
                if _agree(module, experts):
                    found[module] = experts
    return found


def _are_plain(module: nn.Module) -> bool:
    """Whether a module's experts are laid out as linear layers are, all in one tensor."""
    state = vars(module)
    return (
        all(state.get(flag) is value for flag, value in _FLAGS.items())
        and not state.get("has_post_expert_norm")
        and "forward" not in state  # somebody's hook
        and all(weight.dim() == 3 and fit(weight) for weight in _weights(module))
    )


def _weights(module: Any) -> tuple[Tensor, Tensor]:
    """Return the weights into and out of the experts, [experts, outs, ins] each."""
    return module.gate_up_proj, module.down_proj


def _agree(module: nn.Module, experts: _Experts) -> bool:
    """Whether experts give what a module does, for some states and experts."""
    weight = _weights(module)[0]
    random = torch.Generator().manual_seed(0)
    states = torch.randn(3, weight.shape[-1], generator=random).to(weight.dtype)
    chosen = torch.randperm(len(weight), generator=random)[:2].repeat(3, 1)
    chosen[2] = chosen[2].flip(0)
    shares = torch.rand(3, chosen.shape[1], generator=random).to(weight.dtype)
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

    def __init__(self, module: Any) -> None:
        from hogwild_agents.engine import cpu_products  # imports numba

        self._module, self._plain = module, type(module).forward
        self._numbers = torch.arange(len(_weights(module)[0]), device="cpu")
        self._place_for, self._block_for = cpu_products.place_for, cpu_products.block_for

    @uncompiled
    def __call__(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Compute what the module does.

        Args:
            hidden_states: [T, ins].
            top_k_index: [T, k] which experts each token has chosen.
            top_k_weights: [T, k] what their results are multiplied by.
        """
        module, (into, out) = self._module, _weights(self._module)
        many = top_k_index.shape[1]
        if not self._takes(hidden_states, into, top_k_index.numel()):
            plain: Tensor = self._plain(module, hidden_states, top_k_index, top_k_weights)
            return plain
        chosen, order = top_k_index.reshape(-1).sort()
        ends = torch.searchsorted(chosen, self._numbers, right=True)
        states = self._multiply(into, hidden_states[order // many], ends)
        states = self._multiply(out, module._apply_gate(states), ends)
        states = states * top_k_weights.reshape(-1, 1)[order]
        result = states[order.argsort()].view(-1, many, states.shape[-1]).sum(1)
        return result.to(hidden_states.dtype)

    def _takes(self, states: Tensor, weight: Tensor, rows: int) -> bool:
        few = weight.dtype != torch.float32 or rows <= MOST_ROWS * len(weight)
        return few and compiled.takes(states) and states.dtype == weight.dtype

    def _multiply(self, weights: Tensor, states: Tensor, ends: Tensor) -> Tensor:
        """Multiply each expert's rows by its weights.

        Args:
            weights: [experts, outs, ins].
            states: [rows, ins], in the order of the experts.
            ends: [experts] int64, where each one's rows end.
        """
        (experts, outs, count), rows = weights.shape, len(states)
        states = states.contiguous()
        result = states.new_empty(rows, outs)
        block = self._block_for(outs, torch.get_num_threads())
        job = (weights, 0, ends, states, result, outs, count, rows, block, experts)
        function = compiled.group_products(weights.dtype, states.dtype).address
        threads.run(function, self._place_for(rows, count), job)
        return result
