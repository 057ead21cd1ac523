"""The oracle itself: it equals plain forwards where there are any, and it sees small mistakes.

Each mistake here is one that an engine could make. That it moves the logits by far more than the
tolerance of the other tests shows that those tests can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.engine.families import EVERY, Family, barely_warmer
from tests.engine.family import Layer, plain_logits
from tests.engine.oracle import Oracle, OracleFeed, Part
from tests.engine.schedules import Tokens
from tests.engine.twin import TOLERANCE, oracle_of

every_family = pytest.mark.parametrize("family", EVERY)
IDS = Tokens(7)(60)


def one_worker(oracle: Oracle, ids: list[int]) -> torch.Tensor:
    """A prompt, a finished step and an own block of one worker, as one text."""
    prompt, step, own = oracle.block(), oracle.block(), oracle.block()
    logits = oracle.forward([OracleFeed(prompt, [Part(prompt)], ids[:20])])
    for at in (20, 26):
        view = [Part(prompt), Part(step)]
        logits += oracle.forward([OracleFeed(step, view, ids[at : at + 6])])
    for at in range(32, 36):
        view = [Part(prompt), Part(step), Part(own)]
        logits += oracle.forward([OracleFeed(own, view, ids[at : at + 1])])
    oracle.move(step, prompt)
    for at in (36, 48):
        view = [Part(prompt), Part(own, 0, 2), Part(own, 2)]
        logits += oracle.forward([OracleFeed(own, view, ids[at : at + 12])])
    return torch.cat(logits)


def two_blocks(oracle: Oracle) -> torch.Tensor:
    """The logits of a block behind another one, in positions 36 to 59."""
    prompt, own = oracle.block(), oracle.block()
    oracle.forward([OracleFeed(prompt, [Part(prompt)], IDS[:36])])
    return oracle.forward([OracleFeed(own, [Part(prompt), Part(own)], IDS[36:])])[0]


@cache
def exact(family: str) -> torch.Tensor:
    return two_blocks(oracle_of(family))


def mistaken(family: str, wrong: Callable[[Layer], Layer]) -> float:
    """By how much a mistake moves the logits of every single token, at least."""
    found = two_blocks(Oracle(EVERY[family], wrong=wrong))
    return float((found - exact(family)).abs().amax(-1).min())


@every_family
def test_one_worker_equals_the_plain_forward(family: str) -> None:
    plain = plain_logits(EVERY[family].build(), IDS)
    assert plain.std() > 0.5
    difference = (one_worker(oracle_of(family), IDS) - plain).abs().max()
    assert difference <= 1e-5 * plain.abs().max()
    assert difference <= TOLERANCE


def turns(family: Family) -> bool:
    return any(layer.table is not None for layer in family.each_layer())


@pytest.mark.parametrize("family", [name for name in EVERY if turns(EVERY[name])])
@pytest.mark.parametrize("shift", [-1, 1])
def test_one_wrong_position_shows_in_the_logits(family: str, shift: int) -> None:
    found = two_blocks(Oracle(EVERY[family], shift=shift))
    # Where no layer that rotates sees another block, through its window, nothing is misplaced.
    near = min(layer.window or 60 for layer in EVERY[family].each_layer())
    assert (found - exact(family)).abs().amax(-1)[: near - 1].min() > 0.01


def having(mistake: Callable[[Layer], Layer]) -> list[str]:
    """Families that have such a layer, and the table that the mistake would take."""
    found = []
    for name, family in EVERY.items():
        known = {None, *(layer.table for layer in family.each_layer())}
        wrong = [mistake(layer) for layer in family.each_layer()]
        if wrong != list(family.each_layer()) and known.issuperset(layer.table for layer in wrong):
            found.append(name)
    return found


def no_window(layer: Layer) -> Layer:
    return replace(layer, window=None)


def wider_window(layer: Layer) -> Layer:
    return replace(layer, window=layer.window and layer.window + 1)


def no_chunk(layer: Layer) -> Layer:
    return replace(layer, chunk=None)


def no_sinks(layer: Layer) -> Layer:
    return replace(layer, sinks=None)


def no_cap(layer: Layer) -> Layer:
    return replace(layer, cap=None)


def other_place(layer: Layer) -> Layer:
    return replace(layer, place="first") if layer.place == "last" else layer


def other_pairing(layer: Layer) -> Layer:
    return replace(layer, pairing="halves")


def other_direction(layer: Layer) -> Layer:
    return replace(layer, direction=1)


def other_table(layer: Layer) -> Layer:
    """The local table everywhere."""
    full = layer.table == "full_attention_"
    return replace(layer, table="sliding_attention_") if full else layer


def turned_too(layer: Layer) -> Layer:
    return replace(layer, table="") if layer.table is None else layer


def no_temperature(layer: Layer) -> Layer:
    # Beam's rises over thousands of tokens, so without it little changes here.
    return layer if layer.temperature is barely_warmer else replace(layer, temperature=None)


def no_gains(layer: Layer) -> Layer:
    return replace(layer, gains=None)


def short_table(layer: Layer) -> Layer:
    return replace(layer, long=False)


MISTAKES = (
    no_window,
    wider_window,
    no_chunk,
    no_sinks,
    no_cap,
    other_place,
    other_pairing,
    other_direction,
    other_table,
    turned_too,
    no_temperature,
    no_gains,
    short_table,
)


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        pytest.param(family, mistake, id=f"{family}-{mistake.__name__}")
        for mistake in MISTAKES
        for family in having(mistake)
    ],
)
def test_a_wrong_layer_shows_in_the_logits(family: str, wrong: Callable[[Layer], Layer]) -> None:
    assert mistaken(family, wrong) > 0.01


def test_tokens_of_the_same_tick_are_seen() -> None:
    oracle = Oracle(EVERY["llama"])
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
