"""How long views may be, and what a rope scaling makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from hogwild_agents.engine import Engine, Feed, LongContextWarning
from hogwild_agents.errors import ConfigError, ContextLengthError, UnsupportedModelError
from hogwild_agents.models import load_model
from hogwild_agents.rope_scaling import parse_rope_scaling, scale_rope
from tests.models.folders import TEXT, VOCABULARY, change_config, drawn, logits_of, save, tiny_llama

LONG = [(7 * number + 3) % VOCABULARY for number in range(400)]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama that was made for 256 tokens."""
    return save(tiny_llama(), tmp_path_factory.mktemp("llama"))


def feed(engine: Engine, count: int) -> torch.Tensor:
    """The logits of a text over two blocks."""
    first, second = engine.block("first"), engine.block("second")
    parts = [
        engine.forward([Feed(first, [first], LONG[:150])], logits="all"),
        engine.forward([Feed(second, [first, second], LONG[150:count])], logits="all"),
    ]
    return torch.cat(parts)


# -- scaled


@pytest.mark.parametrize(
    ("scaling", "parameters"),
    [
        ("yarn:2", {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256}),
        ("linear:2.5", {"rope_type": "linear", "factor": 2.5}),
        (json.dumps(LLAMA3), {**LLAMA3, "original_max_position_embeddings": 256}),
        (
            {"type": "yarn", "factor": 4, "beta_fast": 16.0},
            {
                "rope_type": "yarn",
                "factor": 4,
                "beta_fast": 16.0,
                "original_max_position_embeddings": 256,
            },
        ),
    ],
    ids=["yarn", "linear", "llama3", "yarn in detail"],
)
def test_a_scaled_model_computes_what_transformers_does_with_the_same_parameters(
    folder: Path, scaling: Any, parameters: dict[str, Any]
) -> None:
    config = AutoConfig.from_pretrained(folder)
    config.rope_parameters = {"rope_theta": 10000.0, **parameters}
    plain = AutoModelForCausalLM.from_pretrained(folder, config=config)
    expected = logits_of(plain, LONG)
    with load_model(folder, device="cpu", rope_scaling=scaling) as model:
        assert model.engine.model.config.rope_parameters == config.rope_parameters
        assert model.engine.context_length == 256 * parameters["factor"]
        found = feed(model.engine, len(LONG))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert (expected - logits_of(tiny_llama(), LONG)).abs().max() > 0.1


def test_only_layers_of_full_attention_are_scaled() -> None:
    config: Any = transformers.Gemma3TextConfig(
        **TEXT, sliding_window=9, layer_types=["sliding_attention", "full_attention"]
    )
    before = dict(config.rope_parameters["sliding_attention"])
    base = config.rope_parameters["full_attention"]["rope_theta"]
    scale_rope(config, parse_rope_scaling("linear:4"))
    assert config.rope_parameters["sliding_attention"] == before
    assert config.rope_parameters["full_attention"] == {
        "rope_type": "linear",
        "factor": 4.0,
        "rope_theta": base,
    }
    assert config.max_position_embeddings == 1024
    with Engine(drawn(transformers.Gemma3ForCausalLM(config))) as engine:
        assert engine.context_length == 1024


def test_what_is_no_scaling_stays() -> None:
    rope = {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 1, 1]}
    text = {**TEXT, "rope_parameters": rope}
    config: Any = transformers.Qwen2_5_VLConfig(text_config=text)
    scale_rope(config, parse_rope_scaling("yarn:4"))
    found = config.text_config.rope_parameters
    assert (found["rope_type"], found["factor"]) == ("yarn", 4.0)
    assert (found["rope_theta"], found["mrope_section"]) == (5000.0, [2, 1, 1])
    assert config.text_config.max_position_embeddings == 1024


def scaled(scaling: str, *, length: int = 1024, **rope: Any) -> Any:
    config: Any = LlamaConfig(
        **TEXT | {"max_position_embeddings": length, "rope_parameters": {"rope_theta": 1e4, **rope}}
    )
    scale_rope(config, parse_rope_scaling(scaling))
    return config


