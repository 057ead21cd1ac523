"""Jobs: every cell on every problem with every seed, many of them at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio

import hogwild_agents
from hogwild_agents.errors import HogwildError
from hogwild_agents.experiment.cells import Cell
from hogwild_agents.experiment.plan import Plan
from hogwild_agents.experiment.store import Key, Outcome, Store
from hogwild_agents.experiment.tasks import Problem

__all__ = ["Job", "Solve", "common_of", "jobs_of", "run_jobs"]

_MEGABYTE = 2**20


@dataclass(frozen=True, eq=False)
class Job:
    """One run that is to be made.

    Attributes:
        cell: the kind of run.
        problem: what is solved.
        seed: of all its random states.
    """

    cell: Cell
    problem: Problem
    seed: int

    @property
    def key(self) -> Key:
        """Which run it is, in the store."""
        return self.cell.key, self.problem.id, self.seed


Solve: TypeAlias = Callable[[Job], Awaitable[Outcome]]


def jobs_of(cells: Sequence[Cell], problems: Sequence[Problem], seeds: Sequence[int]) -> list[Job]:
    """Return all jobs, problem by problem, so that what is done can be compared at any time."""
    return [Job(cell, problem, seed) for problem in problems for seed in seeds for cell in cells]


async def run_jobs(
    jobs: Sequence[Job],
    solve: Solve,
    store: Store,
    *,
    limit: int,
    on_done: Callable[[Outcome], object] = lambda _: None,
) -> None:
    """Do what the store does not have yet, at most ``limit`` jobs at a time.

    Each outcome is in the store before ``on_done`` is called. When this is cancelled, or a job
    fails, the others under way are given up, and what is in the store stays.

    Raises:
        HogwildError: what the first job that failed has raised.
    """
    places = anyio.Semaphore(limit)
    failures: list[HogwildError] = []

    async def work(job: Job) -> None:
        try:
            outcome = await solve(job)
            store.add(outcome)
            on_done(outcome)
        except HogwildError as error:
            failures.append(error)
            group.cancel_scope.cancel()
        finally:
            places.release()

    async with anyio.create_task_group() as group:
        for job in [job for job in jobs if job.key not in store.outcomes]:
            await places.acquire()
            group.start_soon(work, job)
    if failures:
        raise failures[0]


# -- what a store's results have in common


def common_of(plan: Plan) -> dict[str, Any]:
    """Return all that decides results beside what their keys say.

    More problems, seeds and cells leave it as it is, so that an experiment can grow.
    """
    run = plan.run
    task = {
        f"task.{name}": value for name, value in plan.task.model_dump(exclude={"problems"}).items()
    }
    if "task.file" in task:
        task["task.file"] = task["task.file"].name
    model = {
        name: getattr(run, name)
        for name in ("model", "revision", "device", "dtype", "cache_tokens")
    }
    version = hogwild_agents.__version__
    return {"version": version, **task, **model, "weights": _weights(run.model)}


def _weights(model: str) -> str | None:
    """Return what tells the weights of a folder from others; None for a hub's."""
    from hogwild_agents.bundled import bundled_path

    folder = bundled_path() if model == "bundled" else Path(model)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(_MEGABYTE))
    return digest.hexdigest()[:12]
