"""``hogwild experiment``: a grid of teams over the same problems, resumable; tables and a plot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
from rich.console import Console

from hogwild_agents.cli.build import (
    build_policies,
    check_model,
    check_policies,
    check_prompt,
    loaded,
)
from hogwild_agents.cli.columns import print_table
from hogwild_agents.cli.interrupts import tidied
from hogwild_agents.cli.stop import Stop
from hogwild_agents.cli.tally import Tally
from hogwild_agents.config import RunConfig
from hogwild_agents.counts import counted
from hogwild_agents.errors import ConfigError, HogwildError, RunError
from hogwild_agents.experiment.cells import Cell, baselines, cells_of
from hogwild_agents.experiment.duplicates import Measure, measure_of
from hogwild_agents.experiment.jobs import Job, common_of, jobs_of, run_jobs
from hogwild_agents.experiment.plan import Plan
from hogwild_agents.experiment.plot import as_svg
from hogwild_agents.experiment.report import Report, make_report
from hogwild_agents.experiment.store import Outcome, Store, read_store
from hogwild_agents.experiment.table import as_csv, as_json, as_markdown, as_tables, caption
from hogwild_agents.experiment.tasks import Scorer, problems_of, scorer_of
from hogwild_agents.file_lock import is_taken

if TYPE_CHECKING:
    from hogwild_agents import CacheCoordinator, LanguageModel, RunResult, Team

STORE = "results.jsonl"
WRITERS: Mapping[str, Callable[[Report], str]] = {
    "table.md": as_markdown,
    "table.csv": as_csv,
    "table.json": as_json,
    "plot.svg": as_svg,
}
FORMATS: Mapping[str, Callable[[Report], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
}


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How a run is measured.

    Attributes:
        is_right: whether an answer is the expected one.
        duplicated: how much work was done twice.
    """

    is_right: Scorer
    duplicated: Measure

    def outcome(self, job: Job, result: RunResult) -> Outcome:
        """Return what a run came to."""
        answer = result.answer
        cell, problem, seed = job.key
        return Outcome(
            cell=cell,
            problem=problem,
            seed=seed,
            answer=answer,
            correct=answer is not None and self.is_right(answer, job.problem.answer),
            ticks=result.ticks,
            tokens=result.tokens,
            seconds=result.seconds,
            duplicated=self.duplicated(result),
            reason=result.reason,
        )


def experiment(
    file: Path, out: Path | None, *, form: str, report_only: bool, threads: int | None = None
) -> int:
    """Run what is not done yet, write tables and a plot, and show the tables.

    Args:
        file: the plan.
        out: the folder of all that is written; None for one that is named after the plan.
        form: ``table``, ``markdown``, ``csv`` or ``json``: how the tables are shown.
        report_only: run nothing.
        threads: how many compute on the CPU; None for torch's own number, or 1 for a tiny model.

    Returns:
        the exit code.

    Raises:
        HogwildError: something was asked for that cannot be, or a run has failed.
    """
    if form != "table" and form not in FORMATS:
        raise ConfigError(f"--format cannot be {form!r}: choose from table, {', '.join(FORMATS)}.")
    plan = Plan.load(file)
    config = _config(plan, threads)
    check_model(config.model)
    cells = cells_of(plan)
    baselines(plan, cells)
    for cell in cells:
        _check(cell, plan)
    task = plan.task
    judge = Judge(is_right=scorer_of(task), duplicated=measure_of(task.duplicates))
    jobs = jobs_of(cells, problems_of(task), plan.seeds)
    folder = Path(file.stem) if out is None else out
    path, common, code = folder / STORE, common_of(plan), 0
    with Stop() as stop:
        if not report_only:
            with Store(path, common) as store:
                left = [job for job in jobs if job.key not in store.outcomes]
                if left:
                    with loaded(config, quiet=False) as model:
                        code = anyio.run(_run, plan, left, len(jobs), judge, model, store, stop)

        def read() -> list[Outcome]:
            outcomes = read_store(path, common)
            return [outcomes[job.key] for job in jobs if job.key in outcomes]

        make = partial(make_report, file.stem, plan, cells, planned=len(jobs))
        if done := read():
            _show(_write(done, read, make, folder), folder, form)
        else:
            print(f"hogwild: nothing is done of {counted(len(jobs), 'run')} yet.", file=sys.stderr)
        if code:
            sys.stdout.flush()
            print("Interrupted: the same command goes on.", file=sys.stderr)
    return code


