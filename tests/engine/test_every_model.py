"""Every causal language model of transformers that can be made tiny: exact, or refused by name.

Nobody promises these families; what counts is that none is accepted and computed wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from hogwild_agents.engine import Engine, Feed
from hogwild_agents.errors import UnsupportedModelError
from tests.engine.family import COMMON, plain_logits, spread_weights
from tests.engine.schedules import Tokens

LARGEST = 20_000_000
"""Parameters; what cannot be made smaller by these options is left out."""

SIZES: dict[str, Any] = {
    "head_dim": 16,
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 4,
    "index_block_size": 32,
    "index_topk_blocks": 1,
    "mamba_n_heads": 4,
    "vision_config": None,
}
WINDOWED: dict[str, Any] = {
    "sliding_window": 8,
    "num_key_value_heads": 4,
    "num_hidden_layers": 4,
}
VARIANTS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "whole": (
        {"sliding_window": None},
        {"sliding_window": None, "num_key_value_heads": 4},
        {"layer_types": ["full_attention"] * 2, "num_key_value_heads": 4},
    ),
    "windowed": (WINDOWED, {**WINDOWED, "num_hidden_layers": 6}),
}
"""Options to try, until some make a model whose forward runs."""

PARTLY = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
OF_THEIR_OWN: Mapping[str, dict[str, Any]] = {
    "BlenderbotConfig": {"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "CodeGenConfig": {"rotary_dim": 8},
    "GPTJConfig": {"rotary_dim": 8},
    "CohereCompassTextConfig": {
        "num_hidden_layers": 2,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
            },
            "full_attention": None,
        },
    },
    "DbrxConfig": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.5, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_top_k": 2},
        "num_key_value_heads": ...,
    },
    "Gemma3nTextConfig": {
        "num_hidden_layers": 5,
        "sliding_window": 8,
        "layer_types": [*["sliding_attention"] * 2, "full_attention"] + ["sliding_attention"] * 2,
        "num_kv_shared_layers": 2,
    },
    "Gemma4TextConfig": {"sliding_window": 8, "layer_types": ..., "num_hidden_layers": 6},
    "Gemma4UnifiedTextConfig": {"sliding_window": 8, "layer_types": ..., "num_hidden_layers": 6},
    "GPTNeoConfig": {"attention_types": [[["global", "local"], 1]], "num_hidden_layers": 2},
    "HeliumConfig": {"head_dim": 12},
    "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "LongcatFlashConfig": {
        "head_dim": 8,
        "num_hidden_layers": 4,
        "num_key_value_heads": 4,
        "intermediate_size": ...,
        "ffn_hidden_size": 64,
        "expert_ffn_hidden_size": 32,
        "zero_expert_num": 2,
    },
    "Mamba2Config": {"num_heads": 4, "head_dim": 24, "n_groups": 1, "state_size": 8},
    "MiMoV2FlashConfig": {"num_key_value_heads": 2, "head_dim": 24},
    "ProphetNetConfig": {"num_hidden_layers": ..., "num_decoder_layers": 2, "is_decoder": True},
    "StableLmConfig": {"num_key_value_heads": 4, "rope_parameters": PARTLY},
    "XLNetConfig": {"max_position_embeddings": ...},
    "XmodConfig": {"default_language": "en_XX"},
    "ZayaConfig": {"num_experts_per_tok": 1},
}
SMALL_PARTS: dict[str, Any] = {
    "vocab_size_per_layer_input": 97,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "global_head_dim": 16,
}

CONFIGS = [kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING if "text_config" not in kind.sub_configs]
"""Multimodal ones aside: their language parts are among these, and some of them in families.py."""


def tiny(config_class: Any, variant: str, ids: list[int]) -> tuple[Any, Tensor]:
    """A tiny model of this class and its plain logits, or a skip where no options make one."""
    reasons = []
    for options in VARIANTS[variant]:
        try:
            model = _build(config_class, options)
            return model, plain_logits(model, ids)
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {str(error).strip()[:80]}")
    pytest.skip(f"no tiny model: {reasons[0]}")


def _build(config_class: Any, options: Mapping[str, Any]) -> Any:
    notes = [vars(kind).get("__annotations__", {}) for kind in config_class.__mro__]
    fields = {name for names in notes for name in names}
    sizes = {**SIZES, **SMALL_PARTS}
    known = {name: value for name, value in sizes.items() if name in fields}
    given = {name: value for name, value in options.items() if name != "layer_types"}
    if "layer_types" in options and "layer_types" in fields:
        given["layer_types"] = options["layer_types"]
    own = OF_THEIR_OWN.get(config_class.__name__, {})
    every = {**COMMON, **known, **given, **own}
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
    config = config_class(**{name: value for name, value in every.items() if value is not ...})
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config)
        spread_weights(model)
    return model.float().eval()


def spread_logits(engine: Engine, ids: list[int]) -> Tensor:
    """The same text over three blocks, with a step that moves."""
    prompt, step, own = engine.block(), engine.block(), engine.block()
    rows = [engine.forward([Feed(prompt, [prompt], ids[:20])], logits="all")]
    for at in range(20, 40, 5):
        feed = Feed(step, [prompt, step], ids[at : at + 5])
        rows.append(engine.forward([feed], logits="all"))
    engine.move(step, prompt)
    for at in range(40, len(ids), 2):
        feed = Feed(own, [prompt, own], ids[at : at + 2])
        rows.append(engine.forward([feed], logits="all"))
    return torch.cat(rows)


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("config_class", CONFIGS, ids=lambda kind: kind.__name__)
def test_a_model_is_exact_or_refused(config_class: Any, variant: str) -> None:
    ids = Tokens(31)(80)
    model, plain = tiny(config_class, variant, ids)
    try:
        engine = Engine(model)
    except UnsupportedModelError:
        assert torch.equal(plain_logits(model, ids), plain)
        return
    with engine:
        found = spread_logits(engine, ids)
    assert (found - plain).abs().max() <= 2e-4 * plain.abs().max()
