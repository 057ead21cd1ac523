"""``hogwild replay``: a run again, from its transcript."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from hogwild_agents.cli.live import LiveView
from hogwild_agents.cli.run import FRAMES_PER_SECOND, terminal_view
from hogwild_agents.cli.view import View
from hogwild_agents.errors import TranscriptError
from hogwild_agents.events import Event, TickEnded

if TYPE_CHECKING:
    from hogwild_agents.transcript import Transcript


def replay(path: Path, *, speed: float | None, partial: bool, plain: bool) -> int:
    """Show a run again; return the exit code.

    Args:
        path: of the transcript.
        speed: how many times as fast as it was; None for all at once. Plain lines come at once.
        partial: take a transcript that is cut short.
        plain: lines, also on a terminal.

    Raises:
        TranscriptError: the file is no (whole) transcript.
    """
    transcript = _read(path, partial)
    header = transcript.header
    facts = ("replay", header.model, header.layout, f"seed {header.seed}")
    view = terminal_view(facts, header.limits.ticks, plain=plain)
    pace = speed if isinstance(view, LiveView) else None
    with view:
        clock = _Clock(view, pace)
        for event in transcript.events():
            clock.reach(event)
            view.handle(event)
        view.refresh()
    view.conclude()
    return 0


def _read(path: Path, partial: bool) -> Transcript:
    from hogwild_agents.transcript import read_transcript

    try:
        return read_transcript(path, allow_partial=partial)
    except TranscriptError:
        if partial:
            raise
        read_transcript(path, allow_partial=True)  # raises the same where being cut is not all
        raise TranscriptError(
            f"The transcript {str(path)!r} is cut short: give --partial to see what there is."
        ) from None


class _Clock:
    """Lets a tick's end come when it came in the run, and draws meanwhile."""

    def __init__(self, view: View, speed: float | None) -> None:
        self._view = view
        self._speed = speed
        self._began = time.monotonic()

    def reach(self, event: Event) -> None:
        """Wait until the event is due."""
        if self._speed is None or not isinstance(event, TickEnded):
            return
        due = self._began + event.seconds / self._speed
        while (left := due - time.monotonic()) > 0:
            self._view.refresh()
            time.sleep(min(left, 1 / FRAMES_PER_SECOND))
