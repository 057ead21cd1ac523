"""Compiled products of experts: what the model's own give, of whichever experts are chosen."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from transformers import GptOssConfig, OlmoeConfig, OlmoeForCausalLM, Qwen3MoeConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.olmoe.modeling_olmoe import OlmoeExperts
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from hogwild_agents.engine import Engine, Feed, compiled, products
from hogwild_agents.engine.experts import Experts, find_experts
from tests.engine.replacing import replacing

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
Own: Any = OlmoeExperts
Small: Any = Qwen3MoeExperts
Turned: Any = GptOssExperts
Model: Any = OlmoeForCausalLM


def experts_of(count: int, hidden: int, inner: int, dtype: torch.dtype) -> Any:
    config = OlmoeConfig(
        num_experts=count, hidden_size=hidden, intermediate_size=inner, pad_token_id=0
    )
    config._experts_implementation = "grouped_mm"
    module = Own(config)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5)
    return module.to(dtype).eval()


def replaced(
    module: nn.Module, threads: int = 1, *, int8: bool = False
) -> AbstractContextManager[None]:
    """Let a module's experts be multiplied by the compiled products, however few weights."""

    def find() -> Experts:
        with patch.object(products, "_WHOLE", 1):
            return Experts(find_experts(module, True), int8=int8)

    return replacing(find, threads)


