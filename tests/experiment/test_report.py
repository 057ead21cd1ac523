"""Report: numbers worked by hand, and what is left out where there is nothing to say."""

from __future__ import annotations

import pytest

from hogwild_agents.experiment.cells import cells_of
from hogwild_agents.experiment.report import MEASURES, Report, make_report
from hogwild_agents.experiment.store import Outcome
from tests.experiment.plans import PROBLEMS, outcome, outcomes, plan

PLAN = plan(baseline={"workers": 1}, grid={"workers": [1, 2, 3]})
ONE, TWO, THREE = cells_of(PLAN)


def report(*found: Outcome) -> Report:
    return make_report("x", PLAN, [ONE, TWO, THREE], found, planned=12)


def test_means_and_differences_worked_by_hand() -> None:
    found = report(
        *outcomes(ONE, [True, True, False, True], [10, 20, 30, 40]),
        *outcomes(TWO, [True, False, False, True], [6, 12, 16, 22]),
    )
    assert [(line.label, line.runs) for line in found.lines] == [("1 worker", 4), ("2 workers", 4)]
    single, pair = found.lines
    assert (single.is_baseline, pair.is_baseline) == (True, False)
    assert single.comparisons == {}
    assert (single.means["accuracy"].value, pair.means["accuracy"].value) == (0.75, 0.5)
    assert (single.means["ticks"].value, pair.means["ticks"].value) == (25, 14)
    ticks = pair.comparisons["ticks"]
    assert (ticks.baseline, ticks.pairs, ticks.problems) == ("1 worker", 4, 4)
    assert ticks.difference.value == -11  # of -4, -8, -14, -18
    assert ticks.p == 2 / 16
    accuracy = pair.comparisons["accuracy"]
    assert accuracy.difference.value == -0.25
    assert accuracy.p == 1.0


def test_only_runs_on_the_same_problem_with_the_same_seed_are_compared() -> None:
    found = report(
        outcome(ONE, PROBLEMS[0], 0, ticks=10),
        outcome(ONE, PROBLEMS[1], 0, ticks=1000),
        outcome(TWO, PROBLEMS[0], 0, ticks=7),
        outcome(TWO, PROBLEMS[0], 1, ticks=500),
        outcome(TWO, PROBLEMS[2], 0, ticks=500),
    )
    ticks = found.lines[1].comparisons["ticks"]
    assert (ticks.pairs, ticks.problems, ticks.difference.value) == (1, 1, -3)
    assert ticks.difference.low is None


def test_cells_without_runs_are_left_out() -> None:
    found = report(*outcomes(TWO, [True] * 4, [1, 2, 3, 4]))
    assert [line.label for line in found.lines] == ["2 workers"]
    assert found.lines[0].comparisons == {}
    assert (found.runs, found.planned) == (4, 12)


def test_the_p_values_of_a_measure_are_one_family() -> None:
    found = report(
        *outcomes(ONE, [True] * 4, [10, 20, 30, 40]),
        *outcomes(TWO, [True] * 4, [6, 12, 16, 22]),
        *outcomes(THREE, [True] * 4, [5, 30, 16, 50]),
    )
    _, pair, three = (line.comparisons.get("ticks") for line in found.lines)
    assert pair is not None
    assert three is not None
    assert pair.p_adjusted == 2 * pair.p == 0.25
    assert three.p_adjusted == three.p > 0.25


def test_seeds_are_averaged_before_problems_are() -> None:
    runs = [outcome(ONE, PROBLEMS[0], seed, ticks=seed) for seed in (1, 3)]
    found = report(*runs, outcome(ONE, PROBLEMS[1], 1, ticks=8))
    assert found.lines[0].means["ticks"].value == 5  # of 2 and 8
    assert (found.lines[0].runs, found.lines[0].problems) == (3, 2)
    assert not found.seeds_alike


@pytest.mark.parametrize(("ticks", "alike"), [(10, True), (11, False)])
def test_seeds_that_change_nothing_are_told(ticks: int, alike: bool) -> None:
    assert report(outcome(ONE, seed=0), outcome(ONE, seed=1, ticks=ticks)).seeds_alike is alike


def test_one_seed_says_nothing_about_seeds() -> None:
    assert not report(*outcomes(ONE, [True] * 4, [1, 1, 1, 1])).seeds_alike


def test_reasons_are_counted() -> None:
    found = report(
        *(outcome(ONE, problem, reason="answer") for problem in PROBLEMS[:3]),
        outcome(ONE, PROBLEMS[3], reason="finisher"),
    )
    assert found.lines[0].reasons == {"answer": 3, "finisher": 1}


def test_every_measure_has_a_mean() -> None:
    (line,) = report(outcome(ONE, ticks=8, duplicated=2)).lines
    means = {name: mean.value for name, mean in line.means.items()}
    assert means == {"accuracy": 1, "ticks": 8, "duplicated": 2, "tokens": 24, "seconds": 1}
    assert list(means) == [measure.name for measure in MEASURES]
