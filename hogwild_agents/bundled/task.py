"""The bundled model's one subject: lists of small sums, answered in one box.

A problem reads ``Tasks: a) 7 + 1 - 3 + 2 b) 4 + 9 - 6``; its answer is the comma-separated list
of the final values, ``7, 7``. There are 2 to 12 tasks of 2 to 7 terms; the first term is within
1..15, the others within 1..9, and every running value within 0..30. Problems are split into
training and held-out ones by a hash of their text, so the two can never meet.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held-out"]

LABELS = "abcdefghijkl"
MAX_VALUE = 30
_MAX_FIRST = 15
_MAX_TERM = 9
_HELD_OUT_SHARE = 16  # one problem in 16 is held out
_TASK = re.compile(r"[a-z]\) (\d\d?)((?: [+-] \d)+)")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Inclusive bounds for the number of tasks in a problem and of terms in a task."""

    tasks: tuple[int, int] = (8, 12)
    terms: tuple[int, int] = (3, 6)


DEFAULT = Distribution()
WIDEST = Distribution(tasks=(2, len(LABELS)), terms=(2, 7))  # all that training draws from


@dataclass(frozen=True)
class Sum:
    """One task: a first term and signed terms that follow."""

    first: int
    rest: tuple[int, ...]

    @property
    def running(self) -> tuple[int, ...]:
        """The value after each of the following terms."""
        values = []
        value = self.first
        for term in self.rest:
            value += term
            values.append(value)
        return tuple(values)

    @property
    def value(self) -> int:
        """The final value."""
        return self.first + sum(self.rest)

    @property
    def text(self) -> str:
        """The task as the problem shows it, such as ``7 + 1 - 3``."""
        signs = (f" {'+' if term >= 0 else '-'} {abs(term)}" for term in self.rest)
        return f"{self.first}{''.join(signs)}"


@dataclass(frozen=True)
class Problem:
    """Some labelled sums."""

    sums: tuple[Sum, ...]

    @property
    def text(self) -> str:
        """The user message."""
        tasks = zip(LABELS, self.sums, strict=False)
        return "Tasks: " + " ".join(f"{label}) {task.text}" for label, task in tasks)

    @property
    def answer(self) -> str:
        """What belongs in the box."""
        return ", ".join(str(task.value) for task in self.sums)

    @property
    def split(self) -> Split:
        """The side of the fixed division that this problem is on."""
        digest = hashlib.sha256(self.text.encode()).digest()
        return "held-out" if digest[0] % _HELD_OUT_SHARE == 0 else "train"


def is_problem(text: str) -> bool:
    """Whether a text is a problem of the kind that training draws.

    Just outside of it (one task, larger numbers, negative values) the model errs most of the time.
    """
    text = text.strip()
    sums = tuple(
        Sum(int(first), tuple(int(term.replace(" ", "")) for term in re.findall("[+-] .", rest)))
        for first, rest in _TASK.findall(text)
    )
    least, most = WIDEST.tasks
    # Written anew, it is the same text only if nothing in it was passed over.
    return (
        least <= len(sums) <= most and Problem(sums).text == text and all(map(_is_drawable, sums))
    )


def _is_drawable(task: Sum) -> bool:
    least, most = WIDEST.terms
    return (
        least <= 1 + len(task.rest) <= most
        and 1 <= task.first <= _MAX_FIRST
        and all(1 <= abs(term) <= _MAX_TERM for term in task.rest)
        and all(0 <= value <= MAX_VALUE for value in task.running)
    )


def is_correct(answer: str | None, problem: Problem) -> bool:
    """Whether the content of a box answers the problem (as a string, outer blanks aside)."""
    return answer is not None and answer.strip() == problem.answer


def draw_problem(
    rng: random.Random, distribution: Distribution = DEFAULT, split: Split = "train"
) -> Problem:
    """Draw problems from ``rng`` until one lies on the wanted side of the split."""
    while True:
        number = rng.randint(*distribution.tasks)
        problem = Problem(tuple(_draw_sum(rng, distribution) for _ in range(number)))
        if problem.split == split:
            return problem


def held_out_problems(
    number: int, seed: int = 0, distribution: Distribution = DEFAULT
) -> list[Problem]:
    """The first held-out problems of a seed: what the model is evaluated on."""
    rng = random.Random(f"held-out {seed}")
    return [draw_problem(rng, distribution, "held-out") for _ in range(number)]


def _draw_sum(rng: random.Random, distribution: Distribution) -> Sum:
    first = value = rng.randint(1, _MAX_FIRST)
    rest: list[int] = []
    for _ in range(rng.randint(*distribution.terms) - 1):
        size = rng.randint(1, _MAX_TERM)
        fitting = [t for t in (size, -size) if 0 <= value + t <= MAX_VALUE]
        rest.append(rng.choice(fitting))
        value += rest[-1]
    return Sum(first, tuple(rest))
