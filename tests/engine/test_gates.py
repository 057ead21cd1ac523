"""Compiled gates: what the model's own MLPs give, and of no others."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers import GemmaConfig, LlamaConfig, Phi3Config
from transformers.activations import ACT2FN
from transformers.models.gemma import modeling_gemma as gemma
from transformers.models.llama import modeling_llama as llama
from transformers.models.phi3 import modeling_phi3 as phi3

from hogwild_agents.engine import compiled
from hogwild_agents.engine.gates import find_gates
from hogwild_agents.engine.products import Products, find_layers
from hogwild_agents.engine.replaced import Replaced
from tests.engine.replacing import replacing

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
KINDS: dict[str, Any] = {
    "llama": (llama.LlamaMLP, LlamaConfig, {}),
    "phi3": (phi3.Phi3MLP, Phi3Config, {"pad_token_id": 0}),
    "gemma": (gemma.GemmaMLP, GemmaConfig, {"hidden_act": "gelu_pytorch_tanh"}),
}


def mlp(kind: str, width: int) -> Any:
    made, config, options = KINDS[kind]
    return made(config(hidden_size=32, intermediate_size=width, **options))


def replaced(module: nn.Module, threads: int = 1) -> AbstractContextManager[None]:
    """Let a module's gates be the compiled ones."""
    return replacing(lambda: Replaced(find_gates(module)), threads)


def silu(states: Tensor) -> Tensor:
    return functional.silu(states)


def gelu(states: Tensor) -> Tensor:
    return functional.gelu(states, approximate="tanh")


@cache
def is_torchs_own(kind: str, dtype: torch.dtype) -> bool:
    """Whether torch rounds on the way here (GELU in bfloat16 on ARM), so that it is left to it."""
    states, opened = torch.linspace(-4, 4, 1001), gelu if kind == "gemma" else silu
    return (
        not torch.isclose(
            opened(states.to(dtype)).float(), opened(states.to(dtype).float()).to(dtype).float()
        )
        .float()
        .mean()
        > 0.99
    )


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    dtype=st.sampled_from(DTYPES),
    rows=st.sampled_from([1, 2, 7, 65]),
    width=st.sampled_from([16, 176, 2048, 2064]),
    size=st.sampled_from([0.1, 2.0, 20.0]),
    threads=st.integers(1, 3),
)
def test_a_gate_is_the_exact_one_but_for_rounding(
    kind: str, dtype: torch.dtype, rows: int, width: int, size: float, threads: int
) -> None:
    assume(not is_torchs_own(kind, dtype))
    torch.manual_seed(rows)
    module = mlp(kind, width).to(dtype)
    gates, ups = ((size * torch.randn(1, rows, width)).to(dtype) for _ in range(2))
    given = {"gate_proj": gates, "up_proj": ups, "gate_up_proj": torch.cat([gates, ups], -1)}
    opened = (gelu if kind == "gemma" else silu)(gates.double())
    exact = opened * ups.double()
    own = opened_by(module, given, threads)
    step = torch.finfo(dtype).eps
    most = 1.6 * step * exact.abs() + 1e-6 * ups.double().abs() + torch.finfo(dtype).tiny
    assert ((own - exact).abs() <= most).all()


def opened_by(module: Any, given: dict[str, Tensor], threads: int) -> Tensor:
    """Return what a module hands to its last product, if the others have given results."""
    with replaced(module, threads):
        for name in given.keys() & vars(module)["_modules"].keys():
            module.get_submodule(name).forward = lambda states, name=name: given[name]
        module.down_proj.forward = lambda states: states
        found: Tensor = module(torch.ones(1, 1, 32))
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_mlp_gives_what_it_gave(kind: str, dtype: torch.dtype) -> None:
    if is_torchs_own(kind, dtype):
        pytest.skip("left to torch here")
    torch.manual_seed(0)
    module = mlp(kind, 64).to(dtype)
    states = torch.randn(2, 5, 32).to(dtype)
    with torch.no_grad():
        plain = module(states)
    with replaced(module):
        own = module(states)
    assert own.dtype == dtype
    torch.testing.assert_close(own, plain, atol=4 * torch.finfo(dtype).eps, rtol=0)


def test_what_a_row_comes_to_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    module, states = mlp("llama", 2048).bfloat16(), torch.randn(40, 32).bfloat16()
    with replaced(module, 2):
        products = Products(find_layers(module, True), int8=False)  # torch's are other ones
        alone = torch.cat([module(row[None]) for row in states])
        for rows in (1, 2, 17, 40):
            assert torch.equal(module(states[:rows]), alone[:rows])
        products.undo()


def test_no_number_stays_none_and_the_largest_ones_are_gated() -> None:
    module = mlp("llama", 16)
    gates = torch.zeros(1, 1, 16)
    gates[0, 0, :4] = torch.tensor([torch.nan, 3e38, -3e38, torch.inf])
    given = {"gate_proj": gates, "up_proj": torch.ones(1, 1, 16)}
    found = opened_by(module, given, 1)[0, 0, :4]
    assert found[0].isnan()
    assert found[1:].tolist() == [gates[0, 0, 1].item(), pytest.approx(0, abs=1e3), torch.inf]


