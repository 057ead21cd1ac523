"""The live view: frames of a run on a terminal, drawn a few times a second."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live

from hogwild_agents.cli.echo import Echo
from hogwild_agents.cli.frame import Frame, Title, grid
from hogwild_agents.cli.record import Record
from hogwild_agents.cli.view import closing
from hogwild_agents.events import Event

__all__ = ["LiveView"]

SUMMARY = 8
"""Lines of the answer's panel and the prompt of the shell, below the last frame."""
LEAST, EACH = 16, 3
"""Lines that the last frame may take even if the terminal has to scroll: with one row of panes, and
for each further row."""


class LiveView:
    """Shows a run on a terminal's other screen while it goes on.

    Leaving it gives the terminal back with the last frame in its scroll-back.

    Args:
        console: a terminal.
        title: what is known before the run.
    """

    def __init__(self, console: Console, title: Title) -> None:
        self.record = Record()
        self.broken = False
        self._console = console
        self._frame = Frame(self.record, title)
        self._pace = title.pace
        self._live = Live(
            get_renderable=self._render, console=console, screen=True, auto_refresh=False
        )
        self._echo = Echo()
        self._changed = True

    def __enter__(self) -> Self:
        self._echo.stop()
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if self.record.started:
            width, height = self._console.size
            _, rows = grid(len(self.record.workers), width)
            least = LEAST + EACH * (rows - 1)
            lines = self._frame.draw(width, max(height - SUMMARY, least), tight=True)
            self._console.print(Group(*lines))

    def close(self) -> None:
        """Give the terminal back at once. Doing it again changes nothing."""
        self._live.stop()
        self._echo.give_back()

    def handle(self, event: Event) -> None:
        """Take note of an event; what it changes is shown by the next :meth:`refresh`."""
        self.record.handle(event)
        self._changed = True

    def wait(self, text: str) -> None:
        """Say what goes on before the workers think."""
        self._changed |= text != self._frame.waiting
        self._frame.waiting = text

    def refresh(self) -> None:
        """Draw again if something has changed."""
        if self._changed:
            self._changed = False
            self._live.refresh()

    def conclude(self) -> None:
        """Print what the run came to, below the last frame."""
        self._console.print(closing(self.record, self._pace))

    def _render(self) -> RenderableType:
        width, height = self._console.size
        return Group(*self._frame.draw(width, height))
