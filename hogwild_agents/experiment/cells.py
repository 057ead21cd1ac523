"""Cells: the kinds of runs that an experiment compares, worked out from its plan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias, TypeVar

from hogwild_agents.config import RunConfig, WorkerConfig
from hogwild_agents.errors import ConfigError
from hogwild_agents.experiment.plan import AXES, Grid, Plan
from hogwild_agents.nearest import nearest
from hogwild_agents.worker_names import worker_names

__all__ = ["Cell", "Value", "baselines", "cells_of", "labels_of"]

Value: TypeAlias = str | int | float | None
Pair: TypeAlias = tuple[str, str]
T = TypeVar("T")

POLICIES: Mapping[str, tuple[str, ...]] = {
    "paper": ("redundancy-check", "stop-on-answer", "finisher")
}
BELONGS = {"check_every": "redundancy-check", "max_answer_tokens": "finisher"}
"""Axes that mean something to one policy only; a cell without it has no value there."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One kind of run.

    Attributes:
        axes: the value on every axis, as the plan calls it; None for what is left to the model, or
            means nothing here.
        config: the run's config, without a seed.
        hidden: who is hidden from whom, as pairs of an author and a viewer.
        key: what the store calls it: all that decides its runs, by content and not by name.
    """

    axes: Mapping[str, Value]
    config: RunConfig
    hidden: frozenset[Pair]
    key: str

    def sees(self, viewer: str) -> tuple[str, ...] | None:
        """Return whom a worker sees; None for everybody."""
        others = [worker.name for worker in self.config.team if worker.name != viewer]
        seen = tuple(name for name in others if (name, viewer) not in self.hidden)
        return None if len(seen) == len(others) else seen


def cells_of(plan: Plan) -> list[Cell]:
    """Return the cells of all grids, in order; equal ones once, under the first one's names.

    Raises:
        ConfigError: a name stands for nothing, or a value has no effect anywhere.
    """
    cells: dict[str, Cell] = {}
    for grid in plan.grid:
        found = [_cell(plan, chosen, "grid") for chosen in _choices(grid)]
        _refuse_idle(plan, "grid", grid.model_dump(exclude_none=True), found)
        for cell in found:
            cells.setdefault(cell.key, cell)
    _refuse_idle(plan, "run", plan.run.model_dump(exclude_none=True), cells.values())
    return list(cells.values())


def baselines(plan: Plan, cells: Sequence[Cell]) -> dict[str, Cell]:
    """Return what each cell is compared with, by its key; cells without it are left out.

    Raises:
        ConfigError: there is a baseline, but nothing to compare with it.
    """
    if plan.baseline is None:
        return {}
    changes = plan.baseline.model_dump(exclude_none=True)
    by_key = {cell.key: cell for cell in cells}
    found: dict[str, Cell] = {}
    for cell in cells:
        other = by_key.get(_cell(plan, {**cell.axes, **changes}, "baseline").key)
        if other is not None and other is not cell:
            found[cell.key] = other
    if not found:
        said = ", ".join(f"{axis} = {value!r}" for axis, value in changes.items())
        raise ConfigError(
            f"The baseline ({said}) in {plan.source} leaves nothing to compare: give values that "
            "the grid has, and others beside them."
        )
    return found


def labels_of(cells: Sequence[Cell]) -> dict[str, str]:
    """Return a short name for each cell, by its key: the values in which the cells differ."""
    shown = [axis for axis in AXES if len(_values(cells, axis)) > 1] or ["layout", "workers"]
    return {cell.key: " · ".join(_words(cell, shown)) for cell in cells}


def _values(cells: Sequence[Cell], axis: str) -> set[Value]:
    """The values on an axis; that it means nothing to a cell is seen by the cell's policies."""
    values = {cell.axes[axis] for cell in cells}
    return values - {None} if axis in BELONGS else values


def _words(cell: Cell, shown: Iterable[str]) -> Iterator[str]:
    for axis in shown:
        value = cell.axes[axis]
        if axis == "workers" and isinstance(value, int):
            yield f"{value} worker{'s' * (value != 1)}"
        elif axis in ("layout", "policies", "workers"):
            yield str(value)
        elif value is not None:
            yield f"{axis.replace('_', ' ')} {value}"
        elif axis not in BELONGS:
            yield f"the model's {axis.replace('_', ' ')}"


