"""Checkpoints in folders: tiny models with weights that show mistakes, and a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.text.kinds import tokenizer_of

VOCABULARY = 512
IDS = [(7 * number + 3) % VOCABULARY for number in range(40)]
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"


def drawn(model: Any, seed: int = 0) -> Any:
    """Give a model weights that make attention and logits uneven."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for tensor in model.parameters():
            if tensor.dim() > 1:
                tensor.normal_(std=1.4 * tensor.shape[-1] ** -0.5)
    return model.eval()


def tiny_llama(**changes: Any) -> Any:
    return drawn(LlamaForCausalLM(LlamaConfig(**TEXT | changes)))


def save(model: Any, folder: Path) -> Path:
    """Write a model and a tokenizer that has its first tokens."""
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    tokenizer = tokenizer_of("byte level, newlines join")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def logits_of(model: Any, ids: list[int] = IDS) -> Tensor:
    """The logits of a plain forward, [len(ids), vocabulary]."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits
