"""Report: what the results of an experiment come to, cell by cell and measure by measure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hogwild_agents.experiment.cells import Cell, Value, baselines, labels_of
from hogwild_agents.experiment.plan import Plan
from hogwild_agents.experiment.statistics import (
    Estimate,
    average,
    holm,
    share,
    share_difference,
    sign_flip,
)
from hogwild_agents.experiment.store import Outcome

__all__ = ["MEASURES", "Comparison", "Line", "Measure", "Report", "make_report"]

Runs = Mapping[tuple[str, int], Outcome]
"""The runs of a cell, by problem and seed."""


@dataclass(frozen=True)
class Measure:
    """Something that is measured of a run.

    Attributes:
        name: what files call it.
        title: what people read.
        of: the number.
        is_share: whether it is 0 or 1, so that its mean is a share.
        digits: how many are shown behind the point.
    """

    name: str
    title: str
    of: Callable[[Outcome], float]
    is_share: bool = False
    digits: int = 1


MEASURES = (
    Measure("accuracy", "Right answers, %", lambda one: float(one.correct), is_share=True),
    Measure("ticks", "Ticks", lambda one: one.ticks),
    Measure("duplicated", "Duplicated work", lambda one: one.duplicated, digits=2),
    Measure("tokens", "Tokens", lambda one: one.tokens, digits=0),
    Measure("seconds", "Seconds", lambda one: one.seconds),
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A cell's paired difference to its baseline, in one measure.

    Attributes:
        baseline: the other cell's label.
        pairs: how many runs of each were compared: those on the same problems with the same seeds.
        problems: on how many problems.
        difference: of the means.
        p: how often chance alone makes a difference as large (sign-flip test).
        p_adjusted: for all the comparisons in this measure (Holm).
    """

    baseline: str
    pairs: int
    problems: int
    difference: Estimate
    p: float
    p_adjusted: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """A cell.

    Attributes:
        label: its short name.
        axes: its values.
        runs, problems: how many there are.
        reasons: how many runs ended for which reason.
        means: for each measure.
        comparisons: for each measure; empty without a baseline.
        is_baseline: whether another cell is compared with it.
    """

    label: str
    axes: Mapping[str, Value]
    runs: int
    problems: int
    reasons: Mapping[str, int]
    means: Mapping[str, Estimate]
    comparisons: Mapping[str, Comparison]
    is_baseline: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an experiment has come to so far.

    Attributes:
        name: the experiment's.
        model: whose runs they are.
        runs: how many there are.
        planned: how many there shall be.
        seeds: the plan's.
        seeds_alike: whether no run depends on its seed, so that several are as good as one.
        baseline: what cells are compared with, in words; empty for nothing.
        lines: the cells that have runs, in the plan's order.
    """

    name: str
    model: str
    runs: int
    planned: int
    seeds: tuple[int, ...]
    seeds_alike: bool
    baseline: str
    lines: tuple[Line, ...]


def make_report(
    name: str,
    plan: Plan,
    cells: Sequence[Cell],
    outcomes: Iterable[Outcome],
    *,
    planned: int,
) -> Report:
    """Sum up outcomes.

    Args:
        name: the experiment's.
        plan: what it measures.
        cells: the plan's cells.
        outcomes: their results, so far.
        planned: how many there shall be.

    Raises:
        ConfigError: the plan's baseline leaves nothing to compare.
    """
    against = baselines(plan, cells)
    runs: dict[str, dict[tuple[str, int], Outcome]] = {cell.key: {} for cell in cells}
    for one in outcomes:
        runs[one.cell][one.problem, one.seed] = one
    labels = labels_of(cells)
    compared = _compare(runs, against, labels)
    lines = tuple(
        Line(
            label=labels[cell.key],
            axes=cell.axes,
            runs=len(found),
            problems=len({problem for problem, _ in found}),
            reasons=dict(Counter(one.reason for one in found.values()).most_common()),
            means={measure.name: _mean(found, measure) for measure in MEASURES},
            comparisons=compared[cell.key],
            is_baseline=any(other is cell for other in against.values()),
        )
        for cell in cells
        if (found := runs[cell.key])
    )
    return Report(
        name=name,
        model=plan.run.model,
        runs=sum(map(len, runs.values())),
        planned=planned,
        seeds=plan.seeds,
        seeds_alike=_alike(runs.values()),
        baseline=_say_baseline(plan),
        lines=lines,
    )


def _say_baseline(plan: Plan) -> str:
    values = {} if plan.baseline is None else plan.baseline.model_dump(exclude_none=True)
    return ", ".join(f"{axis} = {value}" for axis, value in values.items())


def _mean(runs: Runs, measure: Measure) -> Estimate:
    means = _by_problem((problem, measure.of(one)) for (problem, _), one in runs.items())
    return share(means, len(runs)) if measure.is_share else average(means, least=0.0)


def _by_problem(values: Iterable[tuple[str, float]]) -> list[float]:
    """Return the mean of each problem's values."""
    grouped: defaultdict[str, list[float]] = defaultdict(list)
    for problem, value in values:
        grouped[problem].append(value)
    return [fmean(found) for found in grouped.values()]


def _alike(cells: Iterable[Runs]) -> bool:
    """Whether all runs of a cell on a problem are the same."""
    seen: dict[tuple[str, str], tuple[object, ...]] = {}
    several = False
    for one in (one for runs in cells for one in runs.values()):
        facts = (one.answer, one.ticks, one.tokens, one.duplicated, one.reason)
        first = seen.setdefault((one.cell, one.problem), facts)
        if first is not facts:
            several = True
            if first != facts:
                return False
    return several


def _compare(
    runs: Mapping[str, Runs], against: Mapping[str, Cell], labels: Mapping[str, str]
) -> dict[str, dict[str, Comparison]]:
    """Return the comparisons of each cell, by its key and the measure's name."""
    shared = {
        key: common
        for key, base in against.items()
        if (common := [at for at in runs[key] if at in runs[base.key]])
    }
    found: dict[str, dict[str, Comparison]] = {key: {} for key in runs}
    for measure in MEASURES:
        differences = {
            key: _differences(runs[key], runs[against[key].key], common, measure)
            for key, common in shared.items()
        }
        chances = [sign_flip(values) for values in differences.values()]
        adjusted = holm(chances)
        for (key, values), p, p_adjusted in zip(
            differences.items(), chances, adjusted, strict=True
        ):
            found[key][measure.name] = Comparison(
                baseline=labels[against[key].key],
                pairs=len(shared[key]),
                problems=len(values),
                difference=share_difference(values) if measure.is_share else average(values),
                p=p,
                p_adjusted=p_adjusted,
            )
    return found


def _differences(
    runs: Runs, base: Runs, common: Iterable[tuple[str, int]], measure: Measure
) -> list[float]:
    """Return each problem's difference to the baseline, over the seeds that both have."""
    return _by_problem((at[0], measure.of(runs[at]) - measure.of(base[at])) for at in common)
