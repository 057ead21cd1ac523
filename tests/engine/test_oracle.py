"""The oracle itself: it equals plain forwards where there are any, and it sees small mistakes."""

from __future__ import annotations

import pytest
import torch

from tests.engine.families import OTHERS, SUPPORTED, Family
from tests.engine.oracle import Oracle, OracleFeed, Part
from tests.engine.schedules import Tokens

FAMILIES = [*SUPPORTED.values(), *OTHERS.values()]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def one_worker(oracle: Oracle, ids: list[int]) -> torch.Tensor:
    """A prompt, a finished step and an own block of one worker, as one text."""
    prompt, step, own = oracle.block(), oracle.block(), oracle.block()
    logits = oracle.forward([OracleFeed(prompt, [Part(prompt)], ids[:20])])
    for at in range(20, 30, 5):
        view = [Part(prompt), Part(step)]
        logits += oracle.forward([OracleFeed(step, view, ids[at : at + 5])])
    for at in range(30, 40):
        view = [Part(prompt), Part(step), Part(own)]
        logits += oracle.forward([OracleFeed(own, view, ids[at : at + 1])])
    oracle.move(step, prompt)
    for at in range(40, 60, 4):
        view = [Part(prompt), Part(own, 0, 5), Part(own, 5)]
        logits += oracle.forward([OracleFeed(own, view, ids[at : at + 4])])
    return torch.cat(logits)


@every_family
def test_one_worker_equals_the_plain_forward(family: Family) -> None:
    ids = Tokens(7)(60)
    with torch.no_grad():
        plain = family.build()(torch.tensor([ids])).logits[0]
    assert plain.std() > 0.5
    difference = (one_worker(Oracle(family), ids) - plain).abs().max()
    assert difference <= 1e-5 * plain.abs().max()


@every_family
@pytest.mark.parametrize("shift", [-1, 1])
def test_one_wrong_position_shows_in_the_logits(family: Family, shift: int) -> None:
    ids = Tokens(7)(60)
    exact = one_worker(Oracle(family), ids)
    wrong = one_worker(Oracle(family, shift=shift), ids)
    torch.testing.assert_close(wrong[:20], exact[:20])
    assert (wrong[20:] - exact[20:]).abs().amax(-1).min() > 0.01


def test_tokens_of_the_same_tick_are_seen() -> None:
    oracle = Oracle(SUPPORTED["llama"])
    first, second = oracle.block(), oracle.block()
    together = oracle.forward(
        [
            OracleFeed(first, [Part(second), Part(first)], [5, 6]),
            OracleFeed(second, [Part(second)], [7, 8]),
        ]
    )
    plain = oracle_text(oracle, [7, 8, 5, 6])
    torch.testing.assert_close(torch.cat([together[1], together[0]]), plain, atol=1e-5, rtol=1e-5)


def oracle_text(oracle: Oracle, ids: list[int]) -> torch.Tensor:
    """The same text, written by one block in one feed."""
    block = oracle.block()
    return oracle.forward([OracleFeed(block, [Part(block)], ids)])[0]