def test_the_factor_counts_from_the_length_before_any_scaling() -> None:
    yarn: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 256,
        "attention_factor": 1.1,
        "beta_fast": 16.0,
    }
    config = scaled("yarn:8", **yarn)
    assert config.max_position_embeddings == 2048
    assert config.rope_parameters == {
        "rope_theta": 1e4,
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 256,
        "beta_fast": 16.0,
    }
    assert scaled("linear:8", rope_type="linear", factor=4.0).max_position_embeddings == 2048
    assert scaled("linear:8", **yarn).rope_parameters == {
        "rope_theta": 1e4,
        "rope_type": "linear",
        "factor": 8.0,
    }
    with pytest.raises(ConfigError, match=r"512 tokens, but the model has 1024.*above 4"):
        scaled("yarn:2", **yarn)


def test_dynamic_ntk_can_be_replaced_by_yarn(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    save(tiny_llama(), tmp_path)
    change_config(tmp_path, rope_parameters=rope)
    with pytest.raises(UnsupportedModelError, match="dynamic NTK"):
        load_model(tmp_path, device="cpu")
    load_model(tmp_path, device="cpu", rope_scaling="yarn:2").close()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("yarn", "'yarn' cannot be read: write yarn:4"),
        ("yarn:x", "'yarn:x' cannot be read"),
        ("ntk:2", "no rope scaling 'ntk' by name"),
        ("dynamic:2", "changes the table with the length of the text"),
        ("yarn:0.5", "factor is 0.5, but must be 1 or more"),
        ("yarn:nan", "factor is nan, but must be 1 or more, and finite"),
        ("yarn:inf", "factor is inf, but must be 1 or more, and finite"),
        (4, "The rope scaling is 4: write yarn:4"),
        (["yarn"], r"The rope scaling is \['yarn'\]: write yarn:4"),
        ({"rope_type": "yarn", "factor": True}, "factor is True, but must be 1 or more"),
        ("{yarn", "is no JSON"),
        ("{}", "names no rope_type"),
        ({"rope_type": "yarn"}, "has no factor"),
        ({"rope_type": "yarn", "factor": "4"}, "factor is '4'"),
        ({"rope_type": "yarn", "factor": 4, "zzz": 1}, "'zzz' is no rope parameter"),
        ({"rope_type": "llama3", "factor": 4}, "does not fit the model.*low_freq_factor"),
        ({"rope_type": "longrope", "factor": 4}, "does not fit the model.*long_factor"),
    ],
)
def test_a_scaling_that_cannot_be_is_told(folder: Path, given: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load_model(folder, device="cpu", rope_scaling=given)


def test_a_model_without_rope_is_refused_with_a_scaling_too(tmp_path: Path) -> None:
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="no rotary position embedding"):
        load_model(tmp_path, rope_scaling="yarn:4")


def test_tables_that_have_no_scaling_are_told() -> None:
    config: Any = transformers.Gemma4TextConfig()
    with pytest.raises(ConfigError, match="of the kind 'proportional', for which there is no"):
        scale_rope(config, parse_rope_scaling("yarn:4"))


# -- the limit


def test_a_view_is_refused_past_the_limit_and_told_what_to_do(folder: Path) -> None:
    with load_model(folder, device="cpu") as model:
        assert model.engine.context_length == 256
        with pytest.raises(ContextLengthError, match=r"400 tokens.*256.*max_context.*rope scaling"):
            feed(model.engine, 400)
    with (
        load_model(folder, device="cpu", max_context=64) as model,
        pytest.raises(ContextLengthError),
    ):
        feed(model.engine, 200)


def test_longer_views_are_warned_of_once(folder: Path) -> None:
    with load_model(folder, device="cpu", max_context=500) as model:
        assert model.engine.context_length == 500
        with pytest.warns(LongContextWarning, match="trained for 256") as warned:
            [feed(model.engine, count) for count in (300, 310)]
        assert len(warned) == 1
    with load_model(folder, device="cpu", rope_scaling="yarn:2") as model:
        feed(model.engine, 300)  # without a warning, which would be an error here


def test_a_context_below_one_token_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="max_context is 0"):
        load_model(folder, device="cpu", max_context=0)


@pytest.mark.parametrize("length", [1, 10, 23])
def test_a_context_too_short_for_the_check_on_loading_is_no_fault_of_the_model(
    folder: Path, length: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(folder, device="cpu", max_context=length)
    assert str(caught.value) == (
        f"The context is {length} tokens long, but the check of the model on loading writes 24: "
        "give a max_context of 24 or more."
    )
    load_model(folder, device="cpu", max_context=24).close()
