"""The actions in a transcript, one model each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from hogwild_agents import actions as act
from hogwild_agents.transcript_entries import Id, Record, WorkerEntry


class SayEntry(Record):
    """The action Say."""

    restores = act.Say
    kind: Literal["say"] = "say"
    worker: str
    text: str


class EndStepEntry(Record):
    """The action EndStep."""

    restores = act.EndStep
    kind: Literal["end_step"] = "end_step"
    worker: str


class BanEntry(Record):
    """The action Ban."""

    restores = act.Ban
    kind: Literal["ban"] = "ban"
    worker: str
    texts: tuple[str, ...]
    token_ids: tuple[Id, ...]
    for_tokens: int | None


class BiasEntry(Record):
    """The action Bias; JSON has no numbers for keys, so the bias is a list of pairs."""

    restores = act.Bias
    kind: Literal["bias"] = "bias"
    worker: str
    bias: tuple[tuple[Id | str, float], ...]
    for_tokens: int | None

    def restore(self) -> act.Bias:
        """Return the action."""
        return act.Bias(worker=self.worker, bias=dict(self.bias), for_tokens=self.for_tokens)


class ChangeSamplingEntry(Record):
    """The action ChangeSampling."""

    restores = act.ChangeSampling
    kind: Literal["change_sampling"] = "change_sampling"
    worker: str
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    for_tokens: int | None


class ParkEntry(Record):
    """The action Park."""

    restores = act.Park
    kind: Literal["park"] = "park"
    worker: str


class ResumeEntry(Record):
    """The action Resume."""

    restores = act.Resume
    kind: Literal["resume"] = "resume"
    worker: str


class SpawnEntry(Record):
    """The action Spawn; of a worker of an own class only what every worker has is kept."""

    restores = act.Spawn
    kind: Literal["spawn"] = "spawn"
    worker: WorkerEntry
    fork_of: str | None


class DismissEntry(Record):
    """The action Dismiss."""

    restores = act.Dismiss
    kind: Literal["dismiss"] = "dismiss"
    worker: str


class HideEntry(Record):
    """The action Hide."""

    restores = act.Hide
    kind: Literal["hide"] = "hide"
    author: str
    viewers: tuple[str, ...] | None


class ShowEntry(Record):
    """The action Show."""

    restores = act.Show
    kind: Literal["show"] = "show"
    author: str
    viewers: tuple[str, ...] | None


class ForgetEntry(Record):
    """The action Forget."""

    restores = act.Forget
    kind: Literal["forget"] = "forget"
    worker: str
    step: int
    viewers: tuple[str, ...] | None


class ProbeEntry(Record):
    """The action Probe."""

    restores = act.Probe
    kind: Literal["probe"] = "probe"
    worker: str
    question: str
    answers: tuple[str, ...]


class ConcludeEntry(Record):
    """The action Conclude."""

    restores = act.Conclude
    kind: Literal["conclude"] = "conclude"
    text: str
    worker: str | None
    max_tokens: int
    reason: str


class FinishEntry(Record):
    """The action Finish."""

    restores = act.Finish
    kind: Literal["finish"] = "finish"
    answer: str | None
    author: str | None
    reason: str


ActionEntry: TypeAlias = (
    SayEntry
    | EndStepEntry
    | BanEntry
    | BiasEntry
    | ChangeSamplingEntry
    | ParkEntry
    | ResumeEntry
    | SpawnEntry
    | DismissEntry
    | HideEntry
    | ShowEntry
    | ForgetEntry
    | ProbeEntry
    | ConcludeEntry
    | FinishEntry
)

_ENTRIES: TypeAdapter[ActionEntry] = TypeAdapter(
    Annotated[ActionEntry, Field(discriminator="kind")]
)
_KINDS: Mapping[type, str] = {
    entry.restores: entry.model_fields["kind"].default for entry in ActionEntry.__args__
}


def action_entry(action: act.Action) -> ActionEntry:
    """Return the entry that holds an action.

    Raises:
        ValueError: a field of the action does not fit the format.
    """
    values: dict[str, Any] = {field.name: getattr(action, field.name) for field in fields(action)}
    if isinstance(action, act.Bias):
        values["bias"] = tuple(action.bias.items())
    if isinstance(action, act.Spawn):
        values["worker"] = WorkerEntry.model_validate(action.worker)
    return _ENTRIES.validate_python({"kind": _KINDS[type(action)], **values})
