"""An engine has its model on loan: it gives it back as it was, however the engine ends."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from hogwild_agents.engine import Engine, Feed
from tests.engine.families import EVERY, VOCAB

# One whose layers drop extra arguments, so that hooks carry the plan; one with two tables.
LENT = ("llama", "stablelm", "phi3-longrope")


def hooks(model: Any) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("family", LENT)
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_model_comes_back_as_it_was(family: str, how: str) -> None:
    model = EVERY[family].build().train()
    ids = torch.arange(1, 60)[None] % VOCAB
    with torch.no_grad():
        before = model.eval()(ids, use_cache=False).logits
    model.train()
    implementation = model.config._attn_implementation
    engine = Engine(model, max_context=1000)
    block = engine.block()
    engine.forward([Feed(block, [block], [5, 6, 7])])
    if how == "closed":
        engine.close()
    del engine
    gc.collect()
    assert model.training
    assert model.config._attn_implementation == implementation
    assert hooks(model) == 0
    with torch.no_grad():
        assert torch.equal(model.eval()(ids, use_cache=False).logits, before)


def test_a_model_can_be_lent_again_after_its_engine_was_dropped() -> None:
    model = EVERY["llama"].build()
    Engine(model)
    gc.collect()
    with Engine(model) as engine:
        assert not engine.closed


def test_an_engine_that_was_closed_may_be_dropped_while_another_has_the_model() -> None:
    model = EVERY["llama"].build()
    first = Engine(model)
    first.close()
    with Engine(model) as engine:
        block = engine.block()
        before = engine.forward([Feed(block, [block], [5, 6, 7])])
        del first
        gc.collect()
        engine.truncate(block, 0)
        assert torch.equal(engine.forward([Feed(block, [block], [5, 6, 7])]), before)
