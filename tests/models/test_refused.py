"""What the config tells is told before anything else is looked at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import transformers

from hogwild_agents.errors import UnsupportedModelError
from hogwild_agents.models import load_model

STATE = "recurrent or linear-attention layers, which have no keys to share"
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "state space": ("MambaConfig", {}, STATE),
    "state space, second": ("Mamba2Config", {}, STATE),
    "state space and attention": ("JambaConfig", {}, STATE),
    "linear attention": ("Qwen3NextConfig", {}, STATE),
    "recurrence": ("RecurrentGemmaConfig", {}, STATE),
    "convolutions": ("Lfm2Config", {"full_attn_idxs": [1]}, STATE),
    "linear attention of a multimodal model": ("Qwen3_5Config", {}, STATE),
    "encoder-decoder": ("T5Config", {}, "encoder-decoder"),
    "speech": ("WhisperConfig", {}, "encoder-decoder"),
    "ALiBi": ("FalconConfig", {"alibi": True}, "ALiBi"),
    "ALiBi by nature": ("BloomConfig", {}, "no rotary position embedding"),
    "learned positions": ("GPT2Config", {}, "no rotary position embedding"),
    "learned positions too": ("OPTConfig", {}, "no rotary position embedding"),
    "dynamic NTK": ("LlamaConfig", {"rope_parameters": DYNAMIC}, "dynamic NTK"),
    "dynamic NTK of a multimodal model": (
        "LlavaConfig",
        {"text_config": {"model_type": "llama", "rope_parameters": DYNAMIC}},
        "dynamic NTK",
    ),
    "older attention": ("GPTJConfig", {}, "older attention class"),
    "no decoder": ("EuroBertConfig", {}, "no causal language model"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_config_alone_tells_that_its_model_cannot_be_run(case: str, tmp_path: Path) -> None:
    """There are no weights and no tokenizer: whoever looked for them would say so instead."""
    name, options, reason = CASES[case]
    config = getattr(transformers, name)(**options)
    config.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    with pytest.raises(UnsupportedModelError) as caught:
        load_model(tmp_path)
    message = str(caught.value)
    assert re.search(rf"\(model type '{config.model_type}'\).*because.*{reason}", message)
    assert str(tmp_path) in message


def test_no_weight_file_is_opened_for_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers.GPT2Config().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"no weights")

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the weights were opened")

    monkeypatch.setattr("safetensors.safe_open", opened)
    monkeypatch.setattr("transformers.modeling_utils.safe_open", opened)
    with pytest.raises(UnsupportedModelError):
        load_model(tmp_path)
