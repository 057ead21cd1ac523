"""Of a multimodal checkpoint the language part is loaded, and computes what the whole computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hogwild_agents.checkpoint import find_checkpoint, quiet_transformers, read_config
from hogwild_agents.engine import Feed
from hogwild_agents.errors import ModelError
from hogwild_agents.models import load_model
from hogwild_agents.weights import read_weights
from tests.models.folders import IDS, TEXT, VOCABULARY, drawn, logits_of, save

EYE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
EYE_OF_QWEN: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 32,
    "embed_dim": 32,
    "out_hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 4,
}
EAR: dict[str, Any] = {
    "d_model": 32,
    "hidden_size": 32,
    "intermediate_size": 32,
    "encoder_layers": 1,
    "num_hidden_layers": 1,
    "encoder_attention_heads": 2,
    "num_attention_heads": 2,
    "encoder_ffn_dim": 32,
}
WHOLE: dict[str, Any] = {"tie_word_embeddings": False, "image_token_index": 500}
BY_PARTS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
SIGHT_OF_QWEN = {
    "vision_config": EYE_OF_QWEN,
    "image_token_id": 500,
    "video_token_id": 501,
    "tie_word_embeddings": False,
}

Kind = tuple[str, dict[str, Any], dict[str, Any]]
KINDS: dict[str, Kind] = {
    "Llava": ("Llava", {"model_type": "llama"}, {"vision_config": EYE, **WHOLE}),
    "Gemma3": (
        "Gemma3",
        {"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]},
        {"vision_config": EYE, "mm_tokens_per_image": 4, **WHOLE},
    ),
    "Mistral3": (
        "Mistral3",
        {"model_type": "mistral", "sliding_window": None},
        {"vision_config": {**EYE, "model_type": "pixtral"}, **WHOLE},
    ),
    "InternVL": (
        "InternVL",
        {"model_type": "qwen2"},
        {
            "vision_config": {**EYE, "image_size": [8, 8], "patch_size": [4, 4]},
            "image_token_id": 500,
            "tie_word_embeddings": False,
        },
    ),
    "Qwen2.5-VL": ("Qwen2_5_VL", {"rope_parameters": BY_PARTS}, SIGHT_OF_QWEN),
    "Qwen3-VL": (
        "Qwen3VL",
        {"rope_parameters": {**BY_PARTS, "mrope_interleaved": True}},
        {**SIGHT_OF_QWEN, "vision_config": {**EYE_OF_QWEN, "deepstack_visual_indexes": [0]}},
    ),
    "Llama4": (
        "Llama4",
        {
            "intermediate_size_mlp": 48,
            "num_local_experts": 2,
            "attention_chunk_size": 16,
            "floor_scale": 8,
        },
        {
            "vision_config": {**EYE, "projector_input_dim": 32, "vision_output_dim": 32},
            "image_token_index": 500,
            "tie_word_embeddings": False,
        },
    ),
    "Voxtral": (
        "Voxtral",
        {"model_type": "llama"},
        {"audio_config": EAR, "audio_token_id": 500, "tie_word_embeddings": False},
    ),
}


def whole_model(kind: str) -> Any:
    """The multimodal model itself, with random weights."""
    name, text, whole = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(text_config={**TEXT, **text}, **whole)
    return drawn(getattr(transformers, f"{name}ForConditionalGeneration")(config))


@pytest.mark.parametrize("kind", KINDS)
def test_the_language_part_computes_what_the_whole_did(kind: str, tmp_path: Path) -> None:
    whole = whole_model(kind)
    expected = logits_of(whole)
    with load_model(save(whole, tmp_path), device="cpu") as model:
        engine = model.engine
        assert engine.probe_error is not None
        assert engine.probe_error < 1e-4
        first, second = engine.block("first"), engine.block("second")
        parts = [
            engine.forward([Feed(first, [first], IDS[:17])], logits="all"),
            engine.forward([Feed(second, [first, second], IDS[17:])], logits="all"),
        ]
        torch.testing.assert_close(torch.cat(parts), expected, atol=1e-4, rtol=0)
        language = engine.model
    assert torch.equal(logits_of(language), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_tower_is_kept(kind: str, tmp_path: Path) -> None:
    whole = whole_model(kind)
    towers = {
        name.rpartition(".")[2]
        for name, part in whole.named_modules()
        if isinstance(part, transformers.PreTrainedModel)
        and any(what in name for what in ("vision", "visual", "audio"))
    }
    assert towers
    with load_model(save(whole, tmp_path), device="cpu", verify=False) as model:
        names = [name for name, _ in model.engine.model.named_modules()]
        kept = sum(tensor.numel() for tensor in model.engine.model.parameters())
    assert not [name for name in names if towers.intersection(name.split("."))]
    assert kept < sum(tensor.numel() for tensor in whole.parameters())


def test_the_model_is_given_back_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with load_model(save(whole_model("Gemma3"), tmp_path), device="cpu", verify=False) as model:
        assert model.engine.model.config._attn_implementation == "hogwild"
        language = model.engine.model
    assert language.config._attn_implementation == "sdpa"
    assert language.config.text_config._attn_implementation == "sdpa"
    assert not caplog.records  # transformers has nothing to say of towers that are not there


@pytest.mark.parametrize("kind", ["Gemma3", "Qwen2.5-VL"])
def test_names_of_tensors_may_be_old_or_new(kind: str, tmp_path: Path) -> None:
    """transformers saves by the names that the first checkpoints had, which are not the model's."""
    whole = whole_model(kind)
    expected = logits_of(whole)
    save(whole, tmp_path)
    tensors = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    assert tensors.keys() != load_file(tmp_path / "model.safetensors").keys()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with load_model(tmp_path, device="cpu", verify=False) as model:
        language = model.engine.model
    assert torch.equal(logits_of(language), expected)


