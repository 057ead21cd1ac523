"""tiny_model: any tokenizer, equal weights for equal seeds, and an ordinary model in all else."""

from __future__ import annotations

import pytest
import torch

from hogwild_agents import ConfigError, Feed, LanguageModel, Limits, Prompt, Team
from hogwild_agents.testing import tiny_model
from tests.text.kinds import MAKERS

PLAIN = Prompt(name="plain", description="", text="Work.")


def logits(model: LanguageModel) -> torch.Tensor:
    block = model.engine.block("text")
    try:
        return model.engine.forward([Feed(block, [block], model.encode("7 + 1 ="))])
    finally:
        model.engine.free(block)


def test_equal_seeds_give_equal_weights() -> None:
    torch.manual_seed(1)
    one = logits(tiny_model(seed=3))
    torch.manual_seed(2)
    assert torch.equal(one, logits(tiny_model(seed=3)))
    assert not torch.allclose(one, logits(tiny_model(seed=4)))


def test_making_one_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    tiny_model(seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_the_next_token_depends_on_the_text() -> None:
    model = tiny_model()
    found = set()
    for text in ("a", "b", "7 + 1", "then", "so", "ü", "x y z", "\n\n"):
        block = model.engine.block()
        row = model.engine.forward([Feed(block, [block], model.encode(text))])
        found.add(int(row.argmax()))
    assert len(found) > 4


@pytest.mark.anyio
async def test_runs_are_reproducible() -> None:
    results = []
    for _ in range(2):
        team = Team(tiny_model(), prompt=PLAIN, limits=Limits(ticks=12), seed=3)
        results.append(await team.solve("Say hello."))
    assert results[0].texts == results[1].texts
    assert results[0].tokens == 24


def test_it_takes_another_tokenizer() -> None:
    tokenizer = MAKERS["byte level, newlines join"]()
    model = tiny_model(tokenizer=tokenizer)
    assert model.engine.vocab_size == len(tokenizer)
    assert model.stop_ids == {tokenizer.eos_token_id}


def test_its_room_is_what_was_asked_for() -> None:
    model = tiny_model(context_length=64, max_tokens=100)
    assert (model.engine.context_length, model.engine.max_tokens) == (64, 100)
    with pytest.raises(ConfigError, match="context_length is 0, but must be a whole number"):
        tiny_model(context_length=0)
