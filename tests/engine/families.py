"""Tiny models of every family that the engine accepts, with every layer kind of the real ones.

Windows and chunks are smaller than the tests' texts, and every temperature begins to matter
within them. Where a family's real checkpoints mix kinds of layers, so does its tiny model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.engine.family import COMMON, CONTEXT, VOCAB, Family, Layer, spread_weights

__all__ = [
    "COMMON",
    "CONTEXT",
    "EVERY",
    "OTHERS",
    "QUICK",
    "SUPPORTED",
    "VOCAB",
    "Family",
    "Layer",
    "barely_warmer",
    "spread_weights",
]

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 128,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.0, 1.1, 1.2, 1.3, 1.5],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 4.0],
    "factor": 8.0,
    "original_max_position_embeddings": 512,
}
LONGROPE_SOON = {**LONGROPE, "original_max_position_embeddings": 32}
"""Longrope whose long table is in use, as the texts of the tests are longer."""

WINDOW = 8
CHUNK = 16
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 16,
}
ROUTED: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
}
DEEPSEEK: dict[str, Any] = {**LATENT, **ROUTED, "first_k_dense_replace": 1}
GRANITE: dict[str, Any] = {
    "attention_multiplier": 0.3,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.7,
    "logits_scaling": 2.0,
}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 4}


def partial(share: float, **more: Any) -> dict[str, Any]:
    """RoPE on this share of each head."""
    return {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": share,
        **more,
    }


def kinds(pattern: str) -> list[str]:
    """Layer types by their first letters: s(liding), f(ull), c(hunked)."""
    names = {"s": "sliding", "f": "full", "c": "chunked"}
    return [f"{names[letter]}_attention" for letter in pattern]


def layers(pattern: str, **each: Layer) -> tuple[Layer, ...]:
    """One of the given layers for each letter."""
    return tuple(each[letter] for letter in pattern)


def warmer_by_row(position: Tensor) -> Tensor:
    """Llama-4's temperature, with floor_scale=8 and attn_scale=0.3."""
    return torch.log1p(torch.floor((position.double() + 1) / 8)) * 0.3 + 1


def warmer(position: Tensor) -> Tensor:
    """Ministral-3's and Mistral-4's, with beta=0.5 and an original length of 16."""
    return 1 + 0.5 * torch.log1p(torch.floor(position.double() / 16))


def barely_warmer(position: Tensor) -> Tensor:
    """Beam's: it cannot be configured, and does little in short texts."""
    return (1 + (position.double() + 1) / 2048) ** 0.1


WARMER = {"llama_4_scaling_beta": 0.5, "original_max_position_embeddings": 16}

PLAIN = Layer()
NEIGHBOURS = Layer(pairing="neighbours")
LAST = Layer(place="last")
UNTURNED = Layer(table=None)
SLIDING = Layer(window=WINDOW)
BY_TYPE = {
    "s": Layer(table="sliding_attention_", window=WINDOW),
    "f": Layer(table="full_attention_"),
}
LOCAL_ROPE = {"s": SLIDING, "f": UNTURNED}


def family(name: str, stem: str, **options: Any) -> Family:
    named = {field: options.pop(field) for field in _FIELDS & options.keys()}
    named.setdefault("config", f"{stem}Config")
    named.setdefault("model", f"{stem}ForCausalLM")
    return Family(name=name, options=options, **named)


_FIELDS = {
    "model",
    "config",
    "common",
    "text",
    "whole",
    "layers",
    "rotary",
    "counts_rows",
    "engine",
}

