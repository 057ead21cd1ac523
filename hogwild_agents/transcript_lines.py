"""The lines of a transcript, one model each; docs/transcript.md describes the format."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import (
    AwareDatetime,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from hogwild_agents import __version__
from hogwild_agents.transcript_entries import Entry, Id, SamplingEntry, WorkerEntry
from hogwild_agents.transcript_events import AnyEventLine

if TYPE_CHECKING:
    from hogwild_agents.engine import SamplingParams
    from hogwild_agents.limits import Limits
    from hogwild_agents.worker import Worker

FORMAT: Literal["hogwild-transcript"] = "hogwild-transcript"
VERSION: Literal[2] = 2
"""The version that is written; it grows with every change of these models."""

ViewItem: TypeAlias = Id | tuple[Id, Id, Id | None]
"""A whole block, or (block, start, stop) for a slice; a stop of None goes on to the end."""


# -- header


class LimitsEntry(Entry):
    """When thinking ends; None for no such limit."""

    ticks: int | None
    tokens: int | None
    seconds: float | None


class TranscriptHeader(Entry):
    """The first line: what was run, and with what.

    Attributes:
        package: the version of hogwild-agents that wrote the file.
        created: when the file was begun.
        model: the model's name, as it was loaded.
        vocab_size: of the engine that ran it.
        layout: the layout's name.
        sampling: the team's.
    """

    type: Literal["header"] = "header"
    format: Literal["hogwild-transcript"] = FORMAT
    version: Literal[1, 2] = VERSION
    package: str = __version__
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    model: str
    vocab_size: int
    problem: str
    workers: tuple[WorkerEntry, ...]
    layout: str
    seed: int
    limits: LimitsEntry
    sampling: SamplingEntry

    @classmethod
    def of_run(
        cls,
        *,
        model: str,
        vocab_size: int,
        problem: str,
        workers: Iterable[Worker],
        layout: str,
        seed: int,
        limits: Limits,
        sampling: SamplingParams,
    ) -> Self:
        """Return the header of a run that begins now."""
        return cls(
            model=model,
            vocab_size=vocab_size,
            problem=problem,
            workers=tuple(WorkerEntry.model_validate(worker) for worker in workers),
            layout=layout,
            seed=seed,
            limits=LimitsEntry.model_validate(limits),
            sampling=SamplingEntry.model_validate(sampling),
        )


# -- the cache


class BlockLine(Entry):
    """A cache block, before the first line that names it."""

    type: Literal["block"] = "block"
    id: Id
    name: str


class FeedEntry(Entry):
    """What one feed appended to its block, and what it saw.

    Attributes:
        sources: one letter a token: ``s`` if the model chose it, ``f`` if it was forced.
    """

    block: Id
    view: tuple[ViewItem, ...] = Field(min_length=1)
    tokens: tuple[Id, ...] = Field(min_length=1)
    sources: str = Field(pattern="^[sf]*$")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.sources) != len(self.tokens):
            raise ValueError(f"{len(self.tokens)} tokens have {len(self.sources)} sources")
        last = self.view[-1]
        if (last if isinstance(last, int) else last[0]) != self.block:
            raise ValueError(f"the view ends in {last}, not in the written block {self.block}")
        return self


class ForkEntry(Entry):
    """A block that was made as a copy of the beginning of another one.

    Attributes:
        source, target: the blocks.
        length: how many tokens were copied.
        after: how many of the line's moves were made before.
    """

    source: Id
    target: Id
    length: Id
    after: Id


class TickLine(Entry):
    """What one worker changed in the cache in one tick.

    Attributes:
        tick: the coordinator's number; the lines with one number were one forward.
        worker: who, or an empty name for what the run itself feeds.
        moves: (source, target) pairs, made in order when the forward was over.
        forks: blocks that were made as copies, among the moves.
    """

    type: Literal["tick"] = "tick"
    tick: Id
    worker: str
    feeds: tuple[FeedEntry, ...]
    moves: tuple[tuple[Id, Id], ...]
    forks: tuple[ForkEntry, ...] = ()

    def blocks(self) -> set[int]:
        """Return the ids of all blocks that the line names."""
        seen = (item for feed in self.feeds for item in (feed.block, *feed.view))
        named = {item if isinstance(item, int) else item[0] for item in seen}
        return named.union(*self.moves, *((fork.source, fork.target) for fork in self.forks))


Line: TypeAlias = BlockLine | TickLine | AnyEventLine
"""Any line after the header."""

HEADER: TypeAdapter[TranscriptHeader] = TypeAdapter(TranscriptHeader)
LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="type")])


# -- errors


def fault_of(error: Exception) -> str:
    """Return in a clause what was wrong: of a line, or with a file."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    match fault["type"]:
        case "json_invalid":
            return f"it is not JSON ({fault['msg'].removeprefix('Invalid JSON: ')})"
        case "union_tag_invalid":
            return "its type is unknown"
        case "union_tag_not_found":
            return "it has no type"
        case "extra_forbidden":
            return f"it has the unknown field {place!r}"
        case "missing":
            return f"it lacks the field {place!r}"
        case "value_error":
            return f"in {place!r} {fault['msg'].removeprefix('Value error, ')}"
    return f"its field {place!r} is {_short(fault['input'])}: {fault['msg'].lower()}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
