"""Frame: draws the record of a run at any size, as a list of lines; it knows no terminal.

From top to bottom: the problem, a pane for each worker (its unfinished step, then its own finished
ones), the finished steps of all, one line of numbers. Everything has its place for all of a run,
so nothing moves but the text. On a wide terminal the finished steps stand beside the panes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from rich.text import Text

from hogwild_agents.cli.lines import (
    FAINT,
    clip,
    ends,
    filled,
    fit,
    indent,
    overlay,
    rule,
    used,
)
from hogwild_agents.cli.record import Record, StepRecord, WorkerRecord, printable, speed
from hogwild_agents.cli.wrap import GrowingText
from hogwild_agents.counts import counted
from hogwild_agents.events import Source

__all__ = ["Frame", "Title", "clock", "grid"]

COLOURS = (
    "cyan",
    "green",
    "magenta",
    "bright_blue",
    "bright_red",
    "bright_cyan",
    "bright_green",
    "bright_magenta",
)
FORCED = "italic yellow"
STYLES: dict[Source, str] = {"sampled": "", "forced": FORCED}
CURSOR = "▌"

MIN_PANE = 24
"""Columns of text below which a pane is no longer read with ease."""
MIN_BESIDE = 132
"""Columns from which the history stands beside the panes, not below."""

HISTORIES = {
    "combined": "Past steps · seen by all",
    "interleaved": "Past steps · all that the others see",
    "contiguous": "Finished steps · seen by all, each in its author's text",
    "isolated": "Finished steps · seen by their authors only",
}


@dataclass(frozen=True, kw_only=True)
class Title:
    """What is known before a run begins.

    Attributes:
        command: what the view belongs to.
        facts: shown on the right, such as the model's name.
        budget: how many ticks there may be; None if that is not known.
        pace: how many ticks a second there may be; None for no bound.
    """

    command: str = "hogwild"
    facts: tuple[str, ...] = ()
    budget: int | None = None
    pace: float | None = None


class Frame:
    """Draws a record. It keeps wrapped text between frames, and nothing else.

    Attributes:
        waiting: what goes on before the workers think.
    """

    def __init__(self, record: Record, title: Title) -> None:
        self.waiting = ""
        self._record = record
        self._title = title
        self._wrapped: WeakKeyDictionary[StepRecord, GrowingText] = WeakKeyDictionary()

    def draw(self, width: int, height: int, *, tight: bool = False) -> list[Text]:
        """Return the lines of a frame, each ``width`` cells wide.

        Args:
            width: columns.
            height: lines: exactly so many, or at most if ``tight``.
            tight: leave out lines that would be empty.
        """
        head, foot = self._head(width, height), self._foot(width)
        room = max(height - len(head) - 2, 0)
        if self._record.started:
            body, joints = self._body(width, room, tight)
        else:
            body, joints = filled([Text(), Text(f" {self.waiting}", FAINT)], room), []
        floor = rule(width, above=joints)
        if self._record.notice:
            floor = overlay(floor, 1, _shortened(f" {self._record.notice} ", FORCED, width - 2))
        return [fit(line, width) for line in [*head, *body, floor, foot][:height]]

    # -- head and foot

    def _head(self, width: int, height: int) -> list[Text]:
        facts = Text(" · ".join(self._title.facts), FAINT)
        lines = [ends(Text(f" {self._title.command}", "bold"), facts, width)]
        if self._record.problem:
            problem = GrowingText()
            problem.append(printable(self._record.problem), "")
            most = 1 if height < 14 else 2 if height < 36 else 4
            lines += map(indent, clip(problem.lines(width - 2), most, width - 2))
        return lines + [Text()] * (height >= 20)

    def _foot(self, width: int) -> Text:
        record = self._record
        budget = f" of {self._title.budget:,}" if self._title.budget else ""
        facts = [
            f"tick {record.tick:,}{budget}",
            counted(record.tokens, "token"),
            speed(record, self._title.pace),
            clock(record.seconds),
        ]
        legend = _legend("plain: sampled · ", "italic: forced")
        if _too_long(facts, legend, width):
            legend = _legend("", "italic: forced")
        while len(facts) > 1 and _too_long(facts, legend, width):
            facts.pop()
        return ends(Text(" " + "   ".join(facts)), legend, width)

    # -- panes and history

    def _body(self, width: int, room: int, tight: bool) -> tuple[list[Text], list[int]]:
        """Return the panes and the history, and where bars reach the line below."""
        workers = list(self._record.workers.values())
        columns, rows = grid(len(workers), width)
        if width >= MIN_BESIDE and room >= 12:
            return self._beside(workers, width, room, tight)
        least = min(rows * 4, max(room - 4, rows * 2))
        share = min(max(room * 9 // 20, least), room)
        panes, joints = self._panes(workers, columns, width, share, tight)
        history = self._history(width, room - len(panes), tight, joints)
        return panes + history, [] if history else joints

    def _beside(
        self, workers: Sequence[WorkerRecord], width: int, room: int, tight: bool
    ) -> tuple[list[Text], list[int]]:
        left = width * 11 // 20
        right = width - left - 1
        columns = 1 if room // len(workers) >= 6 else grid(len(workers), left)[0]
        panes, joints = self._panes(workers, columns, left, room, tight)
        history = self._history(right, room, tight, [])
        tall = max(len(panes), len(history))
        lines = []
        for row, (pane, step) in enumerate(
            zip(filled(panes, tall), filled(history, tall), strict=True)
        ):
            bar = "┬" if not row else "┤" if pane.plain.endswith("─") else "│"
            lines.append(Text.assemble(fit(pane, left), (bar, FAINT), fit(step, right)))
        return lines, [*(joints if len(panes) == tall else []), left]

    def _panes(
        self,
        workers: Sequence[WorkerRecord],
        columns: int,
        width: int,
        room: int,
        tight: bool,
    ) -> tuple[list[Text], list[int]]:
        """Return the panes of all workers, and where the bars of their last row stand."""
        rows = -(-len(workers) // columns)
        bars = [width * column // columns for column in range(1, columns)]
        lines: list[Text] = []
        for row in range(rows):
            height = room * (row + 1) // rows - room * row // rows
            some = workers[row * columns : (row + 1) * columns]
            top = rule(width, above=bars if row else [], below=bars)
            lines += self._row(some, top, bars, height, tight)
        return lines, bars

    def _row(
        self,
        workers: Sequence[WorkerRecord],
        top: Text,
        bars: Sequence[int],
        height: int,
        tight: bool,
    ) -> list[Text]:
        """Return one row of panes, with the line above that names the workers."""
        starts = [0, *(bar + 1 for bar in bars)]
        stops = [*bars, len(top)]
        panes: list[list[Text]] = [[] for _ in starts]
        for column, worker in enumerate(workers):
            width = stops[column] - starts[column]
            top = overlay(top, starts[column] + 1, self._name(worker, width - 2))
            panes[column] = self._pane(worker, width, max(height - 1, 0))
        tall = max(map(used, panes)) if tight else height - 1
        lines = [top]
        for index in range(tall):
            line = Text()
            for start, stop, pane in zip(starts, stops, panes, strict=True):
                line.append("│" if start else "", FAINT)
                line.append_text(fit(pane[index] if pane else Text(), stop - start))
            lines.append(line)
        return lines

    def _name(self, worker: WorkerRecord, width: int) -> Text:
        name = Text(f" {printable(worker.name)} ", f"bold {self._colour(worker.name)}")
        if worker.left:
            name.append("failed " if worker.error else "left ", "red" if worker.error else FAINT)
        name.truncate(max(width, 3), overflow="ellipsis")
        return name

    def _pane(self, worker: WorkerRecord, width: int, height: int) -> list[Text]:
        """Return exactly ``height`` lines: the unfinished step, then the own finished ones."""
        inner = width - 2
        current = self._lines(worker.current, inner)
        writing = not worker.left and self._record.ended is None
        if writing and current[-1].cell_len < inner:
            cursor = (CURSOR, self._colour(worker.name))
            current = [*current[:-1], Text.assemble(current[-1], cursor)]
        lines = [indent(line) for line in current[-height:]] if height else []
        room = height - len(lines) - 1
        own = [step for step in self._record.steps if step.worker == worker.name]
        if own and room > 0:
            lines += [Text(), *(_recent(step, inner) for step in own[: -room - 1 : -1])]
        return filled(lines, height)

    def _history(self, width: int, room: int, tight: bool, above: Sequence[int]) -> list[Text]:
        """Return the finished steps under their title; once they are too many, the latest."""
        if room < 2:
            return filled([], room)
        steps = self._record.steps
        title = Text(f" {HISTORIES.get(self._record.layout, 'Finished steps')} ", "bold")
        lines: list[Text] = []
        whole = 0
        for step in reversed(steps):
            if len(lines) >= room - 1:
                break
            lines = [*map(indent, self._lines(step, width - 2)), *lines]
            whole += len(lines) < room
        number = f"{len(steps)} " if steps else ""
        if tight and whole < len(steps):  # nothing will move any more that would tell it
            number += f"· {len(steps) - whole} earlier "
        title.append(number, f"not bold {FAINT}")
        title.truncate(width - 2, overflow="ellipsis")
        lines = [overlay(rule(width, above=above), 1, title), *lines[-(room - 1) :]]
        return lines if tight else filled(lines, room)

    def _lines(self, step: StepRecord, width: int) -> list[Text]:
        """Return a step wrapped, its prefix in its author's colour, without blanks at its end."""
        growing = self._wrapped.setdefault(step, GrowingText())
        for span in step.spans[growing.pieces :]:
            prefix = not growing.pieces and span.source == "forced"
            style = f"italic {self._colour(step.worker)}" if prefix else STYLES[span.source]
            growing.append(span.text, style)
        lines = growing.lines(width)
        while len(lines) > 1 and not lines[-1].plain.strip():
            lines = lines[:-1]
        return lines

    def _colour(self, name: str) -> str:
        names = list(self._record.workers)
        return COLOURS[names.index(name) % len(COLOURS)] if name in names else "white"


def grid(number: int, width: int) -> tuple[int, int]:
    """Return columns and rows for so many panes: as many side by side as can be read."""
    most = max(width // (MIN_PANE + 2), 1)
    rows = -(-number // most)
    return -(-number // rows), rows


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _legend(sampled: str, forced: str) -> Text:
    return Text.assemble((sampled, STYLES["sampled"]), (forced, STYLES["forced"]))


def _too_long(facts: Sequence[str], legend: Text, width: int) -> bool:
    return len("   ".join(facts)) + len(legend) + 4 > width


def _recent(step: StepRecord, width: int) -> Text:
    text = " ".join(step.sampled.split())
    return _shortened(f"{step.number:>3}  {text[: width * 2]}", FAINT, width)


def _shortened(text: str, style: str, width: int) -> Text:
    line = Text(printable(text), style)
    line.truncate(width, overflow="ellipsis")
    return line
