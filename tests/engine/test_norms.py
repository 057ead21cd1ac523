"""Compiled norms: what the model's own give, whichever form they have, and nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.nanochat.modeling_nanochat import NanoChatRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from hogwild_agents.engine import Engine, Feed, compiled, compiled_layers
from hogwild_agents.engine.norms import find_norms
from hogwild_agents.engine.replaced import Replaced
from tests.engine.families import EVERY, VOCAB
from tests.engine.replacing import replacing

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FORMS: dict[str, Any] = {
    "rounded": LlamaRMSNorm,
    "whole": Olmo2RMSNorm,
    "plus one": Gemma2RMSNorm,
    "bare": lambda count, eps: NanoChatRMSNorm(eps=eps),
}
TOKENS = [token % VOCAB for token in range(3, 40)]


def norm_of(form: str, count: int, dtype: torch.dtype, eps: float = 1e-5) -> nn.Module:
    module: nn.Module = FORMS[form](count, eps=eps)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(count))
    return module.to(dtype)


def replaced(module: nn.Module, threads: int = 1) -> AbstractContextManager[None]:
    """Let a module's norms be the compiled ones."""
    return replacing(lambda: Replaced(find_norms(module)), threads)


@settings(max_examples=80, deadline=None)
@given(
    form=st.sampled_from(sorted(FORMS)),
    dtype=st.sampled_from(DTYPES),
    rows=st.sampled_from([1, 2, 7, 65, 700]),
    count=st.sampled_from([16, 48, 128, 896]),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
    threads=st.integers(1, 3),
)
def test_a_norm_is_the_exact_one_but_for_rounding(
    form: str, dtype: torch.dtype, rows: int, count: int, size: float, threads: int
) -> None:
    torch.manual_seed(rows)
    module = norm_of(form, count, dtype)
    states = (size * torch.randn(1, rows, count)).to(dtype)
    wide = states.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    for weight in module.parameters():
        exact = exact * (weight.double() + (form == "plus one"))
    with torch.no_grad():
        plain = module(states)
    with replaced(module, threads):
        own = module(states)
    assert (own.dtype, own.shape) == (dtype, plain.shape)
    roundings = {"rounded": 3}.get(form, 1) if dtype != torch.float32 else 4
    step = torch.finfo(dtype).eps / 2
    smallest = torch.finfo(dtype).tiny * step  # what a subnormal number is rounded by, at most
    most = (roundings * step + 2e-6) * exact.abs() + 8 * smallest
    assert ((own - exact).abs() <= most).all()
    if dtype != torch.float32:  # sums are rounded differently, which few results show
        assert (own == plain).float().mean() > 0.99 - 2 / own.numel()


def test_what_a_row_comes_to_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    module, states = norm_of("rounded", 896, torch.bfloat16), torch.randn(90, 896).bfloat16()
    with replaced(module, 2):
        alone = torch.cat([module(row[None]) for row in states])
        for rows in (1, 2, 17, 40, 90):
            assert torch.equal(module(states[:rows]), alone[:rows])


def test_states_that_lie_apart_are_normed_as_they_are() -> None:
    module, states = norm_of("whole", 32, torch.float32), torch.randn(3, 32, 5).transpose(1, 2)
    with torch.no_grad():
        plain = module(states)
    with replaced(module):
        torch.testing.assert_close(module(states), plain, atol=1e-6, rtol=1e-6)


def test_no_number_stays_none() -> None:
    module, states = norm_of("rounded", 32, torch.bfloat16), torch.ones(3, 32).bfloat16()
    states[1, 5] = torch.nan
    with replaced(module):
        found = module(states)
    assert found[1].isnan().all()
    assert not found[[0, 2]].isnan().any()


def test_states_of_another_dtype_are_left_to_the_model() -> None:
    module, states = norm_of("rounded", 32, torch.bfloat16), torch.randn(3, 32)
    with torch.no_grad():
        plain = module(states)
    with replaced(module):
        found = module(states)
    assert found.dtype == plain.dtype
    assert torch.equal(found, plain)


def other_epsilon(module: Any) -> None:
    """Let it add more to the mean of the squares."""
    module.variance_epsilon = 1.0


def other_dtype(module: Any) -> None:
    """Let its weight be of another dtype."""
    module.to(torch.bfloat16)


def column(module: Any) -> None:
    """Let its weight's numbers lie apart."""
    module.weight.data = torch.randn(len(module.weight), 3)[:, 1]


def pruned(module: Any) -> None:
    """Let its weight be computed from others."""
    prune.l1_unstructured(module, "weight", 0.5)  # type: ignore[no-untyped-call]


def parametrized(module: Any) -> None:
    """Let its weight be computed whenever it is looked at."""
    parametrize.register_parametrization(module, "weight", nn.Tanh())


