"""Rounds are interleaved, medians count, and noise is seen."""

from __future__ import annotations

import pytest

from hogwild_agents.bench import timing as module
from hogwild_agents.bench.report import SINGLE
from hogwild_agents.bench.timing import NOISY, quantile, take_turns
from tests.bench.rig import CPU, cell, report, timing


class Runner:
    """Writes down what it is asked for."""

    def __init__(self, name: str, book: list[str]) -> None:
        self.name, self.book = name, book

    def reset(self) -> None:
        self.book.append(f"{self.name} resets")

    def tick(self) -> None:
        self.book.append(self.name)


def test_all_take_their_turn_in_every_round_forwards_and_backwards() -> None:
    book: list[str] = []
    contestants = {name: Runner(name, book) for name in "ab"}
    found = take_turns(contestants, CPU, rounds=2, ticks=2)
    turn = {name: [f"{name} resets", name, name, name] for name in "ab"}
    assert book == turn["a"] + turn["b"] + turn["b"] + turn["a"]
    assert {name: len(one.values) for name, one in found.items()} == {"a": 2, "b": 2}
    assert all(value > 0 for one in found.values() for value in one.values)


def test_the_first_tick_of_a_turn_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(module, "timed", lambda call, device: (call(), next(spent))[1])
    book: list[str] = []
    assert module.turn(Runner("a", book), CPU, 3) == 2.0
    assert book.count("a") == 4


@pytest.mark.parametrize(
    ("values", "quarter", "middle"),
    [((5.0,), 5.0, 5.0), ((4.0, 2.0), 2.5, 3.0), ((5.0, 1.0, 3.0, 2.0, 4.0), 2.0, 3.0)],
)
def test_quartiles(values: tuple[float, ...], quarter: float, middle: float) -> None:
    assert quantile(values, 0.25) == quarter
    assert quantile(values, 0.5) == timing(*values).median == middle


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down for all contestants alike changes no ratio."""
    one, other = timing(10, 20, 80), timing(5, 10, 40)
    assert one.over(other) == 2.0


@pytest.mark.parametrize(
    ("values", "noisy"),
    [
        ((90, 91, 89, 90, 90), False),
        ((90, 90, 90, 90, 500), False),  # one outlier is what medians are for
        ((90, 120, 70, 100, 80), True),
        ((90,), False),
    ],
)
def test_noise_is_a_spread_of_the_single_sequence(values: tuple[float, ...], noisy: bool) -> None:
    found = cell(times={SINGLE: timing(*values)})
    assert found.noisy is noisy
    assert (found.times[SINGLE].spread > NOISY) is noisy


def test_a_noisy_machine_is_told_with_the_figures() -> None:
    quiet, noisy = cell(), cell(workers=4, times={SINGLE: timing(80, 100, 140)})
    (said,) = report(quiet, noisy).noise
    assert said.startswith("Too noisy with 4 workers at context 1k: ")
    assert "90 to 120 ms" in said
    assert "a spread of 30.0% of the median, where 10% is the most" in said
