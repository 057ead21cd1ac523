"""The plain view: a line for each finished step, and the answer last; for pipes and logs."""

from __future__ import annotations

import os
from textwrap import indent
from typing import Self, TextIO

from hogwild_agents.cli.progress import Progress
from hogwild_agents.cli.record import Record, StepRecord, printable
from hogwild_agents.cli.view import numbers, verdict
from hogwild_agents.events import (
    Event,
    LimitReached,
    PolicyFailed,
    StepEnded,
    WorkerLeft,
)

__all__ = ["PlainView"]


class PlainView:
    """Prints steps as they end, each line opened by its author.

    Args:
        out: where to.
        progress: shown while nothing has been printed yet.
    """

    def __init__(self, out: TextIO, progress: Progress) -> None:
        self.record = Record()
        self.broken = False
        self._out = out
        self._progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def handle(self, event: Event) -> None:
        """See :class:`~hogwild_agents.cli.view.View`."""
        self.record.handle(event)
        match event:
            case StepEnded():
                self._print_step(self.record.steps[-1])
            case LimitReached() | PolicyFailed() | WorkerLeft(error=str()):
                self._print(f"({printable(self.record.notice)})")
            case _:
                pass

    def wait(self, text: str) -> None:
        """See :class:`~hogwild_agents.cli.view.View`."""
        self._progress.show(text)

    def refresh(self) -> None:
        """See :class:`~hogwild_agents.cli.view.View`."""
        if self.record.started:
            self._progress.close()

    def close(self) -> None:
        """See :class:`~hogwild_agents.cli.view.View`."""
        self._progress.close()

    def conclude(self) -> None:
        """Print the unfinished steps, what the run took, and last the answer."""
        for worker in self.record.workers.values():
            if worker.current.body:
                self._print_step(worker.current, end=" …")
        self._print(f"({verdict(self.record)} · {numbers(self.record)})")
        result = self.record.ended.result if self.record.ended else None
        if result is None or result.answer is None:
            self._print("No answer")
        else:
            self._print(f"Answer: {printable(result.answer)}")

    def _print_step(self, step: StepRecord, end: str = "") -> None:
        opening = f"{printable(step.worker)} [{step.number}]: "
        margin = " " * len(opening)
        text = indent(step.body, margin).removeprefix(margin)  # empty lines stay empty
        self._print(f"{opening}{text}{end}")

    def _print(self, line: str) -> None:
        self._progress.close()
        try:
            print(line, file=self._out, flush=True)
        except BrokenPipeError:
            self.broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
