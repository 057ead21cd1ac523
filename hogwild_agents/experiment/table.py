"""Tables of a report: for a terminal, and as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from hogwild_agents.counts import counted, inflected
from hogwild_agents.experiment.plan import AXES
from hogwild_agents.experiment.report import MEASURES, Comparison, Line, Measure, Report
from hogwild_agents.experiment.statistics import Estimate

__all__ = ["as_csv", "as_json", "as_markdown", "as_tables", "caption", "show"]

_METHOD = (
    "In brackets 95 % intervals over the problems: Wilson's for right answers, Student's for the "
    "rest."
)
_PAIRED = (
    "Differences are to the cell with {baseline}, else alike, paired by problem and seed (right "
    "answers: Bonett and Price); p by flipping signs, adjusted by Holm for the comparisons of a "
    "measure."
)


FOLDED, LEAST = ("Cell", "Reasons"), 16
"""Columns whose texts are wrapped, and how narrow they may become."""


@dataclass(frozen=True)
class _Sheet:
    """One small table: a title, a heading, and rows."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def as_tables(report: Report) -> Iterator[Table]:
    """Yield the report's tables for a terminal."""
    for sheet in _sheets(report):
        table = Table(
            title=sheet.title,
            title_justify="left",
            title_style="bold",
            box=None,
            padding=(0, 2, 0, 0),
            header_style="bright_black",
        )
        for head, *texts in zip(sheet.head, *sheet.rows, strict=True):
            width, folded = max(map(len, (head, *texts))), head in FOLDED
            least = min(width, LEAST) if folded else width
            table.add_column(head, overflow="fold", no_wrap=not folded, min_width=least)
        for row in sheet.rows:
            table.add_row(*map(Text, row))
        yield table


def as_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    lines = [f"# {report.name}", "", caption(report), ""]
    for sheet in _sheets(report):
        lines += [f"## {sheet.title}", "", _row(sheet.head), _row(["---"] * len(sheet.head))]
        lines += [*map(_row, sheet.rows), ""]
    return "\n".join(lines)


def as_csv(report: Report) -> str:
    """Return the report as CSV, one row for each cell and measure; shares are from 0 to 1."""
    file = io.StringIO()
    head = ["cell", *AXES, "runs", "problems", "measure", "mean", "low", "high"]
    head += ["baseline", "pairs", "difference", "difference_low", "difference_high"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*head, "p", "p_adjusted"])
    for line in report.lines:
        known = [line.label, *(line.axes[axis] for axis in AXES), line.runs, line.problems]
        for name, mean in line.means.items():
            found = [*known, name, mean.value, mean.low, mean.high]
            writer.writerow([*found, *_flat(line.comparisons.get(name))])
    return file.getvalue()


def as_json(report: Report) -> str:
    """Return the report as one JSON object; shares are from 0 to 1."""
    return json.dumps(asdict(report), ensure_ascii=False, indent=1) + "\n"


def caption(report: Report) -> str:
    """Return what the numbers are, and what to take care of."""
    done = counted(report.planned, "run")
    if report.runs < report.planned:
        done = f"{report.runs:,} of {done}"
    problems = max((line.problems for line in report.lines), default=0)
    seeds = ", ".join(map(str, report.seeds))
    sentences = [
        f"{done} of {report.model} on {counted(problems, 'problem')}; "
        f"{inflected('seed', len(report.seeds))} {seeds}.",
        _METHOD,
    ]
    if report.baseline:
        sentences.append(_PAIRED.format(baseline=report.baseline))
    if report.seeds_alike:
        sentences.append("No run depended on its seed.")
    return " ".join(sentences)


# -- what the tables hold


def _sheets(report: Report) -> Iterator[_Sheet]:
    for measure in MEASURES:
        head = ["Cell", "Mean"]
        if report.baseline:
            head += ["Difference", "p", "adjusted"]
        rows = [_measured(line, measure, wide=bool(report.baseline)) for line in report.lines]
        yield _Sheet(measure.title, head, rows)
    ended = [[line.label, f"{line.runs:,}", _reasons(line)] for line in report.lines]
    yield _Sheet("How the runs ended", ["Cell", "Runs", "Reasons"], ended)


def _measured(line: Line, measure: Measure, *, wide: bool) -> list[str]:
    row = [line.label, show(line.means[measure.name], measure)]
    if not wide:
        return row
    found = line.comparisons.get(measure.name)
    if found is None:
        return [*row, "", "", ""]
    difference = show(found.difference, measure, sign="+")
    return [*row, difference, _chance(found.p), _chance(found.p_adjusted)]


def show(estimate: Estimate, measure: Measure, *, sign: str = "") -> str:
    """Return an estimate as ``99.2 [98.0, 99.7]``, shares in percent."""
    one = estimate.scaled(100) if measure.is_share else estimate
    return one.show(measure.digits, sign=sign)


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _reasons(line: Line) -> str:
    return ", ".join(f"{reason} {times:,}" for reason, times in line.reasons.items())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _flat(found: Comparison | None) -> list[str | float | None]:
    if found is None:
        return [None] * 7
    one = found.difference
    return [found.baseline, found.pairs, one.value, one.low, one.high, found.p, found.p_adjusted]