# -- one cell


def _choices(grid: Grid) -> Iterator[dict[str, Value]]:
    lists = {axis: values for axis in AXES if (values := getattr(grid, axis)) is not None}
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _cell(plan: Plan, chosen: Mapping[str, Value], place: str) -> Cell:
    """Return the cell with some values; ``place`` is where they stand in the plan."""
    axes = {axis: _value(plan, chosen, axis) for axis in AXES}
    names = _Names(plan, {axis: place if axis in chosen else "run" for axis in AXES})
    policies = names.known("policies", axes["policies"], {**POLICIES, **plan.policies})
    axes |= {axis: None for axis, policy in BELONGS.items() if policy not in policies}
    team = _team(plan, axes["workers"], names)
    hidden = _hidden(plan, axes["visibility"], [worker.name for worker in team], names)
    own = {axis: value for axis, value in axes.items() if axis in RunConfig.model_fields}
    options = {axis: value for axis, value in own.items() if value is not None}
    workers = tuple(worker.model_dump() for worker in team)
    config = RunConfig().override({**options, "workers": workers, "policies": policies})
    content = {**axes, "workers": workers, "policies": policies, "visibility": sorted(hidden)}
    return Cell(axes, config, hidden, json.dumps(content, sort_keys=True, ensure_ascii=False))


def _value(plan: Plan, chosen: Mapping[str, Value], axis: str) -> Value:
    """What a cell has on an axis: its own value, else the plan's, else the package's."""
    for given in (chosen.get(axis), getattr(plan.run, axis)):
        if given is not None:
            value: Value = given
            return value
    if axis in ("policies", "visibility"):
        return "paper" if axis == "policies" else "all"
    default: Value = RunConfig.model_fields[axis].default
    return default


@dataclass(frozen=True)
class _Names:
    """Looks up what names of a plan stand for.

    Attributes:
        plan: the plan.
        places: where each axis has its value from.
    """

    plan: Plan
    places: Mapping[str, str]

    def known(
        self, axis: str, value: Value, known: Mapping[str, tuple[T, ...]], section: str = ""
    ) -> tuple[T, ...]:
        """Return what the name on an axis stands for.

        Raises:
            ConfigError: it stands for nothing.
        """
        name = str(value)
        if name in known:
            return known[name]
        advice = nearest(name, known) or f"add it under [{section or axis}]."
        raise ConfigError(
            f"{self.places[axis]}.{axis} cannot be {name!r} in {self.plan.source}: {advice}"
        )


def _team(plan: Plan, value: Value, names: _Names) -> tuple[WorkerConfig, ...]:
    if isinstance(value, int):
        return tuple(WorkerConfig(name=name) for name in worker_names(value))
    return names.known("workers", value, plan.teams, "teams")


def _hidden(plan: Plan, rule: Value, team: Sequence[str], names: _Names) -> frozenset[Pair]:
    """Who is hidden from whom in a team, by a rule's name."""
    everybody = {(author, viewer) for author in team for viewer in team if author != viewer}
    before = dict(zip(team, [team[-1], *team[:-1]], strict=True))
    ring = {(author, viewer) for author, viewer in everybody if before[viewer] != author}
    ready: dict[str, tuple[Pair, ...]]
    ready = {"all": (), "none": tuple(everybody), "ring": tuple(ring)}
    hidden = frozenset(names.known("visibility", rule, {**ready, **plan.visibility}))
    wrong = next(iter(sorted(hidden - everybody)), None)
    if wrong is not None:
        raise ConfigError(
            f"visibility.{rule} hides {wrong[0]!r} from {wrong[1]!r} in {plan.source}, but the "
            f"team is {', '.join(team)}: name two different ones of it."
        )
    return hidden


def _refuse_idle(
    plan: Plan, place: str, given: Mapping[str, object], cells: Iterable[Cell]
) -> None:
    """Raise a ConfigError if a value is for a policy that no cell has."""
    found = list(cells)
    for axis, policy in BELONGS.items():
        if axis in given and all(policy not in cell.config.policies for cell in found):
            value = given[axis]
            raise ConfigError(
                f"{place}.{axis} is {list(value) if isinstance(value, tuple) else value} in "
                f"{plan.source}, but no set of policies there has {policy!r}: add it, or leave "
                f"out {axis}."
            )
