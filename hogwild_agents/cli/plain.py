"""The plain view: the problem, a line for each finished step, the answer; for pipes and logs."""

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
    RunStarted,
    StepEnded,
    WorkerLeft,
)

__all__ = ["PlainView"]


class PlainView:
    """Prints the problem, and steps as they end, each opened by its author.

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
            case RunStarted():
                self._print_text("Problem: ", printable(self.record.problem).strip())
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
        self._print_text(f"{printable(step.worker)} [{step.number}]: ", f"{step.body}{end}")

    def _print_text(self, opening: str, text: str) -> None:
        margin = " " * len(opening)
        self._print(opening + indent(text, margin).removeprefix(margin))  # empty lines stay empty

    def _print(self, line: str) -> None:
        self._progress.close()
        try:
            print(line, file=self._out, flush=True)
        except BrokenPipeError:
            self.broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
