"""Duplicated work: how much of what a team wrote somebody had done already.

Two measures come with the package, ``tasks`` for the bundled model's lists of sums and ``steps``
for any text. One of your own is ``module:function``, called as :data:`Flag` for every finished
step; what is measured is then the share of the steps that it flags.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from hogwild_agents.experiment.tasks import imported

if TYPE_CHECKING:
    from hogwild_agents.result import RunResult, Step

Flag: TypeAlias = "Callable[[Step, Sequence[Step]], bool]"
"""Whether a step repeats what the steps that ended before it have done."""

Measure: TypeAlias = "Callable[[RunResult], float]"

_WORKED = re.compile(r"\b([a-l])\) \d+ [+-] \d+ = \d+")
_WORD = re.compile(r"\w+")
_RUN = 3
_REPEATED = 0.5


def measure_of(name: str) -> Measure:
    """Return the measure that a plan names.

    Raises:
        ConfigError: the user's function cannot be had.
    """
    if name == "tasks":
        return lambda result: float(tasks_repeated(result.texts))
    flag: Flag = repeats_words if name == "steps" else imported(name, "measure of duplicated work")
    return lambda result: share_flagged(result.steps, flag)


def tasks_repeated(texts: Mapping[str, str]) -> int:
    """Return how many of the bundled model's tasks were worked more than once.

    A task is worked where its label is followed by at least one sum with a result, whether or not
    the step was finished. A claim that was given up before that counts for nothing.
    """
    worked = Counter(label for text in texts.values() for label in _WORKED.findall(text))
    return sum(times > 1 for times in worked.values())


def share_flagged(steps: Sequence[Step], flag: Flag) -> float:
    """Return the share of the steps that are flagged; 0 without steps."""
    flagged = sum(bool(flag(step, steps[:index])) for index, step in enumerate(steps))
    return flagged / len(steps) if steps else 0.0


def repeats_words(step: Step, before: Sequence[Step]) -> bool:
    """Whether half of a step's runs of three words stand in an earlier step of somebody else.

    A rough measure: it sees copies and close variants, not the same thought in other words.
    """
    runs = _runs(step)
    others = (_runs(other) for other in before if other.worker != step.worker)
    return bool(runs) and any(len(runs & seen) >= _REPEATED * len(runs) for seen in others)


def _runs(step: Step) -> set[tuple[str, ...]]:
    words = _WORD.findall(step.body.casefold())
    return {tuple(words[start : start + _RUN]) for start in range(len(words) - _RUN + 1)}
