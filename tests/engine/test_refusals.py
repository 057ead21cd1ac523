"""What the engine would compute wrongly it refuses, by the model's name and with the reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import Gemma3Config

from hogwild_agents.engine import Engine, unsupported_reason
from hogwild_agents.errors import UnsupportedModelError
from tests.engine.families import REASONS, REFUSED, SUPPORTED, VOCAB


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_is_refused_with_its_reason(family: str) -> None:
    model = REFUSED[family].build()
    implementation = model.config._attn_implementation
    with pytest.raises(UnsupportedModelError) as refused:
        Engine(model)
    message = str(refused.value)
    assert type(model).__name__ in message
    assert re.search(REASONS[family], message, re.IGNORECASE), message
    assert "\n" not in message
    assert model.config._attn_implementation == implementation
    assert not model.training


@pytest.mark.parametrize("family", REFUSED)
def test_a_refused_family_is_refused_unverified_too(family: str) -> None:
    """Without the probe, what the config or the layers tell must do."""
    with pytest.raises(UnsupportedModelError):
        Engine(REFUSED[family].build(), verify=False)


@pytest.mark.parametrize("family", ["mistral-window", "llama-dynamic", "gpt2", "deepseek-v3"])
def test_a_config_alone_tells_the_reason(family: str) -> None:
    """So that nobody downloads weights that cannot be used."""
    reason = unsupported_reason(REFUSED[family].build().config)
    assert reason is not None
    assert re.search(REASONS[family], reason, re.IGNORECASE)


@pytest.mark.parametrize("family", SUPPORTED)
def test_nothing_speaks_against_supported_families(family: str) -> None:
    assert unsupported_reason(SUPPORTED[family].build().config) is None


@pytest.mark.parametrize("training", [True, False])
def test_a_refused_model_is_left_as_it_was(training: bool) -> None:
    model = REFUSED["stablelm"].build().train(training)
    ids = torch.arange(3, 13)[None] % VOCAB
    with pytest.raises(UnsupportedModelError):
        Engine(model)
    assert model.training is training
    assert model.eval()(ids).logits.isfinite().all()


def test_a_model_that_errs_is_refused_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers use RoPE in a way of their own, which only shows in the logits."""
    model = SUPPORTED["llama"].build()
    for layer in model.model.layers:
        sound = layer.self_attn.forward

        def backwards(*args: Any, sound: Any = sound, **kwargs: Any) -> Any:
            cos, sin = kwargs.pop("position_embeddings")
            return sound(*args, position_embeddings=(cos, -sin), **kwargs)

        monkeypatch.setattr(layer.self_attn, "forward", backwards)
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM.*plain forward"):
        Engine(model)
    assert model.config._attn_implementation == "sdpa"


def test_a_model_whose_layer_skips_its_rotation_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = SUPPORTED["qwen3"].build()
    attention = model.model.layers[1].self_attn
    sound = attention.forward

    def unrotated(*args: Any, **kwargs: Any) -> Any:
        cos, sin = kwargs.pop("position_embeddings")
        tables = (torch.ones_like(cos), torch.zeros_like(sin))
        return sound(*args, position_embeddings=tables, **kwargs)

    monkeypatch.setattr(attention, "forward", unrotated)
    with pytest.raises(UnsupportedModelError, match="plain forward"):
        Engine(model)


def test_a_multimodal_checkpoint_is_refused() -> None:
    assert unsupported_reason(Gemma3Config()) is not None
