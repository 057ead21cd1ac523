"""Progress: one line on a terminal's stderr about what takes long, gone when it is over.

A line that is wrapped would make all below it jump, so it is cut at the terminal's width.
"""

from __future__ import annotations

import sys
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

__all__ = ["Progress"]

SPINNER = 3
"""Columns of it and of the blank behind it, and the last one, which stays empty."""


class Progress:
    """Says what is going on, where stderr is a terminal; elsewhere only what it is to tell.

    Args:
        quiet: say nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._shown = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self._shown:
            return
        line = Text(text)
        line.truncate(max(self._console.width - SPINNER, 1), overflow="ellipsis")
        if self._status is None:
            self._status = Status(line, console=self._console, spinner_style="bright_black")
            self._status.start()
        else:
            self._status.update(line)

    def tell(self, text: str) -> None:
        """Replace the line; where stderr is no terminal, print it, unless all is to be quiet."""
        self.show(text)
        if not self._shown and not self._quiet:
            print(f"{text} ...", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away. :meth:`show` brings it back."""
        if self._status is not None:
            self._status.stop()
            self._status = None
