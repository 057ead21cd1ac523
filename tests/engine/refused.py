"""Tiny models of what the engine must refuse, and a pattern for the reason that it must name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.engine.families import DEEPSEEK, EXPERTS, GEMMA, family
from tests.engine.family import CONTEXT, VOCAB, Family


@dataclass(frozen=True)
class Refusal:
    """A family with the pattern of its reason, and whether its config tells it already."""

    family: Family
    reason: str
    from_config: bool = True


_GPT2: dict[str, Any] = {
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": CONTEXT,
    "vocab_size": VOCAB,
}
_FOUR = {"num_hidden_layers": 4}
_LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 24,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
_INDEXED: dict[str, Any] = {
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 8,
}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}

RECURRENT = "recurrent|linear"
NO_ROPE = "no rotary position embedding"

_RECURRENT = (
    family("mamba", "Mamba", common=False, hidden_size=48, num_hidden_layers=2, vocab_size=VOCAB),
    family(
        "mamba2",
        "Mamba2",
        common=False,
        hidden_size=48,
        num_hidden_layers=2,
        vocab_size=VOCAB,
        num_heads=4,
        head_dim=24,
        n_groups=1,
        state_size=8,
    ),
    family(
        "falcon-mamba",
        "FalconMamba",
        common=False,
        hidden_size=48,
        num_hidden_layers=2,
        vocab_size=VOCAB,
    ),
    family(
        "jamba",
        "Jamba",
        **_FOUR,
        num_experts=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        use_mamba_kernels=False,
    ),
    family("bamba", "Bamba", **_FOUR, **_MAMBA, attn_layer_indices=[1, 3]),
    family("falcon-h1", "FalconH1", **_MAMBA, mamba_d_ssm=96, head_dim=12),
    family(
        "granite-4-hybrid",
        "GraniteMoeHybrid",
        **_MAMBA,
        num_local_experts=0,
        shared_intermediate_size=32,
        layer_types=["linear_attention", "full_attention"],
    ),
    family(
        "qwen3-next",
        "Qwen3Next",
        **EXPERTS,
        **_FOUR,
        **_LINEAR,
        head_dim=16,
        shared_expert_intermediate_size=32,
    ),
    family("qwen3.5", "Qwen3_5", config="Qwen3_5TextConfig", **_FOUR, **_LINEAR, head_dim=16),
    family("olmo-hybrid", "OlmoHybrid", **_FOUR, **_LINEAR),
    family("minimax", "MiniMax", head_dim=16, num_local_experts=4, num_experts_per_tok=2),
    family("lfm2", "Lfm2", layer_types=["conv", "full_attention"], block_multiple_of=16),
    family("recurrent-gemma", "RecurrentGemma", **_FOUR, lru_width=48, attention_window_size=8),
)

_WITHOUT_ROPE = (
    family("gpt2", "GPT2", model="GPT2LMHeadModel", common=False, **_GPT2),
    family("opt", "OPT", ffn_dim=64, word_embed_proj_dim=48, dropout=0.0),
    family("xglm", "XGLM", d_model=48, num_layers=2, attention_heads=4, ffn_dim=64),
    family("biogpt", "BioGpt"),
    family(
        "gpt-neo", "GPTNeo", attention_types=[[["global", "local"], 1]], num_layers=2, num_heads=4
    ),
    family("gpt-bigcode", "GPTBigCode", common=False, **_GPT2),
    family("bloom", "Bloom", common=False, hidden_size=48, n_layer=2, n_head=4, vocab_size=VOCAB),
    family(
        "mpt",
        "Mpt",
        common=False,
        d_model=48,
        n_layers=2,
        n_heads=4,
        vocab_size=VOCAB,
        max_seq_len=CONTEXT,
    ),
    family("rwkv", "Rwkv", common=False, hidden_size=48, num_hidden_layers=2, vocab_size=VOCAB),
)

_INSIDE_OF_OLD_CLASSES = (
    family("gptj", "GPTJ", common=False, **_GPT2, rotary_dim=8),
    family("codegen", "CodeGen", common=False, **_GPT2, rotary_dim=8),
)
_OLD_CLASSES = (
    family("gpt-neox-japanese", "GPTNeoXJapanese", intermediate_multiple_size=2),
    family("falcon", "Falcon", multi_query=True),
)

_KIND_OF_INDEXERS = "layers of a kind .*'(indexed|deepseek_sparse|minimax_m3_sparse)"
_INDEXERS = (
    family("deepseek-v3.2", "DeepseekV32", **DEEPSEEK, **_INDEXED),
    family("glm-5", "GlmMoeDsa", **DEEPSEEK, **_INDEXED),
    family(
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
)

_EVERY = (
    *(Refusal(family, RECURRENT) for family in _RECURRENT),
    *(Refusal(family, NO_ROPE) for family in _WITHOUT_ROPE),
    *(Refusal(family, "older attention class") for family in _INSIDE_OF_OLD_CLASSES),
    *(Refusal(family, "AttentionInterface", from_config=False) for family in _OLD_CLASSES),
    *(Refusal(family, _KIND_OF_INDEXERS) for family in _INDEXERS),
    Refusal(family("llama-dynamic", "Llama", rope_parameters=_DYNAMIC), "dynamic NTK"),
    Refusal(
        family("falcon-alibi", "Falcon", alibi=True, multi_query=True, num_kv_heads=1), "ALiBi"
    ),
    Refusal(
        family(
            "t5",
            "T5",
            model="T5ForConditionalGeneration",
            common=False,
            vocab_size=VOCAB,
            d_model=48,
            d_kv=12,
            d_ff=64,
            num_layers=2,
            num_heads=4,
        ),
        "encoder-decoder",
    ),
    Refusal(
        family(
            "bart",
            "Bart",
            model="BartForConditionalGeneration",
            common=False,
            vocab_size=VOCAB,
            d_model=48,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
        ),
        "encoder-decoder",
    ),
    Refusal(
        family(
            "gemma3-both-ways",
            "Gemma3",
            config="Gemma3TextConfig",
            use_bidirectional_attention=True,
            **GEMMA,
        ),
        "sees other keys than the last ones before its query",
        from_config=False,
    ),
    Refusal(
        # Keys are chosen by their values, each layer in its own mask.
        family("doge", "Doge", keep_window_size=8, is_moe=False),
        "mask|probe",
        from_config=False,
    ),
)
REFUSED: dict[str, Refusal] = {
    refusal.family.name: refusal for refusal in _EVERY if refusal.family.available
}
"""What the engine would compute wrongly: it must refuse, by name and with the reason."""
