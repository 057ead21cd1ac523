"""Tasks: the problems of an experiment, and how answers are judged."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hogwild_agents.errors import ConfigError, ProblemError
from hogwild_agents.experiment.plan import BundledTask, FileTask
from hogwild_agents.experiment.task_file import read_tasks

Scorer = Callable[[str, str], bool]
"""Whether an answer is right: called with the answer and the expected one."""


@dataclass(frozen=True)
class Problem:
    """A problem with its answer.

    Attributes:
        text: what the team is given.
        answer: what is expected.
    """

    text: str
    answer: str

    @property
    def id(self) -> str:
        """What the store calls it; another text or answer makes another problem."""
        return hashlib.sha256(f"{self.text}\0{self.answer}".encode()).hexdigest()[:12]


def problems_of(task: BundledTask | FileTask) -> list[Problem]:
    """Return a task's problems, in order.

    Raises:
        ProblemError: the file cannot be read, or a line of it is no problem, or a repeated one.
    """
    if isinstance(task, FileTask):
        return _read(task.file)[: task.problems]
    from hogwild_agents.bundled.task import Distribution, held_out_problems

    distribution = Distribution(tasks=task.tasks, terms=task.terms)
    drawn = held_out_problems(task.problems, task.seed, distribution)
    return list(dict.fromkeys(Problem(one.text, one.answer) for one in drawn))


def _read(path: Path) -> list[Problem]:
    lines: dict[Problem, int] = {}
    for number, task in enumerate(read_tasks(path), 1):
        first = lines.setdefault(Problem(task.problem, task.answer), number)
        if first != number:
            raise ProblemError(
                f"Line {number} of {str(path)!r} repeats line {first}: leave one of them out, for "
                "one problem counted twice makes the intervals too narrow."
            )
    return list(lines)


# -- judging


def boxed_exact(answer: str, expected: str) -> bool:
    """Whether the box holds the expected string, outer blanks aside."""
    return answer.strip() == expected.strip()


def scorer_of(task: BundledTask | FileTask) -> Scorer:
    """Return how a task's answers are judged.

    Raises:
        ConfigError: the user's function cannot be had.
    """
    if isinstance(task, BundledTask) or task.scorer == "boxed-exact":
        return boxed_exact
    function = imported(task.scorer, "scorer")

    def judge(answer: str, expected: str) -> bool:
        verdict = function(answer, expected)
        if verdict is not True and verdict is not False:
            raise ConfigError(
                f"The scorer {task.scorer!r} has returned {verdict!r}: return True or False."
            )
        return verdict

    return judge


def imported(name: str, what: str) -> Callable[..., Any]:
    """Return a function of the user's own, from ``module:function``; it raises ConfigErrors.

    Raises:
        ConfigError: there is none.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it
    try:
        function = getattr(import_module(module), attribute)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"The {what} {name!r} cannot be had ({type(error).__name__}: {error}): give "
            "module:function."
        ) from error
    if not callable(function):
        raise ConfigError(f"The {what} {name!r} is no function: give module:function.")

    def call(*arguments: object) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise ConfigError(
                f"The {what} {name!r} has failed ({type(error).__name__}: {error}): mend it."
            ) from error

    return call
