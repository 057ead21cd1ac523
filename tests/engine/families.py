"""Tiny random models of every family that the engine accepts, and of those it must refuse.

Weights are drawn so that mistakes show: attention is far from uniform, logits are spread over
several units, and moving a key by one position changes them by far more than the tests' tolerance
(``test_oracle.py`` proves that for each family).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers

VOCAB = 97
CONTEXT = 1024

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
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
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 6,
    "long_factor": [4.0] * 6,
    "factor": 8.0,
    "original_max_position_embeddings": 128,
}

Pairing = Literal["halves", "neighbours"]
"""Which two dimensions of a head turn together: (i, i + n/2), or (2i, 2i + 1)."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model class with its tiny configuration.

    ``model`` and ``config`` are names in transformers; ``options`` update ``COMMON`` (None drops
    an option), ``extra`` are attributes set on the finished configuration.
    """

    name: str
    model: str
    config: str
    pairing: Pairing = "halves"
    options: Mapping[str, Any] = field(default_factory=dict)
    common: bool = True

    @property
    def available(self) -> bool:
        """Whether the installed transformers has it."""
        return hasattr(transformers, self.model) and hasattr(transformers, self.config)

    def build(self, *, seed: int = 0, **changes: Any) -> Any:
        """A fresh fp32 model on the CPU in eval mode; equal seeds give equal weights."""
        options = {**(COMMON if self.common else {}), **self.options, **changes}
        kept = {name: value for name, value in options.items() if value is not ...}
        config = getattr(transformers, self.config)(**kept)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = getattr(transformers, self.model)(config)
            spread_weights(model)
        return model.to(torch.float32).eval()


def spread_weights(model: torch.nn.Module) -> None:
    """Draw weights anew: unit-scale activations, sharp attention, and biases and norms at work."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        parameter.copy_(_draw(name, parameter))


def _draw(name: str, parameter: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(parameter.shape)
    if parameter.dim() < 2:
        return noise * 0.2 + (0.0 if name.endswith("bias") else 1.2)
    if "embed" in name:
        return 0.4 * noise
    sharp = 1.6 if any(part in name for part in ("q_proj", "k_proj", "qkv_proj")) else 1.0
    scale: float = sharp / parameter.shape[-1] ** 0.5
    return noise * scale


def _family(name: str, model: str, **options: Any) -> Family:
    pairing: Pairing = options.pop("pairing", "halves")
    config = options.pop("config", f"{model}Config")
    return Family(
        name=name,
        model=options.pop("head", f"{model}ForCausalLM"),
        config=config,
        pairing=pairing,
        common=options.pop("common", True),
        options=options,
    )


_SUPPORTED = (
    _family("llama", "Llama"),
    _family("llama-mha", "Llama", num_key_value_heads=4, num_hidden_layers=3),
    _family("llama-llama3", "Llama", rope_parameters=LLAMA3),
    _family("llama-yarn", "Llama", rope_parameters=YARN),
    _family("qwen2", "Qwen2"),
    _family("qwen3", "Qwen3", head_dim=16),
    _family("qwen3-moe", "Qwen3Moe", head_dim=16, norm_topk_prob=True, **EXPERTS),
    _family("mistral", "Mistral", sliding_window=None),
    _family("phi3", "Phi3"),
    _family("olmo2", "Olmo2"),
    _family("glm", "Glm", pairing="neighbours", head_dim=16),
    _family("glm4", "Glm4", pairing="neighbours", head_dim=16),
    _family(
        "granite",
        "Granite",
        attention_multiplier=0.3,
        embedding_multiplier=2.0,
        residual_multiplier=0.7,
        logits_scaling=3.0,
        tie_word_embeddings=True,
    ),
)
SUPPORTED: dict[str, Family] = {family.name: family for family in _SUPPORTED}
"""What issue 2 names: these must be accepted, and exact."""
QUICK = ("llama", "llama-yarn", "qwen3", "glm4")
"""One of each kind of rotation, for the tests that need not run for every family."""

_OTHERS = (
    _family("cohere", "Cohere", pairing="neighbours", logit_scale=0.5),
    _family("mixtral", "Mixtral", sliding_window=None, num_local_experts=4),
    _family("starcoder2", "Starcoder2", sliding_window=None),
    _family("olmo", "Olmo"),
    _family("qwen3-yarn", "Qwen3", head_dim=16, rope_parameters=YARN),
    _family(
        "llama-linear",
        "Llama",
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    ),
    _family("seed-oss", "SeedOss", head_dim=16),
    _family("gemma", "Gemma", head_dim=16),
    _family("arcee", "Arcee"),
)
OTHERS: dict[str, Family] = {family.name: family for family in _OTHERS if family.available}
"""Plain RoPE families that nobody promised: refused, or accepted and exact."""

_WINDOW = {"sliding_window": 8}
_LAYERS4 = {"num_hidden_layers": 4}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
}
_DEEPSEEK = {
    **_LATENT,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, **_LAYERS4}
_GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "vocab_size": VOCAB}
_ROPE_PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_ROPE_SCALED_QUERIES = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "llama_4_scaling_beta": 0.5,
    "original_max_position_embeddings": 32,
}
_ROPE_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}

