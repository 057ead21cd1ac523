"""TranscriptWriter: writes the record of one run, line by line, as it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from hogwild_agents.errors import ClosedError, ConfigError, TranscriptError
from hogwild_agents.file_lock import open_whole, take
from hogwild_agents.transcript_entries import Entry
from hogwild_agents.transcript_events import event_line
from hogwild_agents.transcript_lines import (
    BlockLine,
    FeedEntry,
    ForkEntry,
    TickLine,
    TranscriptHeader,
    ViewItem,
    fault_of,
)

if TYPE_CHECKING:
    from hogwild_agents.coordinator import Commit
    from hogwild_agents.engine import CacheBlock, Feed, ViewEntry
    from hogwild_agents.events import Event, Source


class TranscriptWriter:
    """Writes the transcript of one run; a context manager.

    The file is opened, and an older one replaced, at the first line: a run that never begins
    leaves everything as it was. Each call hands its lines to the system before it returns, so
    whatever ends the program, at most the last line is cut. Until it is closed no other writer,
    of any process, gets the file.

    Args:
        path: where to.

    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._closed = False
        self._failure: TranscriptError | None = None
        self._numbers: dict[CacheBlock, int] = {}
        self._written = 0  # how many of these blocks have their line
        if os.path.isdir(self.path) or not os.path.isdir(self.path.parent):
            fault = "is a folder" if os.path.isdir(self.path) else "is in no folder that exists"
            raise ConfigError(
                f"The transcript cannot be written to {str(path)!r}, which {fault}: name a file "
                "in a folder that exists."
            )

    def header(self, header: TranscriptHeader) -> None:
        """Write the header. It comes first, and once.

        Raises:
            ConfigError: the file cannot be opened, or another run is writing it.
            TranscriptError: it cannot be written.
        """
        self._write(header)

    def commit(self, worker: str, commit: Commit, sources: Sequence[Sequence[Source]]) -> None:
        """Write what one worker changed in the cache in one tick.

        Args:
            worker: who; an empty name for what the run itself feeds.
            commit: as the coordinator tells it.
            sources: for each feed of the commit, where each of its tokens is from.

        Raises:
            TranscriptError: the line cannot be written, or the sources don't fit the tokens.
        """
        with self._well_formed():
            feeds = tuple(
                self._feed(feed, source) for feed, source in zip(commit.feeds, sources, strict=True)
            )
            moves = tuple(
                (self._number(move.source), self._number(move.target)) for move in commit.moves
            )
            forks = tuple(
                ForkEntry(
                    source=self._number(fork.source),
                    target=self._number(fork.target),
                    length=fork.length,
                    after=fork.after,
                )
                for fork in commit.forks
            )
            tick = TickLine(tick=commit.tick, worker=worker, feeds=feeds, moves=moves, forks=forks)
        new = list(self._numbers.items())[self._written :]
        self._write(*(BlockLine(id=number, name=block.name) for block, number in new), tick)
        self._written = len(self._numbers)

    def event(self, event: Event) -> None:
        """Write an event. ``RunEnded`` comes last.

        Raises:
            TranscriptError: the line cannot be written.
        """
        with self._well_formed():
            line = event_line(event)
        self._write(line)

    def close(self) -> None:
        """Close the file, if one was opened. Doing it again changes nothing."""
        self._closed = True
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise self._broken(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TranscriptWriter({str(self.path)!r})"

    def _feed(self, feed: Feed, sources: Sequence[Source]) -> FeedEntry:
        return FeedEntry(
            block=self._number(feed.block),
            view=tuple(map(self._view_item, feed.view)),
            tokens=tuple(feed.tokens),
            sources="".join(source[0] for source in sources),
        )

    def _view_item(self, entry: ViewEntry) -> ViewItem:
        from hogwild_agents.engine import BlockSlice  # whoever reads transcripts needs no torch

        if isinstance(entry, BlockSlice):
            return self._number(entry.block), entry.start, entry.stop
        return self._number(entry)

    def _number(self, block: CacheBlock) -> int:
        return self._numbers.setdefault(block, len(self._numbers))

    def _write(self, *lines: Entry) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise ClosedError(f"The transcript {str(self.path)!r} is closed: begin another file.")
        if isinstance(lines[0], TranscriptHeader) is (self._file is not None):
            raise TranscriptError(
                f"The transcript {str(self.path)!r} has one header, and it comes first: write it "
                "before all else, and once."
            )
        with self._well_formed():
            data = b"".join(line.model_dump_json().encode() + b"\n" for line in lines)
        file = self._file or self._open()
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            self._failure = self._broken(error)
            self._file = None
            with suppress(OSError):  # it would tell the same again
                file.close()
            raise self._failure from error

    def _open(self) -> IO[bytes]:
        try:
            file = open_whole(self.path)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The transcript cannot be written to {str(self.path)!r} ({fault_of(error)}): "
                "name another file."
            ) from error
        if not take(file):
            file.close()
            raise ConfigError(
                f"The transcript {str(self.path)!r} is being written by another run: wait for its "
                "end, or name another file."
            )
        with suppress(OSError):  # a pipe holds nothing
            file.truncate(0)
        self._file = file
        return file

    def _broken(self, error: OSError) -> TranscriptError:
        return TranscriptError(
            f"The transcript {str(self.path)!r} is cut short, because it cannot be written any "
            f"further ({fault_of(error)}): make room, or name another file."
        )

    @contextmanager
    def _well_formed(self) -> Iterator[None]:
        """Turn what doesn't fit the format into a TranscriptError."""
        try:
            yield
        except ValueError as error:
            raise TranscriptError(
                f"A line of the transcript {str(self.path)!r} would not be well-formed, because "
                f"{fault_of(error)}: hand in what docs/transcript.md allows."
            ) from error
