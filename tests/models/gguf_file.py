"""A small Qwen3 as a GGUF file, written as llama.cpp's converter does, weights in Q8_0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.models.folders import CHAT, TEXT, VOCABULARY, drawn
from tests.text.kinds import tokenizer_of

Q8 = gguf.GGMLQuantizationType.Q8_0
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny_qwen3() -> Any:
    # transformers reads no size of the heads from a file: 128 is what every Qwen3 has.
    return drawn(Qwen3ForCausalLM(Qwen3Config(**TEXT | {"head_dim": 128})))


def write_gguf(model: Any, file: Path) -> Path:
    """Write a model, and change its weights to those that the file gives back."""
    writer = gguf.GGUFWriter(file, "qwen3")
    config = model.config
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        _add_tensor(writer, _name(name), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tensor(writer: Any, name: str, tensor: torch.Tensor) -> None:
    if tensor.dim() < 2:
        writer.add_tensor(name, tensor.numpy())
        return
    packed = gguf.quantize(tensor.numpy(), Q8)
    writer.add_tensor(name, packed, raw_dtype=Q8)
    tensor.copy_(torch.from_numpy(gguf.dequantize(packed, Q8)))


def _name(name: str) -> str:
    name = name.removesuffix(".weight")
    if name.startswith("model.layers."):
        _, _, layer, part = name.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.weight"
    return f"{NAMES[name]}.weight"


def _add_tokenizer(writer: Any) -> None:
    tokenizer = tokenizer_of("byte level, newlines join")
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].get)
    spare = [f"[PAD{number}]" for number in range(len(tokens), VOCABULARY)]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in state["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*tokens, *spare])
    control, normal, unused = 3, 1, 5
    kinds = [control] * 3 + [normal] * (len(tokens) - 3) + [unused] * len(spare)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT)