_WHOLE_HEADS = (
    family("llama", "Llama"),
    family("llama-mha", "Llama", num_key_value_heads=4, num_hidden_layers=3),
    family("llama-llama3", "Llama", rope_parameters=LLAMA3),
    family("llama-yarn", "Llama", rope_parameters=YARN),
    family(
        "llama-linear",
        "Llama",
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    ),
    family("qwen2", "Qwen2"),
    family("qwen2-moe", "Qwen2Moe", shared_expert_intermediate_size=32, **EXPERTS),
    family("qwen3", "Qwen3", head_dim=16),
    family("qwen3-yarn", "Qwen3", head_dim=16, rope_parameters=YARN),
    family("qwen3-moe", "Qwen3Moe", head_dim=16, norm_topk_prob=True, **EXPERTS),
    family("mistral", "Mistral", sliding_window=None),
    family("mixtral", "Mixtral", sliding_window=None, num_local_experts=4),
    family("starcoder2", "Starcoder2", sliding_window=None),
    family("phi3", "Phi3"),
    family("olmo", "Olmo", clip_qkv=1.5),
    family("olmo2", "Olmo2"),
    family("olmoe", "Olmoe", num_experts=4, num_experts_per_tok=2),
    family("flex-olmo", "FlexOlmo", num_experts=4, num_experts_per_tok=2),
    family("granite", "Granite", tie_word_embeddings=True, **GRANITE),
    family("granite-moe", "GraniteMoe", num_local_experts=4, num_experts_per_tok=2, **GRANITE),
    family(
        "granite-moe-shared",
        "GraniteMoeShared",
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=32,
        **GRANITE,
    ),
    family(
        "granite-4-dense",
        "GraniteMoeHybrid",
        num_local_experts=0,
        shared_intermediate_size=32,
        position_embedding_type="rope",
        mamba_n_heads=4,
        layer_types=kinds("ff"),
        **GRANITE,
    ),
    family("gemma", "Gemma", head_dim=16),
    family("seed-oss", "SeedOss", head_dim=16),
    family("arcee", "Arcee"),
    family("apertus", "Apertus", rope_parameters=LLAMA3),
    family("bitnet", "BitNet"),
    family("hyperclovax", "HyperCLOVAX", **GRANITE),
    family("jais2", "Jais2", head_dim=12),
    family("solar-open", "SolarOpen", head_dim=16, **ROUTED),
    family("dots1", "Dots1", head_dim=16, first_k_dense_replace=1, **ROUTED),
    family("hy3", "HYV3", head_dim=16, num_shared_experts=1, **EXPERTS),
    family(
        "dbrx",
        "Dbrx",
        rotary="transformer.rotary_emb",
        common=False,
        d_model=48,
        n_heads=4,
        n_layers=2,
        max_seq_len=CONTEXT,
        vocab_size=VOCAB,
        attn_config={"kv_n_heads": 2, "clip_qkv": 1.5, "rope_theta": 10000.0},
        ffn_config={"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    ),
    # It turns the other way round.
    family("nanochat", "NanoChat", layers=Layer(direction=-1)),
    # Every expert has its queries, and each layer's keys are repeated for them.
    family(
        "jetmoe",
        "JetMoe",
        num_attention_heads=...,
        kv_channels=12,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
    family("cohere", "Cohere", layers=NEIGHBOURS, logit_scale=0.5, use_qk_norm=True),
    family("ernie-4.5", "Ernie4_5", layers=NEIGHBOURS, head_dim=16),
    family(
        "ernie-4.5-moe",
        "Ernie4_5_Moe",
        layers=NEIGHBOURS,
        moe_num_experts=4,
        moe_k=2,
        moe_num_shared_experts=1,
        moe_intermediate_size=32,
    ),
    family("helium", "Helium", layers=NEIGHBOURS, head_dim=12),
)

_PARTS_OF_HEADS = (
    family("glm", "Glm", layers=NEIGHBOURS, head_dim=16),
    family("glm4", "Glm4", layers=NEIGHBOURS, head_dim=16),
    family("glm4-moe", "Glm4Moe", head_dim=16, use_qk_norm=True, first_k_dense_replace=1, **ROUTED),
    family("phi", "Phi", num_key_value_heads=4, rope_parameters=partial(0.5)),
    family("phi-normed", "Phi", qk_layernorm=True, rope_parameters=partial(0.5)),
    family("stablelm", "StableLm", num_key_value_heads=4, rope_parameters=partial(1 / 3)),
    family(
        "stablelm-2",
        "StableLm",
        use_qkv_bias=True,
        qk_layernorm=True,
        use_parallel_residual=True,
        rope_parameters=partial(1 / 3),
    ),
    family(
        "gpt-neox",
        "GPTNeoX",
        rotary="gpt_neox.rotary_emb",
        num_key_value_heads=...,
        rope_parameters=partial(1 / 3),
    ),
    family("persimmon", "Persimmon", num_key_value_heads=..., rope_parameters=partial(0.5)),
    family("nemotron", "Nemotron", rope_parameters=partial(0.5)),
    family(
        "minimax-m2",
        "MiniMaxM2",
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters=partial(0.5),
    ),
)

_LATENT = (
    family(
        "deepseek-v2", "DeepseekV2", layers=Layer(place="last", pairing="neighbours"), **DEEPSEEK
    ),
    family(
        "deepseek-v2-lite",
        "DeepseekV2",
        layers=Layer(place="last", pairing="neighbours"),
        **{**DEEPSEEK, "q_lora_rank": None},
        rope_parameters={**YARN, "mscale": 0.7, "mscale_all_dim": 0.7},
    ),
    family("deepseek-v3", "DeepseekV3", layers=LAST, **DEEPSEEK),
    family(
        "deepseek-v3-yarn",
        "DeepseekV3",
        layers=LAST,
        **{**DEEPSEEK, "n_routed_experts": 8, "n_group": 4, "topk_group": 2},
        rope_parameters={**YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
    ),
    family("minicpm3", "MiniCPM3", layers=LAST, dim_model_base=48, **LATENT),
    family("youtu", "Youtu", layers=LAST, **LATENT),
    family("glm-4.7-flash", "Glm4MoeLite", layers=LAST, **LATENT, **ROUTED),
    family(
        "mistral4",
        "Mistral4",
        layers=Layer(place="last", temperature=warmer),
        **DEEPSEEK,
        rope_parameters={
            **YARN,
            **WARMER,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "partial_rotary_factor": 0.4,
        },
    ),
    family("axk1", "AXK1", layers=LAST, **DEEPSEEK),
    family(
        "longcat-flash",
        "LongcatFlash",
        layers=LAST,
        **LATENT,
        head_dim=8,
        intermediate_size=...,
        num_hidden_layers=...,
        num_layers=2,
        ffn_hidden_size=64,
        moe_topk=2,
        n_routed_experts=4,
        zero_expert_num=2,
        expert_ffn_hidden_size=32,
    ),
)

_WINDOWS = (
    family("mistral-window", "Mistral", layers=SLIDING, sliding_window=WINDOW),
    family("mixtral-window", "Mixtral", layers=SLIDING, sliding_window=WINDOW, num_local_experts=4),
    family("starcoder2-window", "Starcoder2", layers=SLIDING, sliding_window=WINDOW),
    family("phi3-window", "Phi3", layers=SLIDING, sliding_window=WINDOW),
    family(
        "qwen2-window",
        "Qwen2",
        layers=(PLAIN, SLIDING, SLIDING),
        num_hidden_layers=3,
        sliding_window=WINDOW,
        use_sliding_window=True,
        max_window_layers=1,
    ),
    family(
        "qwen2-moe-window",
        "Qwen2Moe",
        layers=(SLIDING, PLAIN, SLIDING),
        num_hidden_layers=3,
        sliding_window=WINDOW,
        use_sliding_window=True,
        max_window_layers=3,
        shared_expert_intermediate_size=32,
        **EXPERTS,
    ),
    family(
        "ministral",
        "Ministral",
        layers=(SLIDING, SLIDING, PLAIN),
        num_hidden_layers=3,
        head_dim=12,
        sliding_window=WINDOW,
        layer_types=kinds("ssf"),
    ),
    family(
        "cwm",
        "Cwm",
        layers=(PLAIN, SLIDING, SLIDING),
        num_hidden_layers=3,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("fss"),
        rope_parameters=LLAMA3,
    ),
    family(
        "olmo3",
        "Olmo3",
        layers=layers("sssf", **BY_TYPE),
        num_hidden_layers=4,
        sliding_window=WINDOW,
        layer_types=kinds("sssf"),
        rope_parameters={
            "sliding_attention": partial(1.0),
            "full_attention": {**YARN, "attention_factor": 1.2},
        },
    ),
    family(
        "gemma2",
        "Gemma2",
        layers=layers("sfsf", s=Layer(window=WINDOW, cap=3.0), f=Layer(cap=3.0)),
        sliding_window=WINDOW,
        attn_logit_softcapping=3.0,
        **GEMMA,
    ),
    family(
        "vaultgemma",
        "VaultGemma",
        layers=layers("sfsf", s=Layer(window=WINDOW, cap=3.0), f=Layer(cap=3.0)),
        sliding_window=WINDOW,
        attn_logit_softcapping=3.0,
        **GEMMA,
    ),
    family(
        "gemma3",
        "Gemma3",
        config="Gemma3TextConfig",
        layers=layers("sssf", **BY_TYPE),
        sliding_window=WINDOW,
        layer_types=kinds("sssf"),
        **GEMMA,
    ),
    family(
        "mellum",
        "Mellum",
        layers=layers("sfs", **BY_TYPE),
        num_hidden_layers=3,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("sfs"),
        **EXPERTS,
    ),
    family(
        "laguna",
        "Laguna",
        layers=layers("fss", **BY_TYPE),
        num_hidden_layers=3,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("fss"),
        num_attention_heads_per_layer=[4, 8, 8],
        shared_expert_intermediate_size=32,
        **EXPERTS,
    ),
    family(
        "modernbert-decoder",
        "ModernBertDecoder",
        layers=layers("fss", **BY_TYPE),
        num_hidden_layers=3,
        num_key_value_heads=...,
        local_attention=2 * WINDOW,
    ),
)

_UNTURNED = (
    family(
        "smollm3",
        "SmolLM3",
        layers=(PLAIN, PLAIN, PLAIN, UNTURNED),
        num_hidden_layers=4,
        no_rope_layers=[1, 1, 1, 0],
    ),
    family(
        "smollm3-window",
        "SmolLM3",
        layers=(PLAIN, Layer(table=None, window=WINDOW), PLAIN),
        num_hidden_layers=3,
        no_rope_layers=[1, 0, 1],
        use_sliding_window=True,
        sliding_window=WINDOW,
    ),
    family(
        "cohere2",
        "Cohere2",
        layers=layers("sssf", s=Layer(pairing="neighbours", window=WINDOW), f=UNTURNED),
        num_hidden_layers=4,
        sliding_window=WINDOW,
        logit_scale=0.5,
    ),
    family(
        "cohere2-moe",
        "Cohere2Moe",
        layers=(
            NEIGHBOURS,
            *layers("ssf", s=Layer(pairing="neighbours", window=WINDOW), f=UNTURNED),
        ),
        num_hidden_layers=4,
        head_dim=12,
        sliding_window=WINDOW,
        logit_scale=0.5,
        sliding_window_pattern=3,
        first_k_dense_replace=1,
        prefix_dense_sliding_window_pattern=1,
        prefix_dense_intermediate_size=64,
        num_experts=4,
    ),
    family(
        "exaone4",
        "Exaone4",
        layers=layers("sssf", **LOCAL_ROPE),
        num_hidden_layers=4,
        sliding_window=WINDOW,
    ),
    family("exaone4-full", "Exaone4", sliding_window=None, layer_types=kinds("ff")),
    family(
        "exaone-moe",
        "ExaoneMoe",
        layers=layers("sssf", **LOCAL_ROPE),
        num_hidden_layers=4,
        sliding_window=WINDOW,
        num_shared_experts=1,
        **EXPERTS,
    ),
    family(
        "afmoe",
        "Afmoe",
        layers=layers("sssf", **LOCAL_ROPE),
        num_hidden_layers=4,
        head_dim=16,
        sliding_window=WINDOW,
        num_shared_experts=1,
        **EXPERTS,
    ),
    family(
        "kolibri1",
        "Kolibri1",
        layers=layers("sssf", **LOCAL_ROPE),
        num_hidden_layers=4,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("sssf"),
        shared_expert_intermediate_size=32,
        intermediate_size=...,
        **EXPERTS,
    ),
    family(
        "granite-4-unturned",
        "GraniteMoeHybrid",
        rotary="",
        layers=UNTURNED,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=32,
        position_embedding_type="nope",
        mamba_n_heads=4,
        layer_types=kinds("ff"),
        **GRANITE,
    ),
)

_SINKS = (
    family(
        "gpt-oss",
        "GptOss",
        layers=layers("sf", s=Layer(window=WINDOW, sinks="sinks"), f=Layer(sinks="sinks")),
        head_dim=16,
        sliding_window=WINDOW,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={**YARN, "truncate": False},
    ),
    family(
        "mimo-v2-flash",
        "MiMoV2Flash",
        layers=layers(
            "fsssf",
            s=Layer(table="sliding_attention_", window=WINDOW, sinks="sinks"),
            f=Layer(table="full_attention_"),
        ),
        num_hidden_layers=5,
        head_dim=24,
        v_head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("fsssf"),
        **{**ROUTED, "n_shared_experts": ...},
    ),
    family(
        "flint",
        "Flint",
        layers=layers(
            "ffssf",
            s=Layer(window=WINDOW, sinks="sinks"),
            f=Layer(table=None, sinks="sinks"),
        ),
        num_hidden_layers=5,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("ffssf"),
        shared_expert_intermediate_size=32,
        **EXPERTS,
    ),
    family(
        "granite-swa",
        "GraniteSWA",
        rotary="model.rotary_embs.0",
        layers=layers(
            "fsss", s=Layer(window=WINDOW, sinks="sinks"), f=Layer(table=None, sinks="sinks")
        ),
        num_hidden_layers=4,
        sliding_window=WINDOW,
        layer_types=kinds("fsss"),
        layer_rope_theta=[0, 10000.0, 10000.0, 10000.0],
        **GRANITE,
    ),
)

_BY_LENGTH = (
    family("phi3-longrope", "Phi3", rope_parameters=LONGROPE, original_max_position_embeddings=512),
    family(
        "phi3-longrope-long",
        "Phi3",
        layers=Layer(long=True),
        engine={"max_context": CONTEXT},
        original_max_position_embeddings=32,
        rope_parameters=LONGROPE_SOON,
    ),
    family(
        "phi4-mini",
        "Phi3",
        layers=Layer(long=True),
        engine={"max_context": CONTEXT},
        hidden_size=64,
        tie_word_embeddings=True,
        original_max_position_embeddings=32,
        rope_parameters={**LONGROPE_SOON, "partial_rotary_factor": 0.75},
    ),
    family(
        "phi3.5-moe",
        "Phimoe",
        layers=Layer(scale=1.1),
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={**LONGROPE, "short_mscale": 1.1, "long_mscale": 1.3},
    ),
    family(
        "llama4",
        "Llama4",
        config="Llama4TextConfig",
        counts_rows=True,
        layers=layers(
            "cccf",
            c=Layer(pairing="neighbours", chunk=CHUNK),
            f=Layer(table=None, temperature=warmer_by_row),
        ),
        num_hidden_layers=4,
        head_dim=16,
        intermediate_size_mlp=64,
        num_local_experts=4,
        attention_chunk_size=CHUNK,
        floor_scale=8,
        attn_scale=0.3,
    ),
    family(
        "ministral3",
        "Ministral3",
        layers=Layer(temperature=warmer),
        head_dim=12,
        sliding_window=None,
        rope_parameters={**YARN, **WARMER},
    ),
)

_SHARED_KEYS = (
    family(
        "gemma3n",
        "Gemma3n",
        config="Gemma3nTextConfig",
        layers=layers("ssfsf", **BY_TYPE),
        num_hidden_layers=5,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("ssfsf"),
        num_kv_shared_layers=2,
        vocab_size_per_layer_input=VOCAB,
        hidden_size_per_layer_input=8,
        laurel_rank=8,
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0, 0.0],
    ),
    family(
        "gemma4",
        "Gemma4",
        config="Gemma4TextConfig",
        layers=layers("ssfsf", **BY_TYPE),
        num_hidden_layers=5,
        head_dim=16,
        global_head_dim=24,
        num_global_key_value_heads=1,
        attention_k_eq_v=True,
        sliding_window=WINDOW,
        layer_types=kinds("ssfsf"),
        vocab_size_per_layer_input=VOCAB,
        hidden_size_per_layer_input=8,
    ),
    family(
        "gemma4-shared",
        "Gemma4",
        config="Gemma4TextConfig",
        layers=layers("ssfsf", **BY_TYPE),
        num_hidden_layers=5,
        head_dim=16,
        global_head_dim=24,
        sliding_window=WINDOW,
        layer_types=kinds("ssfsf"),
        num_kv_shared_layers=2,
        vocab_size_per_layer_input=VOCAB,
        hidden_size_per_layer_input=8,
        enable_moe_block=True,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=32,
    ),
)

_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
_UNTIED = {"tie_word_embeddings": False}
_SIGHT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
_SIGHT_QWEN: dict[str, Any] = {
    "depth": 1,
    "hidden_size": 48,
    "embed_dim": 48,
    "out_hidden_size": 48,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 4,
}

_MULTIMODAL = (
    family(
        "llava",
        "Llava",
        model="LlavaForConditionalGeneration",
        text="LlamaConfig",
        whole={**_UNTIED, "vision_config": _SIGHT, "image_token_index": 96},
        rotary="model.language_model.rotary_emb",
    ),
    family(
        "gemma3-whole",
        "Gemma3",
        model="Gemma3ForConditionalGeneration",
        text="Gemma3TextConfig",
        whole={
            **_UNTIED,
            "vision_config": _SIGHT,
            "mm_tokens_per_image": 4,
            "image_token_index": 96,
        },
        rotary="model.language_model.rotary_emb",
        layers=layers("sssf", **BY_TYPE),
        sliding_window=WINDOW,
        layer_types=kinds("sssf"),
        **GEMMA,
    ),
    family(
        "mistral3",
        "Mistral3",
        model="Mistral3ForConditionalGeneration",
        text="MistralConfig",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT, "model_type": "pixtral"},
            "image_token_index": 96,
        },
        rotary="model.language_model.rotary_emb",
        sliding_window=None,
    ),
    family(
        "mistral3-ministral3",
        "Mistral3",
        model="Mistral3ForConditionalGeneration",
        text="Ministral3Config",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT, "model_type": "pixtral"},
            "image_token_index": 96,
        },
        rotary="model.language_model.rotary_emb",
        layers=Layer(temperature=warmer),
        head_dim=12,
        sliding_window=None,
        rope_parameters={**YARN, **WARMER},
    ),
    family(
        "qwen2-vl",
        "Qwen2VL",
        model="Qwen2VLForConditionalGeneration",
        text="Qwen2VLTextConfig",
        whole={**_UNTIED, "vision_config": _SIGHT_QWEN, "image_token_id": 96, "video_token_id": 95},
        rotary="model.language_model.rotary_emb",
        rope_parameters=_MROPE,
    ),
    family(
        "qwen2.5-vl",
        "Qwen2_5_VL",
        model="Qwen2_5_VLForConditionalGeneration",
        text="Qwen2_5_VLTextConfig",
        whole={**_UNTIED, "vision_config": _SIGHT_QWEN, "image_token_id": 96, "video_token_id": 95},
        rotary="model.language_model.rotary_emb",
        rope_parameters=_MROPE,
    ),
    family(
        "qwen3-vl",
        "Qwen3VL",
        model="Qwen3VLForConditionalGeneration",
        text="Qwen3VLTextConfig",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT_QWEN, "deepstack_visual_indexes": [0]},
            "image_token_id": 96,
            "video_token_id": 95,
        },
        rotary="model.language_model.rotary_emb",
        head_dim=12,
        rope_parameters={**_MROPE, "mrope_interleaved": True},
    ),
    family(
        "qwen3-vl-moe",
        "Qwen3VLMoe",
        model="Qwen3VLMoeForConditionalGeneration",
        text="Qwen3VLMoeTextConfig",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT_QWEN, "deepstack_visual_indexes": [0]},
            "image_token_id": 96,
            "video_token_id": 95,
        },
        rotary="model.language_model.rotary_emb",
        head_dim=12,
        rope_parameters={**_MROPE, "mrope_interleaved": True},
        **EXPERTS,
    ),
    family(
        "internvl",
        "InternVL",
        model="InternVLForConditionalGeneration",
        text="Qwen2Config",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT, "image_size": [8, 8], "patch_size": [4, 4]},
            "image_token_id": 96,
        },
        rotary="model.language_model.rotary_emb",
    ),
    family(
        "aya-vision",
        "AyaVision",
        model="AyaVisionForConditionalGeneration",
        text="Cohere2Config",
        whole={**_UNTIED, "vision_config": _SIGHT, "image_token_index": 96},
        rotary="model.language_model.rotary_emb",
        layers=layers("sssf", s=Layer(pairing="neighbours", window=WINDOW), f=UNTURNED),
        num_hidden_layers=4,
        sliding_window=WINDOW,
        logit_scale=0.5,
    ),
    family(
        "glm4v",
        "Glm4v",
        model="Glm4vForConditionalGeneration",
        text="Glm4vTextConfig",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT_QWEN, "image_size": 8},
            "image_token_id": 96,
            "video_token_id": 95,
        },
        rotary="model.language_model.rotary_emb",
        layers=NEIGHBOURS,
        rope_parameters={**_MROPE, "mrope_section": [1, 1, 1], "partial_rotary_factor": 0.5},
    ),
    family(
        "llama4-whole",
        "Llama4",
        model="Llama4ForConditionalGeneration",
        text="Llama4TextConfig",
        whole={
            **_UNTIED,
            "vision_config": {**_SIGHT, "vision_output_dim": 48, "projector_output_dim": 48},
            "image_token_index": 96,
        },
        rotary="language_model.model.rotary_emb",
        counts_rows=True,
        layers=layers(
            "cccf",
            c=Layer(pairing="neighbours", chunk=CHUNK),
            f=Layer(table=None, temperature=warmer_by_row),
        ),
        num_hidden_layers=4,
        head_dim=16,
        intermediate_size_mlp=64,
        num_local_experts=4,
        attention_chunk_size=CHUNK,
        floor_scale=8,
        attn_scale=0.3,
    ),
)