_REFUSED: tuple[tuple[Family, str], ...] = (
    (_family("phi", "Phi", num_key_value_heads=4, rope_parameters=_ROPE_PARTIAL), "part"),
    (_family("stablelm", "StableLm", num_key_value_heads=4, rope_parameters=_ROPE_PARTIAL), "part"),
    (_family("deepseek-v2", "DeepseekV2", **_DEEPSEEK), "MLA|latent"),
    (_family("deepseek-v3", "DeepseekV3", **_DEEPSEEK), "MLA|latent"),
    (_family("minicpm3", "MiniCPM3", **_LATENT), "MLA|latent"),
    (_family("gemma2", "Gemma2", **_WINDOW, **_GEMMA), "window|soft-?cap"),
    (
        _family("gemma3", "Gemma3", config="Gemma3TextConfig", **_WINDOW, **_GEMMA),
        "window|layer type|per layer",
    ),
    (
        _family(
            "gpt-oss", "GptOss", **_WINDOW, head_dim=16, num_local_experts=4, num_experts_per_tok=2
        ),
        "window|sink",
    ),
    (_family("mistral-window", "Mistral", **_WINDOW), "window"),
    (_family("mixtral-window", "Mixtral", **_WINDOW, num_local_experts=4), "window"),
    (_family("starcoder2-window", "Starcoder2", **_WINDOW), "window"),
    (_family("phi3-window", "Phi3", **_WINDOW), "window"),
    (
        _family("qwen2-window", "Qwen2", **_WINDOW, use_sliding_window=True, max_window_layers=1),
        "window",
    ),
    (_family("cohere2", "Cohere2", **_WINDOW, **_LAYERS4), "window|without RoPE|no RoPE"),
    (_family("olmo3", "Olmo3", **_WINDOW, **_LAYERS4), "window|layer type"),
    (_family("smollm3", "SmolLM3", **_LAYERS4), "without RoPE|no RoPE|NoPE"),
    (
        _family(
            "llama4",
            "Llama4",
            config="Llama4TextConfig",
            **_LAYERS4,
            head_dim=16,
            intermediate_size_mlp=64,
            num_local_experts=4,
            attention_chunk_size=16,
        ),
        "without RoPE|no RoPE|NoPE|chunk|complex",
    ),
    (
        # Queries are scaled by their absolute position, beyond what a short probe reaches.
        _family("ministral3", "Ministral3", head_dim=12, rope_parameters=_ROPE_SCALED_QUERIES),
        "position|length|scal",
    ),
    (
        # Keys are chosen by an indexer, but only in texts longer than a short probe.
        _family(
            "minimax-m3",
            "MiniMaxM3VL",
            config="MiniMaxM3VLTextConfig",
            head_dim=16,
            rotary_dim=8,
            layer_types=["minimax_m3_sparse"] * 2,
            index_n_heads=2,
            index_head_dim=16,
            index_block_size=32,
            index_topk_blocks=1,
            num_local_experts=4,
            num_experts_per_tok=2,
            dense_intermediate_size=64,
            shared_intermediate_size=32,
        ),
        "sparse",
    ),
    (_family("phi3-longrope", "Phi3", rope_parameters=LONGROPE), "longrope"),
    (_family("llama-longrope", "Llama", rope_parameters=LONGROPE), "longrope"),
    (_family("llama-dynamic", "Llama", rope_parameters=_ROPE_DYNAMIC), "dynamic"),
    (_family("gpt2", "GPT2", head="GPT2LMHeadModel", common=False, **_GPT2), "RoPE|rotary"),
    (
        _family("opt", "OPT", ffn_dim=64, word_embed_proj_dim=48, dropout=0.0),
        "RoPE|rotary",
    ),
    (
        _family(
            "bloom", "Bloom", common=False, hidden_size=48, n_layer=2, n_head=4, vocab_size=VOCAB
        ),
        "RoPE|rotary|ALiBi",
    ),
    (
        _family(
            "mpt",
            "Mpt",
            common=False,
            d_model=48,
            n_layers=2,
            n_heads=4,
            vocab_size=VOCAB,
            max_seq_len=CONTEXT,
        ),
        "RoPE|rotary|ALiBi",
    ),
    (
        _family(
            "mamba", "Mamba", common=False, hidden_size=48, num_hidden_layers=2, vocab_size=VOCAB
        ),
        "recurrent|state|RoPE|rotary",
    ),
    (
        _family(
            "qwen3-next",
            "Qwen3Next",
            **EXPERTS,
            **_LAYERS4,
            head_dim=16,
            shared_expert_intermediate_size=32,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        ),
        "recurrent|linear",
    ),
    (
        _family(
            "jamba",
            "Jamba",
            **_LAYERS4,
            num_experts=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            use_mamba_kernels=False,
        ),
        "recurrent|RoPE|rotary",
    ),
    (
        _family("gptj", "GPTJ", common=False, **_GPT2, rotary_dim=8),
        "attention|partial|RoPE|rotary",
    ),
    (
        _family(
            "t5",
            "T5",
            head="T5ForConditionalGeneration",
            common=False,
            vocab_size=VOCAB,
            d_model=48,
            d_kv=12,
            d_ff=64,
            num_layers=2,
            num_heads=4,
        ),
        "causal|decoder|encoder",
    ),
)
REFUSED: dict[str, Family] = {family.name: family for family, _ in _REFUSED if family.available}
"""What the engine would compute wrongly: it must refuse."""
REASONS: dict[str, str] = {family.name: reason for family, reason in _REFUSED}
"""A pattern for the reason that the refusal must name."""
