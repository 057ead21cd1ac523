"""View: what shows a run while it goes on; and how its end is told."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Protocol, Self

from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

from hogwild_agents.cli.lines import FAINT
from hogwild_agents.cli.progress import Progress
from hogwild_agents.cli.record import Record, printable, speed
from hogwild_agents.counts import counted
from hogwild_agents.events import Event

__all__ = ["SilentView", "View", "closing", "numbers", "verdict", "why_ended"]

LIMITS = {
    "ticks": "the budget of ticks is spent",
    "tokens": "the budget of tokens is spent",
    "seconds": "the time is over",
    "cache": "the cache is full",
    "context": "the model's context is full",
    "left": "all workers have left",
    "parked": "all workers who were left waited to be resumed",
}


class View(Protocol):
    """Shows one run. It is entered before the run and left after it.

    Attributes:
        record: what it knows of the run.
        broken: whether nobody reads what it writes any more.
    """

    record: Record
    broken: bool

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def handle(self, event: Event) -> None:
        """Take note of an event; must be quick."""

    def wait(self, text: str) -> None:
        """Say what goes on before the workers think."""

    def refresh(self) -> None:
        """Show what has changed; called a few times a second."""

    def close(self) -> None:
        """Give the terminal back at once."""

    def conclude(self) -> None:
        """Tell what the run came to; called after the view was left."""


class SilentView:
    """Shows nothing but progress, and that only on a terminal's stderr."""

    def __init__(self, progress: Progress) -> None:
        self.record = Record()
        self.broken = False
        self._progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def handle(self, event: Event) -> None:
        """See :class:`View`."""
        self.record.handle(event)

    def wait(self, text: str) -> None:
        """See :class:`View`."""
        self._progress.show(text)

    def refresh(self) -> None:
        """See :class:`View`."""
        record = self.record
        if record.started:
            self._progress.show(
                f"Thinking · tick {record.tick:,} · {counted(record.tokens, 'token')}"
            )

    def close(self) -> None:
        """See :class:`View`."""
        self._progress.close()

    def conclude(self) -> None:
        """See :class:`View`."""


def closing(record: Record, pace: float | None = None) -> RenderableType:
    """Return the panel that tells what a run came to: the answer, what it took, who did what."""
    result = record.ended.result if record.ended else None
    answered = result is not None and result.answer is not None
    if result is not None and result.answer is not None:
        head = Text(printable(result.answer) or "(empty)", "bold")
    else:
        head = Text(verdict(record))
    facts = numbers(record, pace)
    if answered:
        facts = f"{verdict(record)} · {facts}"
    return Panel(
        Text.assemble(head, "\n\n", (f"{facts}\n{shares(record)}", FAINT)),
        title=Text(" Answer " if answered else " No answer ", "bold"),
        title_align="left",
        border_style="green" if answered else "yellow",
        padding=(0, 2),
    )


def verdict(record: Record) -> str:
    """Return why a run ended, in words."""
    if record.ended is None:
        return "The transcript is cut short here"
    result = record.ended.result
    by = f" by {printable(result.author)}" if result.author else ""
    if result.reason == "answer":
        return f"Boxed{by}"
    words = why_ended(record)
    if result.reason == "finisher" and result.answer is not None:
        return f"Concluded{by}: {words}"
    return f"{words[:1].upper()}{words[1:]}{by}"


def why_ended(record: Record) -> str:
    """Return why a run ended, as the end of a sentence; the policy that noticed is left out."""
    reason = "" if record.ended is None else record.ended.result.reason
    if reason == "finisher":
        return LIMITS.get(record.limit, "the time had come")
    return LIMITS.get(reason, reason)


def shares(record: Record) -> str:
    """Return how many steps each worker has finished."""
    finished = Counter(step.worker for step in record.steps)
    each = (f"{printable(name)} {finished[name]}" for name in record.workers)
    return f"Steps finished: {', '.join(each)}"


def numbers(record: Record, pace: float | None = None) -> str:
    """Return what a run took."""
    seconds = f"{record.seconds:.1f} s" if record.seconds < 100 else f"{record.seconds:,.0f} s"
    taken = f"{counted(record.tick, 'tick')} · {counted(record.tokens, 'token')}"
    return f"{taken} · {seconds} · {speed(record, pace)}"