def test_of_those_that_talk_the_part_that_thinks_is_loaded(tmp_path: Path) -> None:
    text = {**TEXT, "rope_parameters": BY_PARTS}
    ear = {**EAR, "output_dim": 32, "n_window": 4}
    parts = {"text_config": text, "vision_config": EYE_OF_QWEN, "audio_config": ear}
    config: Any = transformers.Qwen2_5OmniConfig(thinker_config=parts)
    thinker = drawn(transformers.Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config))
    expected = logits_of(thinker)
    save(thinker, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    named = {f"thinker.{name.removeprefix('thinker.')}": tensors[name] for name in tensors}
    save_file(named, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    checkpoint = find_checkpoint(tmp_path, None)
    with quiet_transformers(None):
        found = read_config(checkpoint)
        language = read_weights(checkpoint, found, dtype="auto", device=torch.device("cpu"))
    assert torch.equal(logits_of(language), expected)
    for part in ("visual", "audio_tower"):  # transformers 5.17 has no such attributes
        assert getattr(language.model, part, None) is None


def test_a_tensor_that_the_language_part_lacks_is_told(tmp_path: Path) -> None:
    save(whole_model("Gemma3"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of its tensors, such as '.*layers\.1\.mlp"):
        load_model(tmp_path, device="cpu")


def test_a_tower_that_lacks_tensors_does_no_harm(tmp_path: Path) -> None:
    save(whole_model("Gemma3"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "vision_tower" not in name}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_model(tmp_path, device="cpu", verify=False).close()


def test_a_tower_that_cannot_be_built_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 3n sees by a model of timm; without timm its text model is loaded all the same."""

    def lacks_timm(*_: object) -> None:
        raise ImportError("install timm")

    monkeypatch.setattr(transformers.Gemma3nForConditionalGeneration, "__init__", lacks_timm)
    text = {
        **TEXT,
        "num_hidden_layers": 4,
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
    }
    config: Any = transformers.Gemma3nConfig(text_config=text)
    alone = drawn(transformers.Gemma3nForCausalLM(config.text_config))
    expected = logits_of(alone)
    save(alone, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    whole = {name.replace("model.", "model.language_model."): tensors[name] for name in tensors}
    save_file(whole, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    with load_model(tmp_path, device="cpu") as model:
        language = model.engine.model
    assert torch.equal(logits_of(language), expected)


def test_a_tower_that_cannot_be_built_is_told_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(whole_model("Qwen3-VL"), tmp_path)  # there is no class for its text alone

    def lacks_timm(*_: object) -> None:
        raise ImportError("install timm")

    monkeypatch.setattr(transformers.Qwen3VLForConditionalGeneration, "__init__", lacks_timm)
    with pytest.raises(ModelError, match="install timm"):
        load_model(tmp_path, device="cpu")
