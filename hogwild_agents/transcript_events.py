"""The lines of a transcript that hold events, and the values inside them; one model each.

The models stand apart from the classes that they hold, because the format is a promise: a change
in what is written here, a new field included, makes a new version of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hogwild_agents.actions import Action, Conclude, Finish, Say
from hogwild_agents.events import (
    NAMES,
    ActionTaken,
    Event,
    LimitReached,
    PolicyFailed,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerLeft,
)
from hogwild_agents.result import RunResult, Step

Id: TypeAlias = Annotated[int, Field(ge=0)]
"""The number of a block, a token or a tick."""


class Entry(BaseModel):
    """A line or a part of one. Made from attributes in Python; strict and closed in JSON."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, from_attributes=True, ser_json_inf_nan="constants"
    )


class Record(Entry):
    """An entry that holds one value of the runtime, and can make it again."""

    restores: ClassVar[type]

    def restore(self) -> Any:
        """Return the value that the entry was made from."""
        values = {
            name: _restored(getattr(self, name))
            for name in type(self).model_fields
            if name not in ("type", "kind")
        }
        return self.restores(**values)


class SayEntry(Record):
    """The action Say."""

    restores = Say
    kind: Literal["say"] = "say"
    worker: str
    text: str


class ConcludeEntry(Record):
    """The action Conclude."""

    restores = Conclude
    kind: Literal["conclude"] = "conclude"
    text: str
    worker: str | None
    max_tokens: int
    reason: str


class FinishEntry(Record):
    """The action Finish."""

    restores = Finish
    kind: Literal["finish"] = "finish"
    answer: str | None
    author: str | None
    reason: str


ActionEntry: TypeAlias = SayEntry | ConcludeEntry | FinishEntry
_ACTIONS: Mapping[type, type[ActionEntry]] = {
    entry.restores: entry for entry in (SayEntry, ConcludeEntry, FinishEntry)
}


class StepEntry(Record):
    """A finished step, in a result: the fields of Step."""

    restores = Step
    worker: str
    number: int
    text: str
    tick: int


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


class TickEndedLine(EventLine):
    """The event TickEnded."""

    restores = TickEnded
    type: Literal["tick_ended"] = "tick_ended"
    tick: int
    seconds: float
    tokens: int


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
    | TokensWrittenLine
    | StepEndedLine
    | TickEndedLine
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
        values["action"] = _action_entry(event.action)
    return _EVENTS.validate_python({"type": _TYPES[type(event)], **values})


def _action_entry(action: Action) -> ActionEntry:
    return _ACTIONS[type(action)].model_validate(action)


def _restored(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_restored, value))
    return value.restore() if isinstance(value, Record) else value