_ODD = (
    # Its full layers scale queries by a formula in its code.
    family(
        "beam",
        "Beam",
        layers=layers("sssf", s=BY_TYPE["s"], f=Layer(table=None, temperature=barely_warmer)),
        num_hidden_layers=4,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=kinds("sssf"),
        n_group=2,
        topk_group=1,
        **EXPERTS,
    ),
    # Two softmaxes over the same keys in a layer.
    family("diffllama", "DiffLlama", num_key_value_heads=4),
    # Norms with weights after the rotation: keys cannot be turned further as they are.
    family(
        "hunyuan",
        "HunYuanDenseV1",
        layers=Layer(gains=("query_layernorm", "key_layernorm")),
        head_dim=16,
    ),
    # Layers that run several times in a forward.
    family(
        "hrm-text",
        "HrmText",
        num_hidden_layers=...,
        num_layers_per_stack=2,
        H_cycles=2,
        L_cycles=2,
    ),
)

EVERY: dict[str, Family] = {
    family.name: family
    for group in (
        _WHOLE_HEADS,
        _PARTS_OF_HEADS,
        _LATENT,
        _WINDOWS,
        _UNTURNED,
        _SINKS,
        _BY_LENGTH,
        _SHARED_KEYS,
        _MULTIMODAL,
        _ODD,
    )
    for family in group
    if family.available
}

OTHERS: dict[str, Family] = {family.name: family for family in _ODD if family.available}
"""Refused by name, or accepted and exact: RoPE in ways that are rare."""
SUPPORTED: dict[str, Family] = {
    name: family for name, family in EVERY.items() if name not in OTHERS
}
"""These must be accepted, and exact."""
QUICK = ("llama", "llama-yarn", "glm4", "deepseek-v3", "gpt-oss", "llama4")
"""One of each kind, for the tests that need not run for every family."""
