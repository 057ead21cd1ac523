"""RunResult: what a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A finished step.

    Attributes:
        worker: who wrote it.
        number: which of its steps it is, from 1.
        text: with its prefix and the separator at its end.
        tick: how many ticks of the run were over when it ended.
        prefix: what it opened with, such as ``**Alice [3]:** ``. In layouts that move nothing,
            the first step of a fork opened with all the steps that it has a copy of.
    """

    worker: str
    number: int
    text: str
    tick: int
    prefix: str = ""

    @property
    def body(self) -> str:
        """The step without its prefix and without blanks around it."""
        return self.text.removeprefix(self.prefix).strip()


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        answer: the answer, as a string; None without one.
        author: who gave it.
        reason: why the run ended: ``"answer"`` or ``"finisher"`` (or what else a policy says),
            the limit that was reached, what stopped it, ``"left"`` (all workers did), ``"failed"``,
            ``"cancelled"``, or ``"running"``.
        texts: all that each worker wrote, with the prefixes of its steps.
        steps: the finished steps, in the order in which they ended. They stand so in the history
            too, but for one whose worker went on later than the others.
        ticks: how many forward passes the thinking took.
        tokens: how many tokens were sampled while thinking.
        seconds: how long the thinking took.
        failures: workers that failed, and why.
        problem: what was to be solved.
    """

    answer: str | None
    author: str | None
    reason: str
    texts: Mapping[str, str]
    steps: tuple[Step, ...]
    ticks: int
    tokens: int
    seconds: float
    failures: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class TypedResult(RunResult, Generic[T]):
    """What a run came to whose answer has a type.

    Attributes:
        parsed: the answer's value.
    """

    parsed: T

    @classmethod
    def of(cls, result: RunResult, parsed: T) -> TypedResult[T]:
        """Return a result together with the value of its answer."""
        values = {field.name: getattr(result, field.name) for field in fields(RunResult)}
        return cls(**values, parsed=parsed)
