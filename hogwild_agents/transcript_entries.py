"""What the lines of a transcript are made of.

The models stand apart from the classes that they hold, because the format is a promise: a change
in what is written here, a new field included, makes a new version of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

if TYPE_CHECKING:
    from hogwild_agents.worker import Worker

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


class SamplingEntry(Entry):
    """How tokens are sampled: the fields of SamplingParams."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    banned: frozenset[Id]
    bias: dict[Id, float]
    logprobs: int | None

    @field_serializer("banned")
    def _sorted(self, banned: frozenset[int]) -> list[int]:
        return sorted(banned)


class WorkerEntry(Entry):
    """A worker as its team was given it; None stands for the team's own setting.

    Of its tools there are the names.
    """

    name: str
    role: str = ""
    sampling: SamplingEntry | None = None
    seed: int | None = None
    public_role: str = ""
    problem: str | None = None
    sees: frozenset[str] | None = None
    seen_by: frozenset[str] | None = None
    tools: tuple[str, ...] = ()

    @field_validator("tools", mode="before")
    @classmethod
    def _names(cls, tools: Any) -> Any:
        """Take names, as they are in a file, and also the tools themselves."""
        if not isinstance(tools, list | tuple):
            return tools
        return tuple(getattr(tool, "name", tool) for tool in tools)

    @field_serializer("sees", "seen_by")
    def _in_order(self, names: frozenset[str] | None) -> list[str] | None:
        return None if names is None else sorted(names)

    def restore(self) -> Worker:
        """Return such a worker, without tools."""
        from hogwild_agents.engine import SamplingParams  # whoever only reads needs no torch
        from hogwild_agents.worker import Worker

        values = {name: getattr(self, name) for name in type(self).model_fields if name != "tools"}
        if self.sampling is not None:
            names = type(self.sampling).model_fields
            own = {name: getattr(self.sampling, name) for name in names}
            values["sampling"] = SamplingParams(**own)
        return Worker(values.pop("name"), **values)


def _restored(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_restored, value))
    return value.restore() if isinstance(value, Record | WorkerEntry) else value
