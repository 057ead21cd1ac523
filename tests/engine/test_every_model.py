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
from tests.engine.families import COMMON, spread_weights
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
VARIANTS: Mapping[str, dict[str, Any]] = {
    "whole": {"sliding_window": None},
    "windowed": {"sliding_window": 8, "num_key_value_heads": 4, "num_hidden_layers": 4},
}


def tiny(config_class: Any, variant: str) -> Any:
    """A tiny model of this class, or a skip where these options do not make one."""
    notes = [vars(kind).get("__annotations__", {}) for kind in config_class.__mro__]
    fields = {name for names in notes for name in names}
    known = {name: value for name, value in SIZES.items() if name in fields}
    try:
        model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
        config = config_class(**{**COMMON, **known, **VARIANTS[variant]})
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in model_class(config).parameters())
    except Exception as error:
        pytest.skip(f"no tiny configuration: {type(error).__name__}")
    if size > LARGEST:
        pytest.skip(f"{size} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config)
        spread_weights(model)
    return model.float().eval()


def plain_logits(model: Any, ids: list[int]) -> Tensor:
    """The model's own forward, or a skip where the options do not fit together."""
    try:
        with torch.no_grad():
            logits: Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    except Exception as error:
        pytest.skip(f"its plain forward fails: {type(error).__name__}")
    return logits


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
@pytest.mark.parametrize(
    "config_class", MODEL_FOR_CAUSAL_LM_MAPPING.keys(), ids=lambda kind: kind.__name__
)
def test_a_model_is_exact_or_refused(config_class: Any, variant: str) -> None:
    model = tiny(config_class, variant)
    ids = Tokens(31)(80)
    plain = plain_logits(model, ids)
    try:
        engine = Engine(model)
    except UnsupportedModelError:
        assert torch.equal(plain_logits(model, ids), plain)
        return
    with engine:
        found = spread_logits(engine, ids)
    assert (found - plain).abs().max() <= 2e-4 * plain.abs().max()
