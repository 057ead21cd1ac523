"""Tally: how many of many runs are done, as a bar on a terminal, and elsewhere as a few lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hogwild_agents.counts import counted

__all__ = ["Tally"]

PARTS = 10
"""Of the runs there are; a line for each. A file has no use for more, and who waits for fewer."""


class Tally:
    """Says on stderr how far many runs have come.

    Args:
        total: how many there are.
        done: how many of them were done before.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        console = Console(stderr=True)
        self._total, self._done = total, done
        self._lines = not console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=self._lines,
        )
        self._task = self._bar.add_task("Runs", total=total, completed=done)

    def __enter__(self) -> Self:
        if self._lines:
            before = f", {self._done:,} of them done before" if self._done else ""
            _say(f"{counted(self._total, 'run')}{before} ...")
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.stop()

    def advance(self, what: str = "Runs") -> None:
        """Count one more.

        Args:
            what: shown before the bar.
        """
        before = self._done * PARTS // self._total
        self._done += 1
        self._bar.update(self._task, advance=1, description=what)
        if self._lines and self._done * PARTS // self._total > before:
            _say(f"{self._done:,} of {counted(self._total, 'run')} done.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