@pytest.mark.parametrize("change", [other_epsilon, other_dtype, column, pruned, parametrized])
def test_a_norm_that_is_changed_meanwhile_is_the_one_that_counts(change: Any) -> None:
    torch.manual_seed(0)
    module, states = norm_of("rounded", 64, torch.float32), torch.randn(3, 64)
    with replaced(module):
        change(module)
        torch.testing.assert_close(module(states), type(module).forward(module, states))


def test_results_lie_as_torchs_do() -> None:
    module = norm_of("rounded", 32, torch.float32)
    for states in (
        torch.randn(2, 5, 4, 32).transpose(1, 2),
        torch.randn(5, 96)[:, 32:64],
        torch.randn(32, 5).t(),
    ):
        with torch.no_grad():
            plain = module(states)
        with replaced(module):
            own = module(states)
        assert own.stride() == plain.stride()
        torch.testing.assert_close(own, plain)


class HalfwayRMSNorm(nn.Module):
    """A norm without a weight that computes in the dtype of its states."""

    def __init__(self, count: int, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, states: Tensor) -> Any:
        return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + self.eps)


class DoubledRMSNorm(LlamaRMSNorm):
    def forward(self, states: Tensor) -> Tensor:
        return 2 * super().forward(states)


class CentredRMSNorm(LlamaRMSNorm):
    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states - states.mean(-1, keepdim=True))


class OtherEpsilonRMSNorm(LlamaRMSNorm):
    def __init__(self, count: int, eps: float) -> None:
        super().__init__(count, eps=eps)
        self.eps = self.variance_epsilon
        self.variance_epsilon = 10 * eps

    def forward(self, states: Tensor) -> Tensor:
        wide = states.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(states.dtype)


class GatedRMSNorm(LlamaRMSNorm):
    def forward(self, states: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(states) * gate


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "other", [DoubledRMSNorm, CentredRMSNorm, OtherEpsilonRMSNorm, GatedRMSNorm, HalfwayRMSNorm]
)
def test_what_only_looks_like_a_norm_is_left_alone(other: Any, dtype: torch.dtype) -> None:
    assert find_norms(LlamaRMSNorm(64, eps=1e-5).to(dtype))
    assert not find_norms(other(64, eps=1e-5).to(dtype))


def test_norms_of_odd_sizes_or_that_somebody_has_wrapped_are_left_alone() -> None:
    wrapped = LlamaRMSNorm(64)
    vars(wrapped)["forward"] = torch.relu
    assert not find_norms(nn.ModuleList([LlamaRMSNorm(36), wrapped, LlamaRMSNorm(64).double()]))


class OptionalGateRMSNorm(LlamaRMSNorm):
    def forward(self, states: Tensor, gate: Tensor | None = None) -> Tensor:
        found: Tensor = super().forward(states)
        return found if gate is None else found * gate


def test_more_than_states_is_left_to_the_model() -> None:
    module, states = OptionalGateRMSNorm(64), torch.randn(3, 64)
    with replaced(module):
        plain = module(states)
        torch.testing.assert_close(module(states, torch.tensor(2.0)), 2 * plain)
        torch.testing.assert_close(module(states, gate=torch.tensor(3.0)), 3 * plain)
        torch.testing.assert_close(module(states=states), plain)


@pytest.mark.parametrize("family", ["llama", "gemma3", "olmo2", "nanochat"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_gives_its_logits_and_comes_back_untouched(family: str, dtype: torch.dtype) -> None:
    model, exact = (EVERY[family].build() for _ in range(2))
    model, exact = model.to(dtype), exact.to(dtype).double()
    with torch.no_grad():
        before = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
        truth = exact(torch.tensor([TOKENS]), use_cache=False).logits[0]
    with Engine(model) as engine:
        assert "norms" in engine.kernels
        block = engine.block()
        own = engine.forward([Feed(block, [block], TOKENS)], logits="all")
    assert (own - truth).norm() <= 1.3 * (before.double() - truth).norm()
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(torch.tensor([TOKENS]), use_cache=False).logits[0], before)


def test_norms_and_gates_are_torchs_where_layers_are_compiled_or_kernels_left_out() -> None:
    with Engine(EVERY["llama"].build()) as engine:
        assert {"norms", "gates"} <= {*engine.kernels}
    with Engine(EVERY["llama"].build(), kernels=False) as engine:
        assert engine.kernels == ()
    with (
        patch.object(compiled_layers, "BACKEND", "eager"),
        Engine(EVERY["llama"].build(), compile_layers=True) as engine,
    ):
        assert engine.compiled_layers
        assert not {"norms", "gates"} & {*engine.kernels}
