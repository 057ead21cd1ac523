"""The lines of a transcript that hold events, one model each."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from hogwild_agents.events import (
    NAMES,
    ActionTaken,
    Event,
    LimitReached,
    PolicyFailed,
    ProbeAnswered,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.result import RunResult, Step
from hogwild_agents.transcript_actions import ActionEntry, action_entry
from hogwild_agents.transcript_entries import Id, Record


class StepEntry(Record):
    """A finished step, in a result: the fields of Step."""

    restores = Step
    worker: str
    number: int
    text: str
    tick: int
    prefix: str = ""


class ResultEntry(Record):
    """What a run came to: the fields of RunResult."""

    restores = RunResult
    answer: str | None
    author: str | None
    reason: str
    texts: dict[str, str]
    steps: tuple[StepEntry, ...]
    ticks: int
    tokens: int
    seconds: float
    failures: dict[str, str]
    problem: str = ""


class EventLine(Record):
    """A line that holds one event. Its type is the event's name in ``events.NAMES``."""


class RunStartedLine(EventLine):
    """The event RunStarted."""

    restores = RunStarted
    type: Literal["run_started"] = "run_started"
    problem: str
    workers: tuple[str, ...]
    layout: str
    prompt_tokens: int


class WorkerJoinedLine(EventLine):
    """The event WorkerJoined."""

    restores = WorkerJoined
    type: Literal["worker_joined"] = "worker_joined"
    worker: str
    tick: int
    forked_from: str | None


class TokensWrittenLine(EventLine):
    """The event TokensWritten."""

    restores = TokensWritten
    type: Literal["tokens_written"] = "tokens_written"
    worker: str
    step: int
    tick: int
    tokens: tuple[Id, ...]
    text: str
    source: Literal["sampled", "forced"]
    logprobs: tuple[float, ...]


class StepEndedLine(EventLine):
    """The event StepEnded."""

    restores = StepEnded
    type: Literal["step_ended"] = "step_ended"
    worker: str
    step: int
    tick: int
    text: str
    tokens_written: int
    prefix: str = ""


class TickEndedLine(EventLine):
    """The event TickEnded."""

    restores = TickEnded
    type: Literal["tick_ended"] = "tick_ended"
    tick: int
    seconds: float
    tokens: int


class ProbeAnsweredLine(EventLine):
    """The event ProbeAnswered."""

    restores = ProbeAnswered
    type: Literal["probe_answered"] = "probe_answered"
    worker: str
    question: str
    probabilities: dict[str, float]
    mass: float
    tick: int


class LimitReachedLine(EventLine):
    """The event LimitReached."""

    restores = LimitReached
    type: Literal["limit_reached"] = "limit_reached"
    limit: str
    tick: int


class ActionTakenLine(EventLine):
    """The event ActionTaken."""

    restores = ActionTaken
    type: Literal["action_taken"] = "action_taken"
    policy: str
    action: Annotated[ActionEntry, Field(discriminator="kind")]
    tick: int


class PolicyFailedLine(EventLine):
    """The event PolicyFailed."""

    restores = PolicyFailed
    type: Literal["policy_failed"] = "policy_failed"
    policy: str
    error: str
    tick: int


class WorkerLeftLine(EventLine):
    """The event WorkerLeft."""

    restores = WorkerLeft
    type: Literal["worker_left"] = "worker_left"
    worker: str
    tick: int
    error: str | None


class RunEndedLine(EventLine):
    """The event RunEnded."""

    restores = RunEnded
    type: Literal["run_ended"] = "run_ended"
    result: ResultEntry


AnyEventLine: TypeAlias = (
    RunStartedLine
    | WorkerJoinedLine
    | TokensWrittenLine
    | StepEndedLine
    | TickEndedLine
    | ProbeAnsweredLine
    | LimitReachedLine
    | ActionTakenLine
    | PolicyFailedLine
    | WorkerLeftLine
    | RunEndedLine
)

_EVENTS: TypeAdapter[AnyEventLine] = TypeAdapter(
    Annotated[AnyEventLine, Field(discriminator="type")]
)
_TYPES = {event: name for name, event in NAMES.items()}


def event_line(event: Event) -> AnyEventLine:
    """Return the line that holds an event.

    Raises:
        ValueError: a field of the event does not fit the format.
    """
    values: dict[str, Any] = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, ActionTaken):
        values["action"] = action_entry(event.action)
    return _EVENTS.validate_python({"type": _TYPES[type(event)], **values})
