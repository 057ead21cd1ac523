"""``hogwild eval``: many problems, several teams, one coordinator; accuracy and ticks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import anyio
from rich.console import Console
from rich.table import Table

from hogwild_agents.cli.build import build_team, check_model, check_policies, check_prompt, loaded
from hogwild_agents.cli.columns import print_table
from hogwild_agents.cli.stop import Stop
from hogwild_agents.cli.tally import Tally
from hogwild_agents.config import RunConfig
from hogwild_agents.counts import counted, inflected
from hogwild_agents.errors import ConfigError, HogwildError, ProblemError, RunError
from hogwild_agents.experiment.plan import MOST_PROBLEMS
from hogwild_agents.experiment.statistics import Estimate, average, ratio, share
from hogwild_agents.experiment.task_file import Task, read_tasks

if TYPE_CHECKING:
    from hogwild_agents import CacheCoordinator, LanguageModel

DEFAULT_PROBLEMS = 500


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        problems: how many for each seed; None for all of a file.
        file: JSON lines of problems and answers; None for the bundled model's held-out ones.
        seeds: each draws its own problems, if they are drawn, and seeds its own runs.
        teams: the numbers of workers.
        layouts: every team is measured in each.
        isolated: also measure the largest team with workers that do not see each other.
        concurrency: how many runs share the coordinator at a time.
    """

    problems: int | None = None
    file: Path | None = None
    seeds: tuple[int, ...] = (0,)
    teams: tuple[int, ...] = (1, 2, 3, 4)
    layouts: tuple[str, ...] = ("combined",)
    isolated: bool = True
    concurrency: int = 16

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is compared, in the order of the table."""
        arms = [Arm(layout, team) for layout in self.layouts for team in self.teams]
        if self.isolated:
            arms.append(Arm("isolated", max(self.teams)))
        return tuple(dict.fromkeys(arms))


@dataclass(frozen=True)
class Arm:
    """A kind of team."""

    layout: str
    workers: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run.

    Attributes:
        arm: the kind of team.
        seed: of the run.
        problem: what it solved.
        correct: whether the answer is right, as a string.
        ticks: until it ended.
        reason: why it ended.
    """

    arm: Arm
    seed: int
    problem: str
    correct: bool
    ticks: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Score:
    """What an arm comes to; intervals are 95 %.

    Attributes:
        layout, workers: the arm.
        runs: how many ended.
        accuracy: share of right answers.
        ticks: per run.
        ratio: of its ticks to those of one worker on the same problems with the same seeds; None
            without such an arm.
        accuracy_by_seed: share of right answers for each seed.
        reasons: how many runs ended for which reason.
    """

    layout: str
    workers: int
    runs: int
    accuracy: Estimate
    ticks: Estimate
    ratio: Estimate | None
    accuracy_by_seed: dict[int, float]
    reasons: dict[str, int]


def evaluate(config: RunConfig, plan: Plan, *, as_json: bool) -> int:
    """Measure, and print a table or one JSON object; return the exit code.

    Raises:
        HogwildError: something was asked for that cannot be.
    """
    check_model(config.model)
    check_policies(config)
    check_prompt(config)
    tasks = {seed: _tasks(plan, config.model, seed) for seed in plan.seeds}
    outcomes: list[Outcome] = []
    began = time.monotonic()
    with Stop() as stop:
        with loaded(config, quiet=False) as model:
            code = anyio.run(_measure, config, plan, tasks, model, outcomes, stop)
        seconds = time.monotonic() - began
        _tell(config, plan, outcomes, seconds, broken_off=bool(code), as_json=as_json)
    return code


def _tell(
    config: RunConfig,
    plan: Plan,
    outcomes: Sequence[Outcome],
    seconds: float,
    *,
    broken_off: bool,
    as_json: bool,
) -> None:
    scores = score(outcomes, plan.arms)
    if as_json:
        known = {"model": config.model, "budget": config.budget, "seeds": plan.seeds}
        print(json.dumps({**known, "seconds": seconds, "arms": [asdict(one) for one in scores]}))
    else:
        console = Console(highlight=False)
        if scores:
            print_table(console, _table(scores))
        console.print(_caption(config, plan, len(outcomes), seconds), style="bright_black")
        if broken_off:
            console.print("Interrupted: this is what was measured until then.")


# -- problems


def _tasks(plan: Plan, model: str, seed: int) -> list[Task]:
    if plan.file is not None:
        return read_tasks(plan.file)[: plan.problems]
    if model != "bundled":
        raise ProblemError(
            f"There are no problems for {model!r}: give --file with JSON lines such as "
            '{"problem": "...", "answer": "..."}.'
        )
    from hogwild_agents.bundled.task import held_out_problems

    number = DEFAULT_PROBLEMS if plan.problems is None else plan.problems
    if number > MOST_PROBLEMS:
        raise ConfigError(
            f"--problems cannot be {number}: at most {MOST_PROBLEMS} are drawn for each seed."
        )
    drawn = held_out_problems(number, seed)
    return [Task(problem=one.text, answer=one.answer) for one in drawn]


# -- runs


