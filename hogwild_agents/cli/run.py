"""``hogwild run``: one team on one problem."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from hogwild_agents.cli.progress import Progress
from hogwild_agents.cli.view import SilentView, View
from hogwild_agents.config import RunConfig
from hogwild_agents.errors import ConfigError, HogwildError, ProblemError

if TYPE_CHECKING:
    from hogwild_agents import CacheCoordinator, LanguageModel, Policy, Run, RunResult, Team
    from hogwild_agents.models import LoadProgress

FRAMES_PER_SECOND = 12
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""
NO_ANSWER = 1

STAGES = {
    "config": "config",
    "tokenizer": "tokenizer",
    "weights": "weights",
    "check": "comparing its logits with the plain forward’s",
}


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a run is told.

    Attributes:
        quiet: the answer alone.
        as_json: one JSON object.
        plain: lines, also on a terminal.
    """

    quiet: bool = False
    as_json: bool = False
    plain: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.as_json:
            raise ConfigError("--quiet and --json exclude each other: leave one of them out.")


# -- the command


def run(config: RunConfig, output: Output) -> int:
    """Run a team and tell what it comes to; return the exit code.

    Raises:
        HogwildError: something was asked for that cannot be, or the run failed.
    """
    problem = _problem(config)
    check_policies(config)
    check_place(config.save)
    with loaded(config, quiet=output.quiet) as model:
        team = build_team(config, model)
        view = choose_view(config, output)
        with view:
            result, failure = anyio.run(execute, team, problem, view, config.save)
        if output.as_json and failure is None:
            print(json.dumps(_as_object(config, problem, result), ensure_ascii=False))
        elif output.quiet and failure is None:
            _tell_answer(result)
        else:
            view.conclude()
    if config.save is not None and not (output.as_json or output.quiet):
        print(f"Transcript: {config.save}")
    if failure is not None:
        raise failure
    if result.reason in STOPS:
        return STOPS[result.reason]
    return 0 if result.answer is not None else NO_ANSWER


def _problem(config: RunConfig) -> str:
    if config.problem is None:
        if config.model != "bundled":
            raise ProblemError(
                f"There is no problem for {config.model!r}: give one as an argument, with --file, "
                "or as - for the standard input."
            )
        from hogwild_agents.bundled.task import held_out_problems

        return held_out_problems(1, config.seed)[0].text
    if not config.problem.strip():
        raise ProblemError("The problem is empty: give the team something to solve.")
    return config.problem


def _tell_answer(result: RunResult) -> None:
    if result.answer is not None:
        print(result.answer)
    else:
        print(f"hogwild: no answer ({result.reason}).", file=sys.stderr)


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


# -- what a run is made of


@contextmanager
def loaded(config: RunConfig, *, quiet: bool) -> Iterator[LanguageModel]:
    """Load the config's model, with progress; close it in the end."""
    with Progress(quiet=quiet) as progress:
        progress.show(f"Loading {config.model}")
        from hogwild_agents import load_model

        def report(load: LoadProgress) -> None:
            parts = f" {load.done} of {load.total}" if load.total else ""
            progress.show(f"Loading {config.model} · {STAGES[load.stage]}{parts}")

        model = load_model(
            config.model,
            device=config.device,
            dtype=config.dtype,
            max_tokens=config.cache_tokens,
            revision=config.revision,
            on_progress=report,
        )
    try:
        yield model
    finally:
        model.close()


def build_team(
    config: RunConfig, model: LanguageModel, *, coordinator: CacheCoordinator | None = None
) -> Team:
    """Return the team that a config describes."""
    from hogwild_agents import Limits, Team, Worker

    return Team(
        model,
        workers=[Worker(worker.name, role=worker.role) for worker in config.team],
        layout=config.layout,
        policies=build_policies(config),
        prompt=config.prompt,
        limits=Limits(ticks=config.budget),
        sampling=model.sampling.replace(**config.sampling),
        seed=config.seed,
        coordinator=coordinator,
    )


def build_policies(config: RunConfig) -> list[Policy]:
    """Return the policies that a config names, in its order."""
    from hogwild_agents.policies import Finisher, RedundancyCheck, StopOnAnswer

    known: dict[str, Callable[[], Policy]] = {
        "redundancy-check": lambda: RedundancyCheck(every=config.check_every),
        "stop-on-answer": StopOnAnswer,
        "finisher": lambda: Finisher(max_tokens=config.max_answer_tokens),
    }
    return [known[name]() if name in known else _imported(name) for name in config.policies]


