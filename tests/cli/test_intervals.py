"""Intervals: known values, and that they hold what they should."""

from __future__ import annotations

import random

import pytest

from hogwild_agents.cli.intervals import mean, proportion, ratio


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"),
    [  # Wilson's score interval, from the textbook formula
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (496, 500, 0.9796, 0.9969),
    ],
)
def test_wilson(hits: int, runs: int, low: float, high: float) -> None:
    estimate = proportion(hits, runs)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)
    assert estimate.value == hits / runs


def test_mean_is_that_of_the_values_in_a_normal_interval() -> None:
    rng = random.Random(1)
    values = [rng.gauss(100, 20) for _ in range(400)]
    estimate = mean(values)
    assert estimate.value == pytest.approx(sum(values) / 400)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 20 / 20, rel=0.15)


def test_pairs_make_a_ratio_certain() -> None:
    """Problems differ much in length, but the ratio does not: pairing must see that."""
    rng = random.Random(2)
    pairs = [(0.5 * length, length) for length in (rng.uniform(50, 500) for _ in range(50))]
    estimate = ratio(pairs)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5, 0.5))


def test_is_shown_with_its_interval() -> None:
    assert proportion(496, 500).scaled(100).show(1, " %") == "99.2 % [98.0, 99.7]"
