"""Plans and outcomes for tests, in few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hogwild_agents.experiment.cells import Cell
from hogwild_agents.experiment.jobs import Job
from hogwild_agents.experiment.plan import Plan
from hogwild_agents.experiment.store import Outcome
from hogwild_agents.experiment.tasks import Problem

PROBLEMS = [Problem(f"What is {number}?", str(number)) for number in range(4)]
POLICIES = {
    "checked": ["redundancy-check", "stop-on-answer", "finisher"],
    "unchecked": ["stop-on-answer", "finisher"],
}


def plan(**values: Any) -> Plan:
    """Return a plan with these values, on problems of the bundled model."""
    return Plan.check({"task": {"kind": "bundled"}, "policies": POLICIES, **values})


def outcome(
    cell: Cell,
    problem: Problem = PROBLEMS[0],
    seed: int = 0,
    *,
    correct: bool = True,
    ticks: int = 10,
    duplicated: float = 0.0,
    reason: str = "answer",
) -> Outcome:
    """Return what a run came to."""
    cell_key, problem_key, seed = Job(cell, problem, seed).key
    return Outcome(
        cell=cell_key,
        problem=problem_key,
        seed=seed,
        answer=problem.answer if correct else None,
        correct=correct,
        ticks=ticks,
        tokens=3 * ticks,
        seconds=ticks / 8,
        duplicated=duplicated,
        reason=reason,
    )


def outcomes(cell: Cell, rights: Iterable[bool], ticks: Iterable[int]) -> list[Outcome]:
    """Return one outcome on each problem."""
    rows = zip(PROBLEMS, rights, ticks, strict=True)
    return [outcome(cell, one, correct=right, ticks=number) for one, right, number in rows]
