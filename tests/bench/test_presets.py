"""Presets have the shapes of the models that they are named after."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hogwild_agents.bench.floors import Products, weights_read
from hogwild_agents.bench.presets import PRESETS, check_preset, make_model, random_model, twin
from hogwild_agents.bench.settings import Settings
from hogwild_agents.errors import ConfigError, ModelError
from tests.bench.rig import CPU
from tests.models.gguf_file import tiny_qwen3, write_gguf

# What the makers state: all parameters, and those that are no embeddings, in billions.
STATED = {
    "qwen2.5-0.5b": (0.49, 0.36),
    "qwen3-1.7b": (1.7, 1.4),
    "qwen3-8b": (8.2, 6.95),
    "qwen3-32b": (32.8, 31.2),
    "qwq-32b": (32.5, 31.0),
    "qwen3-30b-a3b": (30.5, 29.9),
}


@pytest.mark.parametrize("name", STATED)
def test_parameters_are_as_many_as_stated(name: str) -> None:
    auto: type = AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(PRESETS[name].config())  # type: ignore[attr-defined]
    model.tie_weights()
    every = sum(one.numel() for one in model.parameters())
    embedded = sum(one.numel() for one in {model.lm_head.weight, model.model.embed_tokens.weight})
    found = [number / 1e9 for number in (every, every - embedded)]
    assert found == pytest.approx(list(STATED[name]), rel=0.03)


def test_every_preset_but_the_tiny_one_is_a_known_model() -> None:
    assert set(PRESETS) == {*STATED, "tiny"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_weights_are_made_in_their_dtype(dtype: torch.dtype) -> None:
    model = random_model(PRESETS["tiny"].config(), dtype, CPU)
    assert {one.dtype for one in model.parameters()} == {dtype}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training
    for name, weight in model.named_parameters():
        assert weight.isfinite().all(), name
        if "norm" not in name:
            assert weight.float().std().item() == pytest.approx(0.02, rel=0.1), name
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_twin_shares_the_weights_and_nothing_else() -> None:
    model = random_model(PRESETS["tiny"].config(), torch.float32, CPU)
    other = twin(model)
    ours, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert all(ours[name] is theirs[name] for name in ours)
    assert ours.keys() == theirs.keys()
    other.set_attn_implementation("eager")
    assert model.config._attn_implementation != "eager"
    assert other.lm_head.weight is other.model.embed_tokens.weight


def test_a_saved_model_is_loaded_by_its_path(tmp_path: object) -> None:
    model = random_model(PRESETS["tiny"].config(), torch.float32, CPU)
    model.save_pretrained(str(tmp_path))
    loaded = make_model(Settings(preset=None, model=str(tmp_path)), CPU)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    half = make_model(Settings(preset=None, model=str(tmp_path), dtype="bf16"), CPU)
    assert half.dtype == torch.bfloat16


def test_a_gguf_file_is_unpacked_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    original = tiny_qwen3()
    model = make_model(
        Settings(preset=None, model=str(write_gguf(original, tmp_path / "tiny.gguf"))), CPU
    )
    assert model.config.model_type == "qwen3"
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_made_is_told_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'qwen9': take one of qwen2\.5-0\.5b, "):
        check_preset(Settings(preset="qwen9"), CPU)
    with pytest.raises(ConfigError, match=r"no preset 'tinny': did you mean 'tiny'\? Take one of "):
        check_preset(Settings(preset="tinny"), CPU)
    with pytest.raises(ModelError, match=r"There is no model folder '\./nowhere': give 'bundled'"):
        make_model(Settings(preset=None, model="./nowhere"), CPU)


def test_the_bundled_model_is_known_by_its_name() -> None:
    model = make_model(Settings(preset=None, model="bundled"), CPU)
    assert model.dtype == torch.float32
    half = make_model(Settings(preset=None, model="bundled", dtype="bf16"), CPU)
    assert half.dtype == torch.bfloat16


def test_the_products_are_those_of_every_linear_layer() -> None:
    model = random_model(PRESETS["tiny"].config(), torch.bfloat16, CPU)
    linears = [one for one in model.modules() if isinstance(one, torch.nn.Linear)]
    products = Products(model, 3)
    shapes = [tuple(call().shape) for call in products._calls]
    assert shapes == [(3, one.out_features) for one in linears]
    assert weights_read(model, 3) == sum(2 * one.weight.numel() for one in linears)


def test_of_experts_as_many_count_as_tokens_choose() -> None:
    config = PRESETS["qwen3-30b-a3b"].kind(
        hidden_size=32,
        moe_intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=16,
        num_experts_per_tok=4,
        vocab_size=300,
        tie_word_embeddings=False,
    )
    model = random_model(config, torch.float32, CPU)
    others = sum(
        4 * one.weight.numel() for one in model.modules() if isinstance(one, torch.nn.Linear)
    )
    expert = 4 * 3 * 32 * 16
    found = [(weights_read(model, workers) - others) / expert for workers in (1, 2, 1000)]
    assert found == [4, 7, 16]  # 16 * (1 - 0.75 ** 2) = 7
    rows = [call().shape[0] for call in Products(model, 2)._calls]
    linears = sum(isinstance(one, torch.nn.Linear) for one in model.modules())
    assert sorted(rows) == [1] * 14 + [2] * linears
