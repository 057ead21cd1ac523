"""read_transcript: reads a transcript back, and says in one sentence why a file is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from hogwild_agents import __version__
from hogwild_agents.errors import TranscriptError
from hogwild_agents.transcript_events import EventLine, RunEndedLine
from hogwild_agents.transcript_lines import (
    FORMAT,
    HEADER,
    LINE,
    VERSION,
    BlockLine,
    Line,
    TickLine,
    TranscriptHeader,
    fault_of,
)

if TYPE_CHECKING:
    from hogwild_agents.events import Event
    from hogwild_agents.result import RunResult

_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_SOURCE = "give a file that `hogwild run --save` or a team wrote"


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The record of a run.

    Attributes:
        header: what was run, and with what.
        lines: everything after the header, in order.
    """

    header: TranscriptHeader
    lines: tuple[Line, ...]

    def events(self) -> Iterator[Event]:
        """Yield the events of the run, as its handlers got them."""
        return (line.restore() for line in self.lines if isinstance(line, EventLine))

    @property
    def result(self) -> RunResult | None:
        """What the run came to; None if the transcript is cut short."""
        last = self.lines[-1] if self.lines else None
        if not isinstance(last, RunEndedLine):
            return None
        result: RunResult = last.result.restore()
        return result


def read_transcript(path: str | os.PathLike[str], *, allow_partial: bool = False) -> Transcript:
    """Read a transcript.

    Args:
        path: of the file.
        allow_partial: accept a transcript that is cut short, as far as it goes. Of its last tick
            the lines of some workers may be missing.

    Raises:
        TranscriptError: the file is missing, no transcript, of another version, damaged or, if
            that is not allowed, cut short.
    """
    name = str(os.fspath(path))
    rows = _read(path, name).split(b"\n")
    rest = rows.pop()
    if rest:
        rows.append(rest)
    header = _header(rows[0], name) if rows else None
    if header is None:
        raise TranscriptError(f"The file {name!r} is empty: {_SOURCE}.")
    lines, checker = [], _Checker()
    for number, row in enumerate(rows[1:], start=2):
        try:
            line = LINE.validate_json(row, strict=True)
            checker.check(line)
        except ValueError as error:
            if rest and number == len(rows):
                break  # the writer was stopped inside this line
            raise _damaged(number, name, header, error) from error
        lines.append(line)
    whole = checker.ended and not rest
    if not whole and not allow_partial:
        raise TranscriptError(
            f"The transcript {name!r} is cut short in or after its line {len(rows)}, for it does "
            "not end in a run_ended line: the run was broken off, or goes on; read what there is "
            "with allow_partial=True."
        )
    return Transcript(header=header, lines=tuple(lines))


class _Checker:
    """Checks that each line fits to those before it."""

    def __init__(self) -> None:
        self.ended = False
        self._blocks: set[int] = set()
        self._tick = 0

    def check(self, line: Line) -> None:
        """Raise a ValueError if the line cannot stand here."""
        if self.ended:
            raise ValueError("it comes after the run_ended line")
        match line:
            case BlockLine():
                if line.id in self._blocks:
                    raise ValueError(f"the block {line.id} is there already")
                self._blocks.add(line.id)
            case TickLine():
                unknown = line.blocks() - self._blocks
                if unknown:
                    raise ValueError(f"no block line has the id {min(unknown)}")
                if line.tick < self._tick:
                    raise ValueError(f"tick {line.tick} comes after tick {self._tick}")
                self._tick = line.tick
            case RunEndedLine():
                self.ended = True


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise TranscriptError(f"There is no transcript {name!r}: check the path.") from error
    except (OSError, ValueError) as error:
        raise TranscriptError(
            f"The transcript {name!r} cannot be read ({fault_of(error)}): {_SOURCE}."
        ) from error


def _header(row: bytes, name: str) -> TranscriptHeader:
    """Parse the first line, the format and the version before all else."""
    try:
        found = _OBJECT.validate_json(row)
    except ValidationError as error:
        raise TranscriptError(
            f"Line 1 of {name!r} is no header of a transcript ({fault_of(error)}): {_SOURCE}."
        ) from error
    if found.get("format") != FORMAT:
        raise TranscriptError(f'Line 1 of {name!r} does not say "format": "{FORMAT}": {_SOURCE}.')
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        raise TranscriptError(
            f"Line 1 of {name!r} says version {version}, but this hogwild-agents "
            f"({__version__}) reads up to version {VERSION}: upgrade it to "
            f"{found.get('package', 'the one that wrote the file')} or newer."
        )
    try:
        return HEADER.validate_json(row, strict=True)
    except ValidationError as error:
        raise TranscriptError(
            f"Line 1 of {name!r} is no header of version {VERSION}, because "
            f"{fault_of(error)}: {_SOURCE}."
        ) from error


def _damaged(
    number: int, name: str, header: TranscriptHeader, error: ValueError
) -> TranscriptError:
    return TranscriptError(
        f"Line {number} of {name!r} is wrong, because {fault_of(error)}: use the file as "
        f"hogwild-agents {header.package} wrote it."
    )