class Gated(nn.Module):
    """What most models have, to be varied."""

    def __init__(self, activation: str = "silu") -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(32, 64), nn.Linear(32, 64)
        self.down_proj, self.act_fn = nn.Linear(64, 32), ACT2FN[activation]

    def forward(self, states: Tensor) -> Any:
        return self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))


class Bent(Gated):
    def forward(self, states: Tensor) -> Any:
        gates = self.gate_proj(states).clamp(max=1.0)
        return self.down_proj(self.act_fn(gates) * self.up_proj(states))


class Scaled(Gated):
    def forward(self, states: Tensor) -> Any:
        return 2 * super().forward(states)


class Normed(Gated):
    def forward(self, states: Tensor) -> Any:
        return super().forward(states / 2)


class Swapped(Gated):
    def forward(self, states: Tensor) -> Any:
        return self.down_proj(self.act_fn(self.up_proj(states)) * self.gate_proj(states))


class Noted(Gated):
    def forward(self, states: Tensor, more: Tensor) -> Any:  # type: ignore[override]
        return super().forward(states) + more


class Limited(Gated):
    limit = 7.0

    def forward(self, states: Tensor) -> Any:
        gates = self.gate_proj(states).clamp(max=self.limit)
        ups = self.up_proj(states).clamp(-self.limit, self.limit)
        return self.down_proj(self.act_fn(gates) * ups)


class BarelyLimited(Limited):
    limit = 500.0


class LimitedAfter(Gated):
    def forward(self, states: Tensor) -> Any:
        opened = self.act_fn(self.gate_proj(states)).clamp(-16, 16)
        return self.down_proj(opened * self.up_proj(states))


@pytest.mark.parametrize(
    "other", [Bent, Scaled, Normed, Swapped, Noted, Limited, BarelyLimited, LimitedAfter]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_only_looks_like_a_gated_mlp_is_left_alone(other: Any, dtype: torch.dtype) -> None:
    assert find_gates(Gated().to(dtype))
    assert not find_gates(other().to(dtype))


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_new", "sigmoid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_activations_are_left_alone_unless_they_are_the_same(
    activation: str, dtype: torch.dtype
) -> None:
    # GELU's approximation by tanh, written out: every step of it is rounded.
    same = activation == "gelu_new" and dtype == torch.float32
    assert bool(find_gates(Gated(activation).to(dtype))) is same


def test_odd_sizes_and_what_somebody_has_wrapped_are_left_alone() -> None:
    wrapped, inside = mlp("llama", 64), mlp("llama", 64)
    vars(wrapped)["forward"] = torch.relu
    vars(inside.up_proj)["forward"] = torch.relu
    assert not find_gates(nn.ModuleList([mlp("llama", 36), wrapped, inside]))


def test_parts_that_are_replaced_meanwhile_are_the_ones_that_count() -> None:
    torch.manual_seed(0)
    module, states = mlp("llama", 64), torch.randn(3, 32)
    with replaced(module):
        module.up_proj = nn.Linear(32, 64)
        module.act_fn = nn.ReLU()
        found = module(states)
        opened = functional.relu(module.gate_proj(states)) * module.up_proj(states)
        torch.testing.assert_close(found, module.down_proj(opened))


class Weighted(Gated):
    def __init__(self) -> None:
        super().__init__()
        self.weight = 1.0

    def forward(self, states: Tensor) -> Any:
        opened = self.act_fn(self.gate_proj(states)) * self.up_proj(states)
        return self.down_proj(self.weight * opened)


def test_what_a_module_is_told_meanwhile_counts() -> None:
    torch.manual_seed(0)
    module, states = Weighted(), torch.randn(3, 32)
    module.down_proj.bias.data.zero_()
    with replaced(module):
        plain = module(states)
        module.weight = 2.0
        torch.testing.assert_close(module(states), 2 * plain)


def silenced(module: Any, *_: Any) -> Any:
    """Let nothing come out of an activation."""
    return torch.zeros(()) if isinstance(module, type(ACT2FN["silu"])) else None


def test_hooks_between_the_products_are_called() -> None:
    torch.manual_seed(0)
    module, states = mlp("llama", 64), torch.randn(3, 32)
    with replaced(module):
        plain = module(states)
        with module.act_fn.register_forward_hook(lambda *_: torch.zeros(())):
            assert not module(states).any()
        with module.act_fn.register_forward_pre_hook(lambda *_: (torch.zeros(()),)):
            assert not module(states).any()
        with nn.modules.module.register_module_forward_hook(silenced):
            assert not module(states).any()
        torch.testing.assert_close(module(states), plain)


class Louder(Gated):
    def forward(self, states: Tensor, factor: float = 1.0) -> Any:
        return factor * super().forward(states)


def test_more_than_states_is_left_to_the_model() -> None:
    module, states = Louder(), torch.randn(3, 32)
    with replaced(module):
        plain = module(states)
        torch.testing.assert_close(module(states, 2.0), 2 * plain)
        torch.testing.assert_close(module(states, factor=3.0), 3 * plain)
        torch.testing.assert_close(module(states=states), plain)
