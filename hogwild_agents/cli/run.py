"""``hogwild run``: one team on one problem."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import anyio

from hogwild_agents.cli.build import (
    build_team,
    check_model,
    check_place,
    check_policies,
    check_prompt,
    loaded,
)
from hogwild_agents.cli.interrupts import INTERRUPTED, TERMINATED, second_ends
from hogwild_agents.cli.progress import Progress
from hogwild_agents.cli.view import SilentView, View, why_ended
from hogwild_agents.config import RunConfig
from hogwild_agents.counts import counted
from hogwild_agents.errors import ConfigError, HogwildError, ProblemError

if TYPE_CHECKING:
    from hogwild_agents import Policy, Run, RunResult

FRAMES_PER_SECOND = 12
NO_ANSWER = 1


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a run is told.

    Attributes:
        quiet: the answer alone.
        as_json: one JSON object.
        plain: lines, also on a terminal.
        pace: the most ticks a second in the live view; None for no such bound.
    """

    quiet: bool = False
    as_json: bool = False
    plain: bool = False
    pace: float | None = None

    def __post_init__(self) -> None:
        if self.quiet and self.as_json:
            raise ConfigError("--quiet and --json exclude each other: leave one of them out.")
        if self.pace is not None and (self.quiet or self.as_json or self.plain):
            raise ConfigError(
                "--pace is for the live view, which --quiet, --json and --plain do without: leave "
                "one of them out."
            )


# -- the command


def run(config: RunConfig, output: Output) -> int:
    """Run a team and tell what it comes to; return the exit code.

    Raises:
        HogwildError: something was asked for that cannot be, or the run failed.
    """
    check_model(config.model)
    problem = _problem(config, output)
    check_policies(config)
    check_prompt(config)
    check_place(config.save)
    view = choose_view(config, output)
    with loaded(config, quiet=output.quiet) as model:
        team = build_team(config, model, watchers=watchers(view, output))
        task = team.start(problem, on_event=view.handle, transcript=config.save)
        if config.model == "bundled":  # also with --quiet: the answer is wrong all the same
            _warn_of_language(problem)
        with view:
            failure = anyio.run(execute, task, view)
        result = task.result
        if output.as_json and failure is None:
            print(json.dumps(_as_object(config, problem, result), ensure_ascii=False))
        elif output.quiet and failure is None:
            _tell_answer(result, view)
        else:
            view.conclude()
    if config.save is not None and not (output.as_json or output.quiet):
        print(f"Transcript: {config.save}")
    if failure is not None:
        raise failure
    if result.reason in STOPS:
        return STOPS[result.reason]
    return 0 if result.answer is not None else NO_ANSWER


def watchers(view: View, output: Output) -> list[Policy]:
    """Return what slows the run down, where somebody watches it."""
    from hogwild_agents.cli.live import LiveView
    from hogwild_agents.cli.pace import Pace

    if output.pace is None or not isinstance(view, LiveView):
        return []
    return [Pace(output.pace)]


def _problem(config: RunConfig, output: Output) -> str:
    """Return the problem; one that is drawn is told on stderr where no view shows it."""
    if config.problem is None:
        if config.model != "bundled":
            raise ProblemError(
                f"There is no problem for {config.model!r}: give one as an argument, with --file, "
                "or as - for the standard input."
            )
        from hogwild_agents.bundled.task import held_out_problems

        drawn = held_out_problems(1, config.seed)[0].text
        if output.quiet:  # an answer to nobody knows what
            print(f"hogwild: what seed {config.seed} draws is {drawn!r}", file=sys.stderr)
        return drawn
    if not config.problem.strip():
        raise ProblemError("The problem is empty: give the team something to solve.")
    return config.problem


def _warn_of_language(problem: str) -> None:
    """Say so if a problem is not of the kind that the bundled model knows."""
    from hogwild_agents.bundled.task import is_problem

    if not is_problem(problem):
        print(
            "hogwild: the bundled model is a toy that knows nothing but lists of 2 to 12 small "
            "sums, such as 'Tasks: a) 7 + 1 - 3 b) 4 + 9', so its answer to this will mean "
            "nothing: name a model of your own with --model.",
            file=sys.stderr,
        )


def _tell_answer(result: RunResult, view: View) -> None:
    if result.answer is not None:
        print(result.answer)
    else:
        print(f"hogwild: no answer ({why_ended(view.record)}).", file=sys.stderr)


def _as_object(config: RunConfig, problem: str, result: RunResult) -> dict[str, object]:
    settings: dict[str, object] = {
        "problem": problem,
        "model": config.model,
        "layout": config.layout,
        "workers": [worker.name for worker in config.team],
        "seed": config.seed,
        "budget": config.budget,
        "transcript": None if config.save is None else str(config.save),
    }
    return {**asdict(result), **settings}


# -- views


def choose_view(config: RunConfig, output: Output) -> View:
    """Return the view that suits the options and the terminal."""
    facts = (config.model, config.layout, f"seed {config.seed}")
    if output.quiet or output.as_json:
        return SilentView(Progress(quiet=output.quiet))
    return terminal_view(facts, config.budget, plain=output.plain, pace=output.pace)


def terminal_view(
    facts: Sequence[str], budget: int | None, *, plain: bool, pace: float | None = None
) -> View:
    """Return the live view on a terminal that can show it, else the plain one."""
    from rich.console import Console

    from hogwild_agents.cli.frame import Title
    from hogwild_agents.cli.live import LiveView
    from hogwild_agents.cli.plain import PlainView

    console = Console()
    capable = console.is_terminal and not console.is_dumb_terminal
    if plain or not capable or not console.encoding.startswith("utf"):
        return PlainView(sys.stdout, Progress())
    return LiveView(console, Title(facts=tuple(facts), budget=budget, pace=pace))


# -- running


NOBODY_READS = "nobody reads"
STOPS = {"interrupted": INTERRUPTED, "terminated": TERMINATED, NOBODY_READS: 141}
"""Exit codes by what stops a run: those that shells have for SIGINT, SIGTERM and SIGPIPE."""


async def execute(run: Run, view: View) -> HogwildError | None:
    """Execute a run under a view; return why it failed, if it did.

    The first Ctrl-C ends the run in order, the second one the program.
    """
    failure: HogwildError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_heed_signals, run, view)
        group.start_soon(_refresh, run, view)
        try:
            await run.execute()
        except HogwildError as error:
            failure = error
        group.cancel_scope.cancel()
    return failure


async def _heed_signals(run: Run, view: View) -> None:
    """Stop the run at the first signal, the program at the second."""
    if sys.platform == "win32":
        return  # no receiver there: Ctrl-C raises KeyboardInterrupt
    with (
        anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        second_ends(view.close),
    ):
        async for number in signals:
            run.stop("interrupted" if number == signal.SIGINT else "terminated")


async def _refresh(run: Run, view: View) -> None:
    while True:
        if not view.record.started:
            read = run.coordinator.statistics().tokens if run.coordinator else 0
            view.wait(
                f"Reading the prompt · {counted(read, 'token')}" if read else "Reading the prompt"
            )
        view.refresh()
        if view.broken:
            run.stop(NOBODY_READS)
        await anyio.sleep(1 / FRAMES_PER_SECOND)
