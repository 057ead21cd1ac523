"""What is compared does the same: every baseline computes the logits that the engine computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hogwild_agents.bench.baselines import PLAIN, Concatenating, Sequences, Way
from hogwild_agents.bench.contents import read_view
from hogwild_agents.bench.contestant import Contestant, Ticks, first_tokens, most_likely
from tests.bench.rig import Rig, rig

WAYS = [Way(cache, attention) for cache in ("dynamic", "static") for attention in ("sdpa", "eager")]
CLOSE = 1e-4


def alone(rig: Rig, tokens: int) -> list[Tensor]:
    """Return logits [workers, vocab], tick by tick, of workers who think one after the other."""
    found = []
    for number, view in enumerate(rig.contents.views):
        ticks = Ticks(rig.engine, [view])
        ticks.fed = [first_tokens(len(rig.contents.own))[number]]
        logits = []
        for _ in range(tokens):
            logits.append(ticks.logits())
            ticks.sample(logits[-1])
        ticks.reset()
        found.append(torch.cat(logits))
    return list(torch.stack(found, 1))


def follow(contestant: Contestant, ticks: int) -> list[Tensor]:
    """Return the logits of some ticks, each fed with the most likely tokens of the one before."""
    found = []
    for _ in range(ticks):
        found.append(contestant.logits())
        contestant.fed = most_likely(found[-1])
    return found


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_of_sequences_has_the_logits_of_workers_who_think_alone(
    way: Way, workers: int
) -> None:
    with rig(workers) as made:
        expected = alone(made, 4)
        contexts = [read_view(made.engine, view) for view in made.contents.views]
        batch = Sequences(made.plain, way, contexts, room=8)
        for _ in range(2):
            found = follow(batch, 4)
            torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)
            batch.reset()
        assert batch.tokens == workers


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_concatenating_has_the_logits_of_the_team(attention: str, workers: int) -> None:
    with rig(workers) as made:
        ticks = Ticks(made.engine, made.contents.views)
        expected = follow(ticks, 4)
        ticks.reset()
        concatenating = Concatenating(made.plain, attention, made.engine, made.contents)
        for _ in range(2):
            found = follow(concatenating, 4)
            torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)
            concatenating.reset()
        assert concatenating.tokens == workers


def test_what_is_seen_and_where_it_stands_decides_the_logits() -> None:
    """Else the two tests above would find nothing."""
    with rig(3) as made:
        views = made.contents.views
        together = Ticks(made.engine, views).logits()
        for block in made.contents.own:
            made.engine.truncate(block, len(block) - 1)
        apart = alone(made, 1)[0]
        swapped = Ticks(made.engine, [[view[0], view[2], view[1], view[3]] for view in views])
        other_order = swapped.logits()
    for others in (apart, other_order):
        assert (together - others).abs().amax(-1).min() > 100 * CLOSE


def test_a_reset_brings_the_beginning_back() -> None:
    with rig(2) as made:
        contexts = [read_view(made.engine, view) for view in made.contents.views]
        contestants: list[Contestant] = [
            Ticks(made.engine, made.contents.views),
            Concatenating(made.plain, "sdpa", made.engine, made.contents),
            *(Sequences(made.plain, way, contexts, room=8) for way in WAYS),
        ]
        for contestant in contestants:
            first = contestant.logits()
            contestant.tick()
            contestant.reset()
            torch.testing.assert_close(contestant.logits(), first, atol=1e-6, rtol=0)
            contestant.reset()


def test_the_engine_s_contents_stay_as_they_are() -> None:
    with rig(2) as made:
        lengths = [len(block) for block in made.contents.blocks]
        ticks = Ticks(made.engine, made.contents.views)
        ticks.tick()
        ticks.tick()
        assert [len(block) for block in made.contents.own] == [len + 2 for len in lengths[1:]]
        ticks.reset()
        assert [len(block) for block in made.contents.blocks] == lengths
        made.engine.check_integrity()


def test_as_transformers_comes_is_what_a_model_has_without_being_asked() -> None:
    with rig(1) as made:
        assert made.plain.config._attn_implementation == PLAIN.attention
        output = made.plain(torch.tensor([[1, 2]]), use_cache=True)
        assert type(output.past_key_values).__name__.lower().startswith(PLAIN.cache)
