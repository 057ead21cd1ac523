"""Statistics: textbook values, and that clustered runs do not count for more than they say."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given, strategies as st

from hogwild_agents.experiment import statistics
from hogwild_agents.experiment.statistics import (
    Estimate,
    average,
    holm,
    ratio,
    share,
    share_difference,
    sign_flip,
    t_below,
    t_quantile,
)


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"),
    [  # Wilson's score interval, from the textbook formula
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (496, 500, 0.9796, 0.9969),
    ],
)
def test_one_run_for_each_problem_gives_wilsons_interval(
    hits: int, runs: int, low: float, high: float
) -> None:
    estimate = share([1.0] * hits + [0.0] * (runs - hits), runs)
    assert estimate.value == hits / runs
    assert ends(estimate) == pytest.approx((low, high), abs=1e-4)


def test_seeds_that_agree_do_not_narrow_a_share() -> None:
    once = share([1.0, 0.0, 1.0, 1.0, 0.0], 5)
    assert share([1.0, 0.0, 1.0, 1.0, 0.0], 4 * 5) == once


def test_seeds_that_differ_as_chance_has_it_count_as_so_many_runs() -> None:
    """40 problems, 2 seeds: as many of each kind as independent coins give."""
    means = [0.0] * 10 + [0.5] * 20 + [1.0] * 10
    assert ends(share(means, 80)) == pytest.approx(ends(share([0.0, 1.0] * 40, 80)))


def test_problems_that_differ_less_than_chance_count_for_no_more_than_the_runs() -> None:
    assert ends(share([0.5] * 9 + [0.4], 20)) == pytest.approx(
        ends(share([0.0, 1.0] * 10, 20)), abs=0.011
    )


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (100, 1.984)],
)
def test_quantiles_of_student_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("value", "freedom", "expected"),
    [(1, 1, 0.75), (2, 5, 0.9490303), (1.812461, 10, 0.95), (0, 7, 0.5), (2.575829, 10**7, 0.995)],
)
def test_distribution_of_student(value: float, freedom: int, expected: float) -> None:
    assert t_below(value, freedom) == pytest.approx(expected, abs=1e-6)


def test_students_two_formulas_meet() -> None:
    assert t_quantile(999) == pytest.approx(t_quantile(1001), abs=1e-5)


def test_mean_with_students_interval() -> None:
    """Mean 5, variance 10, so 5 ± 2.776 * sqrt(10 / 5)."""
    estimate = average([1, 3, 5, 7, 9])
    assert estimate.value == 5
    assert ends(estimate) == pytest.approx((1.0739, 8.9261), abs=1e-3)


def test_mean_of_one_problem_has_no_interval() -> None:
    assert average([3.0]) == Estimate(3.0, None, None)


def test_interval_stays_where_means_can_be() -> None:
    assert average([0, 0, 0, 1], least=0.0).low == 0.0
    assert ends(average([0, 0, 0, 1]))[0] < 0


def test_ratio_of_two_means() -> None:
    """Means 3 and 6; x - y / 2 is -0.5, 0 and 0.5: so 0.5 ± 4.303 * 0.5 / sqrt(3) / 6."""
    estimate = ratio([(1.5, 4.0), (3.0, 6.0), (4.5, 8.0)])
    assert estimate.value == 0.5
    assert ends(estimate) == pytest.approx((0.5 - 0.20702, 0.5 + 0.20702), abs=1e-4)
    assert ratio([(1.0, 4.0)]) == Estimate(0.25, None, None)


def test_pairs_make_a_ratio_certain() -> None:
    """Problems differ much in length, but the ratio does not: pairing must see that."""
    rng = random.Random(2)
    lengths = [rng.uniform(50, 500) for _ in range(50)]
    estimate = ratio([(0.5 * length, length) for length in lengths])
    assert (estimate.value, *ends(estimate)) == pytest.approx((0.5, 0.5, 0.5))


def test_interval_of_a_ratio_holds_it_as_often_as_it_should() -> None:
    rng = random.Random(5)
    held = 0
    for _ in range(400):
        lengths = [rng.uniform(50, 150) for _ in range(30)]
        low, high = ends(ratio([(length * rng.uniform(0.3, 0.5), length) for length in lengths]))
        held += low <= 0.4 <= high
    assert 0.91 < held / 400 < 0.98


def test_difference_of_paired_shares() -> None:
    """Bonett and Price with 12 and 2 of 50 pairs that differ: 10/52 ± 1.96 * 0.07215."""
    estimate = share_difference([1.0] * 12 + [-1.0] * 2 + [0.0] * 36)
    assert estimate.value == pytest.approx(0.2)
    assert ends(estimate) == pytest.approx((0.05089, 0.33372), abs=1e-4)


def test_no_difference_seen_is_not_no_difference() -> None:
    low, high = ends(share_difference([0.0] * 20))
    assert (low, high) == pytest.approx((-0.126, 0.126), abs=1e-3)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([], 1.0),
        ([0.0, 0.0], 1.0),
        ([1, 1, 1, 1, 1, 0, 0], 2 / 32),
        ([1] * 8 + [-1] * 2, 112 / 1024),  # McNemar's exact test: 2 (1 + 10 + 45) / 1024
        ([1, -1], 1.0),
        ([3, 1, 2], 2 / 8),
        ([3, -1, 2], 4 / 8),  # as far: 3+1+2 and 3-1+2, and their mirror images
    ],
)
def test_sign_flips_worked_by_hand(differences: list[float], expected: float) -> None:
    assert sign_flip(differences) == pytest.approx(expected)


@given(st.lists(st.integers(-9, 9), max_size=8))
def test_sign_flips_are_those_of_all_signs(differences: list[int]) -> None:
    signed = [
        abs(sum(sign * one for sign, one in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    hits = sum(total >= abs(sum(differences)) for total in signed)
    assert sign_flip(differences) == pytest.approx(hits / len(signed))


def test_drawn_signs_come_close_to_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    differences = [round(rng.gauss(0.5, 2)) for _ in range(19)]
    exact = sign_flip(differences)
    monkeypatch.setattr(statistics, "_MOST_SUMS", 3)
    assert sign_flip(differences) == pytest.approx(exact, abs=0.01)
    assert sign_flip(differences) == sign_flip(differences)


def test_drawn_signs_never_say_never() -> None:
    rng = random.Random(1)
    assert 0 < sign_flip([1 + rng.random() for _ in range(200)]) < 1e-4


def test_chance_alone_is_found_in_a_twentieth_of_the_tests() -> None:
    rng = random.Random(3)
    small = [sign_flip([rng.gauss(0, 1) for _ in range(9)]) < 0.05 for _ in range(400)]
    assert 0.02 < sum(small) / 400 < 0.08


def test_holm_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_estimates_change_their_unit() -> None:
    assert Estimate(0.5, 0.25, 0.75).scaled(100) == Estimate(50, 25, 75)
    assert Estimate(0.5, None, None).scaled(2) == Estimate(1, None, None)


def test_estimates_are_shown_with_their_intervals() -> None:
    assert Estimate(99.2, 97.96, 99.69).show(1, " %") == "99.2 % [98.0, 99.7]"
    assert Estimate(0.5, -0.25, 1.25).show(2, sign="+") == "+0.50 [-0.25, +1.25]"
    assert Estimate(3.0, None, None).show(0) == "3"
