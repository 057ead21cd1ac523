"""What the engine would compute wrongly it refuses, by the model's name and with the reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, Qwen3_5Config

from hogwild_agents.engine import Engine, Feed, unsupported_reason
from hogwild_agents.errors import UnsupportedModelError
from tests.engine.families import OTHERS, SUPPORTED
from tests.engine.family import CONTEXT, plain_logits
from tests.engine.refused import REFUSED

every_refused = pytest.mark.parametrize("family", REFUSED)


@every_refused
def test_a_family_is_refused_with_its_reason(family: str) -> None:
    model = REFUSED[family].family.build()
    implementation = model.config._attn_implementation
    with pytest.raises(UnsupportedModelError) as refused:
        Engine(model)
    message = str(refused.value)
    assert type(model).__name__ in message
    assert re.search(REFUSED[family].reason, message)
    assert "\n" not in message
    assert model.config._attn_implementation == implementation
    assert not model.training


@every_refused
def test_a_refused_family_is_refused_unverified_too(family: str) -> None:
    """Without the probe, what the config or the layers tell must do."""
    with pytest.raises(UnsupportedModelError):
        Engine(REFUSED[family].family.build(), verify=False)


@pytest.mark.parametrize("family", [name for name in REFUSED if REFUSED[name].from_config])
def test_a_config_alone_tells_the_reason(family: str) -> None:
    """So that nobody downloads weights that cannot be used."""
    reason = unsupported_reason(REFUSED[family].family.configuration())
    assert reason is not None
    assert re.search(REFUSED[family].reason, reason)


@pytest.mark.parametrize("family", SUPPORTED)
def test_nothing_speaks_against_supported_families(family: str) -> None:
    assert unsupported_reason(SUPPORTED[family].configuration()) is None


@pytest.mark.parametrize("training", [True, False])
def test_a_refused_model_is_left_as_it_was(training: bool) -> None:
    """Refused while it was lent already, by what its layers do."""
    model = OTHERS["diffllama"].build().train(training)
    ids = list(range(3, 13))
    before = plain_logits(model, ids)
    with pytest.raises(UnsupportedModelError, match="more than once"):
        Engine(model)
    assert model.training is training
    torch.testing.assert_close(plain_logits(model, ids), before)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_deep_model_in_half_precision_is_not_refused_for_rounding(seed: int) -> None:
    """Its logits differ by 5 to 10 % of their spread, as they do where its last bits change."""
    model = SUPPORTED["llama"].build(seed=seed, num_hidden_layers=32).bfloat16()
    with Engine(model) as engine:
        assert engine.probe_error is not None
        assert engine.probe_bound is not None
        assert engine.probe_error <= engine.probe_bound <= 0.5
        assert engine.used_tokens == 0
    assert not model.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize(("layers", "dtype"), [(2, torch.float32), (32, torch.bfloat16)])
def test_a_model_that_errs_is_refused_by_the_probe(
    layers: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers look at the token before, outside of attention, which shows in the logits only."""
    model = SUPPORTED["llama"].build(num_hidden_layers=layers).to(dtype)
    for layer in model.model.layers:
        sound = layer.mlp.forward

        def mixed(states: torch.Tensor, sound: Any = sound) -> Any:
            return sound(states + states.roll(1, dims=1))

        monkeypatch.setattr(layer.mlp, "forward", mixed)
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM.*plain forward"):
        Engine(model)
    assert model.config._attn_implementation == "sdpa"


def test_layers_may_differ_in_what_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no config tells is measured: here one layer was made to skip its rotation."""
    model = SUPPORTED["qwen3"].build()
    attention = model.model.layers[1].self_attn
    sound = attention.forward

    def unrotated(*args: Any, **kwargs: Any) -> Any:
        cos, sin = kwargs.pop("position_embeddings")
        tables = (torch.ones_like(cos), torch.zeros_like(sin))
        return sound(*args, position_embeddings=tables, **kwargs)

    monkeypatch.setattr(attention, "forward", unrotated)
    ids = list(range(5, 45))
    plain = plain_logits(model, ids)
    with Engine(model) as engine:
        block = engine.block()
        found = engine.forward([Feed(block, [block], ids)], logits="all")
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=0)


def test_a_multimodal_config_is_judged_by_its_language_part() -> None:
    assert unsupported_reason(Gemma3Config()) is None
    assert "linear-attention" in str(unsupported_reason(Qwen3_5Config()))


def test_longrope_beyond_its_short_table_is_exact_or_refused() -> None:
    """Phi-3.5-MoE keeps its short table there, and changes its scale only."""
    sparse = SUPPORTED["phi3.5-moe"]
    assert Engine(sparse.build()).context_length == 512
    with pytest.raises(UnsupportedModelError, match="no rotation known"):
        Engine(sparse.build(), max_context=CONTEXT)
    with Engine(SUPPORTED["phi3-longrope"].build(), max_context=CONTEXT) as engine:
        assert engine.context_length == CONTEXT
