"""An engine has its model on loan: it gives it back as it was, however the engine ends."""

from __future__ import annotations

import gc
from typing import Any
from unittest.mock import patch

import pytest
import torch
from transformers import LlamaForCausalLM

from hogwild_agents.engine import Engine, Feed, Sampler, SamplingParams, pool, sample
from hogwild_agents.engine.loan import implementations
from hogwild_agents.errors import LentModelError
from tests.engine.families import EVERY, SUPPORTED, VOCAB

# One whose layers drop extra arguments, so that hooks carry the plan; one with two tables; one
# whose config has parts without an attention of their own.
LENT = ("llama", "stablelm", "phi3-longrope", "dbrx")


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
    attention = implementations(model.config)
    engine = Engine(model, max_context=1000)
    block = engine.block()
    engine.forward([Feed(block, [block], [5, 6, 7])])
    if how == "closed":
        engine.close()
    del engine
    gc.collect()
    assert model.training
    assert implementations(model.config) == attention
    assert hooks(model) == 0
    with torch.no_grad():
        assert torch.equal(model.eval()(ids, use_cache=False).logits, before)


def test_a_model_whose_config_asks_for_tuples_is_run_as_any_other() -> None:
    """Transformers' own forward fails with such a config: its parts ask each other by name."""
    with Engine(SUPPORTED["llama"].build()) as engine:
        block = engine.block()
        expected = engine.forward([Feed(block, [block], [5, 6, 7])])
    model = SUPPORTED["llama"].build()
    model.config.return_dict = False
    with Engine(model) as engine:
        block = engine.block()
        assert torch.equal(engine.forward([Feed(block, [block], [5, 6, 7])]), expected)
    assert model.config.return_dict is False


def test_a_model_with_the_config_of_another_that_is_lent_is_refused_with_what_to_do() -> None:
    model = SUPPORTED["llama"].build()
    twin = type(model)(model.config)
    with Engine(model):
        with pytest.raises(
            LentModelError, match=r"same config object .*as a model that is: .*deepcopy"
        ):
            Engine(twin)
        with pytest.raises(LentModelError, match="or one with the same config object, is lent"):
            twin(torch.tensor([[1, 2]]))
    with Engine(twin) as engine:
        assert not engine.closed


@pytest.mark.parametrize("verify", [True, False])
def test_a_model_that_shares_a_part_of_its_config_with_one_that_is_lent_is_refused(
    verify: bool,
) -> None:
    """The attention of the language part is kept in its own config."""
    model, other = SUPPORTED["llava"].build(), SUPPORTED["llava"].build(seed=1)
    config = other.config
    config.text_config = model.config.text_config
    twin = type(other)(config)
    language = LlamaForCausalLM(config.text_config)
    with Engine(model):
        for one in (twin, language):
            with pytest.raises(LentModelError, match=r"part of one\) as a model that is"):
                Engine(one, verify=verify)
    with Engine(language, verify=verify), pytest.raises(LentModelError, match="part of one"):
        Engine(model, verify=verify)
    for one in (model, twin):
        with Engine(one) as engine:
            assert not engine.closed


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


def test_another_attention_under_way_is_told_and_not_used() -> None:
    model = SUPPORTED["llama"].build()
    with Engine(model) as engine:
        block = engine.block()
        expected = engine.forward([Feed(block, [block], [5, 6])])
        model.set_attn_implementation("sdpa")
        with pytest.raises(LentModelError, match="its attention was set to 'sdpa' meanwhile"):
            engine.forward([Feed(block, [block], [7])])
        assert len(block) == 2
    with Engine(model) as engine:
        block = engine.block()
        assert torch.equal(engine.forward([Feed(block, [block], [5, 6])]), expected)


def test_another_attention_of_the_language_part_alone_is_told_and_not_used() -> None:
    model = SUPPORTED["llava"].build()
    with Engine(model) as engine:
        block = engine.block()
        model.model.language_model.set_attn_implementation("sdpa")
        with pytest.raises(LentModelError, match="its attention was set to 'sdpa' meanwhile"):
            engine.forward([Feed(block, [block], [5, 6])])
        assert len(block) == 0
    assert model.config._attn_implementation == model.config.text_config._attn_implementation


@pytest.mark.parametrize("kernels", [None, False])
def test_weights_that_are_put_in_the_places_of_others_count(kernels: bool | None) -> None:
    """Attention sinks, too, which the engine has seen before."""
    model, other = (SUPPORTED["gpt-oss"].build() for _ in range(2))
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    results = []
    for wanted in (model, other):
        with Engine(wanted, kernels=kernels, verify=False) as engine:
            if wanted is model:
                model.load_state_dict(other.state_dict(), assign=True)
            block = engine.block()
            results.append(engine.forward([Feed(block, [block], [5, 6, 7])], logits="all"))
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernels", [None, False])
def test_a_default_device_changes_nothing(kernels: bool | None) -> None:
    """As where a script begins with ``torch.set_default_device``; meta stands for a GPU."""
    results = []
    for device in ("cpu", "meta"):
        with Engine(SUPPORTED["llama"].build(), kernels=kernels) as engine:
            sampler = Sampler(SamplingParams(bias={3: 1.0}, banned=frozenset({4})))
            with torch.device(device):
                block = engine.block()
                logits = engine.forward([Feed(block, [block], [5, 6, 7])])
                (sampled,) = sample(logits, [sampler], [list])
        results.append((logits, sampled.token))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_a_cache_grows_by_what_it_needs_where_memory_has_no_room_for_more() -> None:
    with Engine(SUPPORTED["llama"].build(), verify=False) as engine:
        block = engine.block()
        engine.forward([Feed(block, [block], [5])])
        first = engine._cache.pool.slabs[0].size
        made = pool.Slab

        def scarce(size: int, shapes: Any) -> pool.Slab:
            if size > 4:
                raise RuntimeError("not enough memory")
            return made(size, shapes)

        with patch.object(pool, "Slab", scarce):
            engine._cache.pool.extend(block._runs, first + 2)
            engine._cache.pool.shrink(block._runs, 1)
        assert [slab.size for slab in engine._cache.pool.slabs] == [first, 3]
        engine.check_integrity()
