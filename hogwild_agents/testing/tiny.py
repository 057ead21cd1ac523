"""tiny_model: a real model of random weights, made in memory in a moment."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from hogwild_agents.engine import Engine
from hogwild_agents.errors import ConfigError
from hogwild_agents.models import LanguageModel
from hogwild_agents.testing.tokenizer import ByteTokenizer
from hogwild_agents.whole import is_whole


def tiny_model(
    seed: int = 0,
    *,
    tokenizer: Any = None,
    context_length: int = 32768,
    max_tokens: int | None = None,
) -> LanguageModel:
    """Return a tiny Qwen3 of random weights: it babbles, and is run as any other model is.

    Equal arguments give equal weights on every machine. It samples greedily unless told otherwise.

    Args:
        seed: of the weights.
        tokenizer: a transformers tokenizer with a chat template; None for a :class:`ByteTokenizer`.
        context_length: the longest view.
        max_tokens: the engine's cache budget.

    Raises:
        ConfigError: ``context_length`` or ``max_tokens`` is no whole number above 0.
    """
    tokenizer = ByteTokenizer() if tokenizer is None else tokenizer
    network = build_network(tokenizer, seed=seed, context_length=context_length)
    engine = Engine(network, max_tokens=max_tokens)
    return LanguageModel(name=f"tiny (seed {seed})", engine=engine, tokenizer=tokenizer)


def build_network(tokenizer: Any, *, seed: int, context_length: int, spare: int = 0) -> Any:
    """Return the model alone, in fp32 on the CPU.

    Args:
        tokenizer: whose tokens it has; its end of text ends a turn.
        seed: of the weights.
        context_length: the longest view.
        spare: how many token ids it has beyond the tokenizer's; the last of them ends a turn too.
    """
    if not (is_whole(context_length) and context_length > 0):
        raise ConfigError(
            f"context_length is {context_length!r}, but must be a whole number of tokens above 0."
        )
    size = len(tokenizer) + spare
    ends = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    config: Any = Qwen3Config(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=context_length,
        bos_token_id=None,
        eos_token_id=[*ends, size - 1] if spare else ends or None,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network: Any = Qwen3ForCausalLM(config)
        for parameter in network.parameters():
            if parameter.dim() > 1:  # at transformers' own scale all tokens would be alike
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    untyped: Any = GenerationConfig
    network.generation_config = untyped(eos_token_id=config.eos_token_id)
    return network.to(torch.float32).eval()