def drawn(count: int, many: int, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return experts that tokens choose, and what their results are multiplied by."""
    chosen = torch.stack([torch.randperm(count)[:many] for _ in range(rows)])
    return chosen, torch.rand(rows, many).to(dtype)


each_case = given(
    dtype=st.sampled_from(DTYPES),
    rows=st.sampled_from([1, 2, 5, 16, 70]),
    count=st.sampled_from([2, 7, 40]),
    many=st.integers(1, 2),
    hidden=st.sampled_from([32, 160, 1056]),
    inner=st.sampled_from([32, 96]),
    threads=st.integers(1, 3),
)


@settings(max_examples=20, deadline=None)
@each_case
def test_experts_err_no_more_than_the_models_own(**case: Any) -> None:
    _err_no_more(**case)


@pytest.mark.sweep
@settings(max_examples=250, deadline=None)
@each_case
def test_experts_of_many_kinds_err_no_more_than_the_models_own(**case: Any) -> None:
    _err_no_more(**case)


def _err_no_more(
    dtype: torch.dtype, rows: int, count: int, many: int, hidden: int, inner: int, threads: int
) -> None:
    torch.manual_seed(rows)
    module = experts_of(count, hidden, inner, dtype)
    states = torch.randn(rows, hidden).to(dtype)
    chosen, shares = drawn(count, many, rows, dtype)
    with torch.no_grad():
        plain = module(states, chosen, shares)
        truth = copy.deepcopy(module).double()
        truth.config._experts_implementation = "eager"
        exact = truth(states.double(), chosen, shares.double())
        module.config._experts_implementation = "grouped_mm"
    with replaced(module, threads):
        own = module(states, chosen, shares)
    assert (own.dtype, own.shape) == (dtype, plain.shape)
    bound = 1.1 * (plain.double() - exact).norm() + 1e-6 * exact.norm()
    assert (own.double() - exact).norm() <= bound


def test_rounded_experts_count_only_for_the_weights_that_were_rounded() -> None:
    torch.manual_seed(0)
    module, states = experts_of(7, 96, 96, torch.float32), torch.randn(9, 96)
    chosen, shares = drawn(7, 2, 9, torch.float32)
    weight = module.down_proj
    with torch.no_grad(), replaced(module, 2, int8=True):
        rounded = module(states, chosen, shares)
        module.down_proj = nn.Parameter(2 * weight)
        other = module(states, chosen, shares)
        module.down_proj = weight
        assert torch.equal(module(states, chosen, shares), rounded)
    with torch.no_grad():
        assert torch.equal(other, 2 * module(states, chosen, shares))


@pytest.mark.parametrize("dtype", DTYPES)
def test_int8_experts_are_those_of_the_rounded_weights(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module, states = experts_of(7, 1056, 96, dtype), torch.randn(9, 1056).to(dtype)
    chosen, shares = drawn(7, 2, 9, dtype)
    exact = copy.deepcopy(module).double()
    exact.config._experts_implementation = "eager"
    with torch.no_grad():
        for weight in exact.parameters():
            step = weight.abs().amax(-1, keepdim=True) / 127
            weight.copy_((weight / step).round() * step)
        truth = exact(states.double(), chosen, shares.double())
        module.config._experts_implementation = "grouped_mm"
        plain = module(states, chosen, shares)
    with replaced(module, 2, int8=True):
        own = module(states, chosen, shares)
    assert own.dtype == dtype
    error = (own.double() - truth).norm() / truth.norm()
    assert error <= max(2e-4, 2 * torch.finfo(dtype).eps)
    assert (own - plain).norm() / plain.norm() > 2e-3


def test_weights_of_experts_that_nobody_chose_are_not_looked_at() -> None:
    module, states = experts_of(6, 64, 32, torch.bfloat16), torch.randn(3, 64).bfloat16()
    chosen = torch.tensor([[1, 4], [4, 1], [1, 4]])
    with replaced(module):
        with torch.no_grad():
            for weight in module.parameters():
                weight[[0, 2, 3, 5]] = torch.nan
        assert module(states, chosen, torch.ones(3, 2).bfloat16()).isfinite().all()


def test_what_a_token_comes_to_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    module, states = experts_of(5, 64, 64, torch.bfloat16), torch.randn(80, 64).bfloat16()
    chosen, shares = drawn(5, 2, 80, torch.bfloat16)
    with replaced(module, 2):
        alone = torch.cat(
            [module(states[[at]], chosen[[at]], shares[[at]]) for at in range(len(states))]
        )
        for rows in (2, 9, 80):
            assert torch.equal(module(states[:rows], chosen[:rows], shares[:rows]), alone[:rows])


def test_experts_that_another_process_has_give_nothing() -> None:
    torch.manual_seed(0)
    module, states = experts_of(3, 64, 32, torch.float32), torch.randn(2, 64)
    chosen, shares = torch.tensor([[1, 3], [3, 3]]), torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    with replaced(module):
        found = module(states, chosen, shares)
        alone = module(states[:1], chosen[:1, :1], shares[:1, :1])
    assert torch.equal(found, torch.cat([alone, torch.zeros(1, 64)]))


def test_a_gate_of_the_models_own_is_the_one_that_counts() -> None:
    class Bent(Own):  # type: ignore[misc]
        def _apply_gate(self, states: Tensor) -> Tensor:
            gates, ups = states.chunk(2, -1)
            return torch.relu(gates) * (ups + 1)

    torch.manual_seed(0)
    config = experts_of(4, 64, 32, torch.float32).config
    module, states = Bent(config), torch.randn(3, 64)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.1)
    chosen, shares = drawn(4, 2, 3, torch.float32)
    with torch.no_grad():
        plain = module(states, chosen, shares)
    with replaced(module):
        torch.testing.assert_close(module(states, chosen, shares), plain, atol=1e-5, rtol=1e-5)


def test_weights_that_are_replaced_meanwhile_are_the_ones_that_count() -> None:
    torch.manual_seed(0)
    module, states = experts_of(4, 64, 32, torch.bfloat16), torch.randn(3, 64).bfloat16()
    chosen, shares = drawn(4, 2, 3, torch.bfloat16)
    with replaced(module):
        plain = module(states, chosen, shares)
        module.down_proj = nn.Parameter(2 * module.down_proj)
        assert torch.equal(module(states, chosen, shares), 2 * plain)


def test_weights_that_lie_otherwise_meanwhile_are_left_to_the_model() -> None:
    torch.manual_seed(0)
    module, states = experts_of(4, 64, 32, torch.bfloat16), torch.randn(3, 64).bfloat16()
    chosen, shares = drawn(4, 2, 3, torch.bfloat16)
    with replaced(module):
        plain = module(states, chosen, shares)
        with torch.no_grad():
            lines = module.down_proj.transpose(1, 2).contiguous()
        module.down_proj = nn.Parameter(lines.transpose(1, 2))
        torch.testing.assert_close(module(states, chosen, shares), plain, atol=1e-2, rtol=1e-2)
        module.to(torch.float16)
        states, shares = states.half(), shares.half()
        own = type(module).forward(module, states, chosen, shares)
        assert torch.equal(module(states, chosen, shares), own)


def test_choices_in_32_bits_and_names_are_left_to_the_model() -> None:
    torch.manual_seed(0)
    module, states = experts_of(4, 64, 32, torch.bfloat16), torch.randn(3, 64).bfloat16()
    chosen, shares = drawn(4, 2, 3, torch.bfloat16)
    with replaced(module):
        plain = module(states, chosen, shares)
        for found in (
            module(states, chosen.int(), shares),
            module(hidden_states=states, top_k_index=chosen, top_k_weights=shares),
        ):
            torch.testing.assert_close(found, plain, atol=1e-2, rtol=1e-2)


def test_many_rows_of_float32_are_left_to_torch() -> None:
    torch.manual_seed(0)
    module, states = experts_of(2, 64, 32, torch.float32), torch.randn(200, 64)
    chosen, shares = drawn(2, 2, 200, torch.float32)
    with torch.no_grad():
        plain = module(states, chosen, shares)
    with replaced(module):
        assert torch.equal(module(states, chosen, shares), plain)


def test_other_layouts_and_what_somebody_has_wrapped_are_left_alone() -> None:
    wrapped, odd, normed = (experts_of(4, hidden, 32, torch.bfloat16) for hidden in (64, 36, 64))
    vars(wrapped)["forward"] = torch.relu
    normed.has_post_expert_norm = True
    turned = Turned(
        GptOssConfig(num_local_experts=4, hidden_size=64, intermediate_size=64)
    ).bfloat16()
    parts = nn.ModuleList([wrapped, odd, normed, turned])
    assert not find_experts(parts, True)
    plain = nn.ModuleList([experts_of(4, 64, 32, torch.bfloat16)])
    assert find_experts(plain, True)
    assert not find_experts(plain, False)


def test_experts_of_another_manner_are_found_out() -> None:
    class Doubled(Own):  # type: ignore[misc]
        def forward(self, *given: Tensor) -> Any:
            return 2 * super().forward(*given)

    module = experts_of(4, 64, 32, torch.bfloat16)
    other = Doubled(module.config).bfloat16()
    other.load_state_dict(module.state_dict())
    assert find_experts(module, True)
    assert not find_experts(other, True)


def test_small_float32_experts_are_left_to_torch() -> None:
    config = Qwen3MoeConfig(num_experts=4, hidden_size=256, moe_intermediate_size=64)
    config._experts_implementation = "grouped_mm"
    small = Small(config)
    for weight in small.parameters():
        nn.init.normal_(weight, std=0.05)
    assert not find_experts(small, True)
    assert find_experts(small.bfloat16(), True)


def model_of(dtype: torch.dtype) -> Any:
    config = OlmoeConfig(
        vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_experts=6,
        num_attention_heads=4, num_key_value_heads=2, num_experts_per_tok=2, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return Model(config).to(dtype).eval()


TOKENS = [token % 97 for token in range(3, 40)]


def test_a_model_of_experts_gives_its_logits_and_comes_back_untouched() -> None:
    model = model_of(torch.float32)
    with torch.no_grad():
        before = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
    with patch.object(products, "_WHOLE", 1), Engine(model, kernels=True) as engine:
        assert "experts" in engine.kernels
        block = engine.block()
        own = engine.forward([Feed(block, [block], TOKENS)], logits="all")
    torch.testing.assert_close(own, before, atol=1e-5, rtol=0)
    assert not any("forward" in vars(module) for module in model.modules())


def test_int8_bytes_count_the_experts() -> None:
    with Engine(model_of(torch.bfloat16), int8_weights=True) as engine:
        parts = [part for part in engine.model.modules() if "forward" in vars(part)]
        weights = [
            weight for part in parts for weight in part.parameters(recurse=False) if weight.ndim > 1
        ]
        assert {weight.ndim for weight in weights} == {2, 3}
        expected = sum(weight.numel() + 4 * weight[..., 0].numel() for weight in weights)
        assert engine.int8_bytes == expected
        assert engine.probe_error is not None


def test_ticks_of_experts_are_recorded_whichever_are_chosen() -> None:
    logits = []
    for graphs in (None, False):
        with Engine(model_of(torch.bfloat16), kernels=True, graphs=graphs) as engine:
            assert "experts" in engine.kernels
            one, two = engine.block(), engine.block()
            found = [
                engine.forward([Feed(one, [two, one], [at % 97]), Feed(two, [one, two], [96 - at])])
                for at in range(14)
            ]
            assert (engine.replayed is not None) is (graphs is None)
        logits.append(torch.stack(found))
    assert torch.equal(*logits)
