"""Progress: one line on a terminal's stderr about what takes long, gone when it is over."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.status import Status

__all__ = ["Progress"]


class Progress:
    """Says what is going on, where stderr is a terminal; elsewhere it says nothing.

    Args:
        quiet: say nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._shown = self._console.is_terminal and not quiet
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self._shown:
            return
        if self._status is None:
            self._status = Status(text, console=self._console, spinner_style="bright_black")
            self._status.start()
        else:
            self._status.update(text)

    def close(self) -> None:
        """Take the line away. :meth:`show` brings it back."""
        if self._status is not None:
            self._status.stop()
            self._status = None