def _check(cell: Cell, plan: Plan) -> None:
    """Raise a ConfigError if a policy or the prompt of a cell cannot be had."""
    check_policies(cell.config, f" (policies.{cell.axes['policies']} in {plan.source})")
    try:
        check_prompt(cell.config)
    except ConfigError as error:
        raise ConfigError(
            f"prompt cannot be {cell.config.prompt!r} in {plan.source}: {str(error)[:1].lower()}"
            f"{str(error)[1:]}"
        ) from error


def _config(plan: Plan, threads: int | None) -> RunConfig:
    """Return what the plan says of the model."""
    names = ("model", "revision", "device", "dtype", "cache_tokens")
    values = {name: value for name in names if (value := getattr(plan.run, name))}
    return RunConfig().override(values if threads is None else {**values, "threads": threads})


# -- runs


async def _run(
    plan: Plan,
    jobs: Sequence[Job],
    planned: int,
    judge: Judge,
    model: LanguageModel,
    store: Store,
    stop: Stop,
) -> int:
    """Do the jobs over one coordinator, until all are done or a signal comes; return the code."""
    from hogwild_agents import CacheCoordinator

    coordinator = CacheCoordinator(model.engine)

    async def solve(job: Job) -> Outcome:
        team = _team(job.cell, job.seed, model, coordinator)
        try:
            return judge.outcome(job, await team.solve(job.problem.text))
        except RunError as error:
            raise RunError(_place(job, error), result=error.result) from error
        except HogwildError as error:
            raise ConfigError(_place(job, error)) from error

    limit = plan.run.concurrency
    failure: HogwildError | None = None
    given_up = anyio.CancelScope()
    with Tally(planned, planned - len(jobs)) as tally:
        async with stop.heeding(given_up, tally.close), coordinator:
            try:
                with given_up:
                    await run_jobs(
                        jobs, solve, store, limit=limit, on_done=lambda _: tally.advance()
                    )
            except HogwildError as error:  # raised in here, it would come out as a group's
                failure = error
    if failure is not None:
        raise failure
    return 0 if all(job.key in store.outcomes for job in jobs) else stop.code


def _place(job: Job, error: HogwildError) -> str:
    return (
        f"The run of problem {job.problem.id} ({job.problem.text[:40]!r}) with seed {job.seed} has "
        f"failed ({str(error).rstrip('.')}): what was done before is kept."
    )


def _team(cell: Cell, seed: int, model: LanguageModel, coordinator: CacheCoordinator) -> Team:
    from hogwild_agents import Limits, Team, Worker

    config = cell.config
    workers = [
        Worker(worker.name, role=worker.role, sees=cell.sees(worker.name)) for worker in config.team
    ]
    return Team(
        model,
        workers=workers,
        layout=config.layout,
        policies=build_policies(config),
        prompt=config.prompt,
        limits=Limits(ticks=config.budget),
        sampling=model.sampling.replace(**config.sampling),
        seed=seed,
        coordinator=coordinator,
    )


# -- what is told


def _write(
    done: list[Outcome],
    read: Callable[[], list[Outcome]],
    make: Callable[[list[Outcome]], Report],
    folder: Path,
) -> Report:
    """Write all tables and the plot of what is done, and return that.

    Meanwhile more may be done, and written by another process: whoever writes last looks again.
    """
    while True:
        report, told = make(done), done
        for name, write in WRITERS.items():
            _replace(folder / name, write(report))
        done = read()
        if done == told or is_taken(folder / STORE):  # by who will write them when it is done
            return report


def _show(report: Report, folder: Path, form: str) -> None:
    """Show the tables in one form."""
    if form in FORMATS:
        print(FORMATS[form](report), end="")
        return
    console = Console(highlight=False)
    for table in as_tables(report):
        print_table(console, table)
        console.print()
    console.print(caption(report), style="bright_black", markup=False)
    console.print(f"\nWritten to {folder}: {STORE}, {', '.join(WRITERS)}", style="bright_black")


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, whoever else writes it, and whatever ends the program."""
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    remove = partial(part.unlink, missing_ok=True)
    try:
        with tidied(remove):
            try:
                part.write_text(text, encoding="utf-8")
                part.replace(path)
            finally:
                remove()
    except OSError as error:
        raise ConfigError(
            f"The file {str(path)!r} cannot be written ({error.strerror}): name another folder."
        ) from error