def check_policies(config: RunConfig) -> None:
    """Raise a ConfigError if a policy is unknown, or an option is for one that is left out."""
    known = ("redundancy-check", "stop-on-answer", "finisher")
    for name in config.policies:
        if name not in known and ":" not in name:
            raise ConfigError(
                f"There is no policy {name!r}: choose from {', '.join(known)}, or give one of your "
                "own as module:Class."
            )
    for option, policy in (
        ("check_every", "redundancy-check"),
        ("max_answer_tokens", "finisher"),
    ):
        if option in config.model_fields_set and policy not in config.policies:
            raise ConfigError(
                f"{option} is {getattr(config, option)}, but the policy {policy!r} is left out: "
                f"add it, or leave out {option}."
            )


def check_place(path: Path | None) -> None:
    """Raise a ConfigError if no file can be written there; nothing is written."""
    if path is None:
        return
    folder = path.parent
    fault = ""
    if path.is_dir():
        fault = "is a folder"
    elif not folder.is_dir():
        fault = "is in no folder that exists"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        fault = "may not be written to"
    if fault:
        raise ConfigError(f"The transcript's file {str(path)!r} {fault}: name another one.")


def _imported(name: str) -> Policy:
    """Return a policy of the user's own, from ``module:Class``."""
    from hogwild_agents import Policy

    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it
    try:
        policy = getattr(import_module(module), attribute)()
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"The policy {name!r} cannot be made ({type(error).__name__}: {error}): give "
            "module:Class of a policy that takes no arguments."
        ) from error
    if not isinstance(policy, Policy):
        raise ConfigError(f"{name!r} is no policy: give a subclass of hogwild_agents.Policy.")
    return policy


def choose_view(config: RunConfig, output: Output) -> View:
    """Return the view that suits the options and the terminal."""
    facts = (config.model, config.layout, f"seed {config.seed}")
    if output.quiet or output.as_json:
        return SilentView(Progress(quiet=output.quiet))
    return terminal_view(facts, config.budget, plain=output.plain)


def terminal_view(facts: Sequence[str], budget: int | None, *, plain: bool) -> View:
    """Return the live view on a terminal that can show it, else the plain one."""
    from rich.console import Console

    from hogwild_agents.cli.frame import Title
    from hogwild_agents.cli.live import LiveView
    from hogwild_agents.cli.plain import PlainView

    console = Console()
    capable = console.is_terminal and not console.is_dumb_terminal
    if plain or not capable or not console.encoding.startswith("utf"):
        return PlainView(sys.stdout, Progress())
    return LiveView(console, Title(facts=tuple(facts), budget=budget))


# -- running


STOPS = {"interrupted": INTERRUPTED, "terminated": 128 + signal.SIGTERM}
"""Exit codes by what a signal stops a run for."""


async def execute(
    team: Team, problem: str, view: View, save: Path | None
) -> tuple[RunResult, HogwildError | None]:
    """Run a team under a view; return what it came to, and why it failed if it did.

    The first Ctrl-C ends the run in order, the second one the program.
    """
    run = team.start(problem, on_event=view.handle, transcript=save)
    failure: HogwildError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_heed_signals, run, view)
        group.start_soon(_refresh, run, view)
        try:
            await run.execute()
        except HogwildError as error:
            failure = error
        group.cancel_scope.cancel()
    return run.result, failure


async def _heed_signals(run: Run, view: View) -> None:
    """Stop the run at the first signal, the program at the second."""
    if sys.platform == "win32":
        return  # no receiver there: Ctrl-C raises KeyboardInterrupt
    stopped = False
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            reason = "interrupted" if number == signal.SIGINT else "terminated"
            if stopped:
                view.close()
                sys.stdout.flush()
                os._exit(STOPS[reason])  # a forward under way would be waited for
            run.stop(reason)
            stopped = True


async def _refresh(run: Run, view: View) -> None:
    while True:
        if not view.record.started:
            read = run.coordinator.statistics().tokens if run.coordinator else 0
            view.wait(f"Reading the prompt · {read:,} tokens" if read else "Reading the prompt")
        view.refresh()
        await anyio.sleep(1 / FRAMES_PER_SECOND)