async def _measure(
    config: RunConfig,
    plan: Plan,
    tasks: dict[int, list[Task]],
    model: LanguageModel,
    outcomes: list[Outcome],
    stop: Stop,
) -> int:
    """Run everything; return the exit code, which says whether a signal broke it off."""
    from hogwild_agents import CacheCoordinator

    jobs = [(arm, seed, task) for arm in plan.arms for seed in plan.seeds for task in tasks[seed]]
    places = anyio.Semaphore(plan.concurrency)
    failures: list[HogwildError] = []
    tally = Tally(len(jobs))
    given_up = anyio.CancelScope()
    coordinator = CacheCoordinator(model.engine)

    async def work(arm: Arm, seed: int, task: Task) -> None:
        try:
            outcomes.append(await _solve(config, arm, seed, task, model, coordinator))
        except HogwildError as error:
            failures.append(error)
            runs.cancel_scope.cancel()
        finally:
            places.release()
        tally.advance(f"{arm.layout} × {arm.workers}")

    with tally:
        async with stop.heeding(given_up, tally.close), coordinator:
            with given_up:
                async with anyio.create_task_group() as runs:
                    for job in jobs:
                        await places.acquire()
                        runs.start_soon(work, *job)
    if failures:
        raise failures[0]
    return 0 if len(outcomes) == len(jobs) else stop.code


async def _solve(
    config: RunConfig,
    arm: Arm,
    seed: int,
    task: Task,
    model: LanguageModel,
    coordinator: CacheCoordinator,
) -> Outcome:
    settings = config.override({"workers": arm.workers, "layout": arm.layout, "seed": seed})
    team = build_team(settings, model, coordinator=coordinator)
    try:
        result = await team.solve(task.problem)
    except RunError as error:
        raise RunError(
            f"A run of {counted(arm.workers, 'worker')} with seed {seed} has failed on "
            f"{_short(task.problem)} ({error})",
            result=error.result,
        ) from error
    return Outcome(
        arm=arm,
        seed=seed,
        problem=task.problem,
        correct=result.answer is not None and result.answer.strip() == task.answer.strip(),
        ticks=result.ticks,
        reason=result.reason,
    )


def _short(problem: str) -> str:
    return repr(problem if len(problem) <= 60 else f"{problem[:60]}...")


# -- scores


def score(outcomes: Sequence[Outcome], arms: Iterable[Arm]) -> list[Score]:
    """Return the scores of the arms that have outcomes."""
    by_arm = {arm: [one for one in outcomes if one.arm == arm] for arm in arms}
    single = next((by_arm[arm] for arm in by_arm if arm.workers == 1 and by_arm[arm]), [])
    base = {(one.seed, one.problem): one.ticks for one in single}
    return [_score(arm, runs, base) for arm, runs in by_arm.items() if runs]


def _score(arm: Arm, runs: Sequence[Outcome], base: dict[tuple[int, str], int]) -> Score:
    """Return an arm's score; the unit is the problem, whatever the number of seeds."""
    grouped: dict[str, list[Outcome]] = {}
    for one in runs:
        grouped.setdefault(one.problem, []).append(one)
    pairs = [
        (fmean(one.ticks for one in both), fmean(base[one.seed, one.problem] for one in both))
        for group in grouped.values()
        if (both := [one for one in group if (one.seed, one.problem) in base])
    ]
    seeds = sorted({one.seed for one in runs})
    right = {seed: [one.correct for one in runs if one.seed == seed] for seed in seeds}
    reasons = sorted({one.reason for one in runs})
    return Score(
        layout=arm.layout,
        workers=arm.workers,
        runs=len(runs),
        accuracy=share(
            [fmean(one.correct for one in group) for group in grouped.values()], len(runs)
        ),
        ticks=average([fmean(one.ticks for one in group) for group in grouped.values()], least=0.0),
        ratio=ratio(pairs) if pairs else None,
        accuracy_by_seed={seed: sum(values) / len(values) for seed, values in right.items()},
        reasons={reason: sum(one.reason == reason for one in runs) for reason in reasons},
    )


def _table(scores: Iterable[Score]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    rows = [
        (
            f"{one.layout} × {one.workers}",
            one.accuracy.scaled(100).show(1, " %"),
            one.ticks.show(1),
            "" if one.ratio is None else "1" if one.workers == 1 else one.ratio.show(2),
        )
        for one in scores
    ]
    heads = ("Team", "Accuracy", "Ticks", "Ratio to one")
    for head, *texts in zip(heads, *rows, strict=True):
        table.add_column(head, no_wrap=True, min_width=max(map(len, texts)))
    for row in rows:
        table.add_row(*row)
    return table


def _caption(config: RunConfig, plan: Plan, runs: int, seconds: float) -> str:
    seeds = f"{inflected('seed', len(plan.seeds))} {', '.join(map(str, plan.seeds))}"
    return (
        f"\n{counted(runs, 'run')} of {config.model} in {seconds:,.0f} s, at most "
        f"{counted(config.budget, 'tick')} each; {seeds}.\nIn brackets 95 % intervals over the "
        "problems: Wilson's for the accuracy, Student's for the rest, for the ratio paired."
    )


def parse_numbers(text: str, option: str, *, least: int) -> tuple[int, ...]:
    """Read ``1,2,4``.

    Raises:
        ConfigError: it is no list of different numbers from ``least`` on.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least or len(set(numbers)) < len(numbers):
        raise ConfigError(
            f"{option} cannot be {text!r}: write different numbers from {least} on, such as 1,2,4."
        )
    return numbers
