"""Plot: a report as SVG; one panel for each measure, one row for each cell.

A dot is a mean, its line the 95 % interval; baselines are hollow.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from rich.cells import cell_len

from hogwild_agents.experiment.report import MEASURES, Line, Measure, Report
from hogwild_agents.experiment.statistics import Estimate
from hogwild_agents.svg import (
    BLUE,
    FAINT,
    GRID,
    INK,
    add_circle,
    add_line,
    add_text,
    as_text,
    new_plot,
    ticks_of,
)

__all__ = ["as_svg"]

PANEL, GAP, ROW, MARGIN, HEAD, FOOT = 180.0, 36.0, 22.0, 16.0, 64.0, 56.0
CHARACTER = 6.4
NOTE = "Dots are means, lines 95 % intervals; what others are compared with is hollow."


def as_svg(report: Report) -> str:
    """Return the plot as the text of an SVG file."""
    labels = max((cell_len(line.label) for line in report.lines), default=0) * CHARACTER + GAP / 2
    width = 2 * MARGIN + labels + len(MEASURES) * (PANEL + GAP)
    height = HEAD + len(report.lines) * ROW + FOOT
    svg = new_plot(width, height, report.name)
    add_text(svg, MARGIN, 24, report.name, fill=INK, bold=True, size=15)
    for row, line in enumerate(report.lines):
        add_text(svg, MARGIN, _height(row) + 4, line.label, fill=INK)
    for number, measure in enumerate(MEASURES):
        _panel(svg, MARGIN + labels + number * (PANEL + GAP), measure, report.lines)
    add_text(svg, MARGIN, height - 14, NOTE, fill=FAINT, size=10)
    return as_text(svg)


def _panel(svg: Element, left: float, measure: Measure, lines: Sequence[Line]) -> None:
    """Draw one measure of all cells."""
    factor = 100.0 if measure.is_share else 1.0
    found = [line.means[measure.name].scaled(factor) for line in lines]
    axis = ticks_of(*_span(found, measure))
    bottom = _height(len(lines)) - ROW / 2

    def place(value: float) -> float:
        return left + (value - axis[0]) / (axis[-1] - axis[0]) * PANEL

    add_text(svg, left, HEAD - 18, measure.title, fill=INK, bold=True)
    for tick in axis:
        x = place(tick)
        add_line(svg, x, HEAD - 8, x, bottom, GRID)
        add_text(svg, x, bottom + 16, f"{tick:g}", fill=FAINT, middle=True, size=10)
    for row, (line, one) in enumerate(zip(lines, found, strict=True)):
        y = _height(row)
        if one.low is not None and one.high is not None:
            add_line(svg, place(one.low), y, place(one.high), y, BLUE, "2")
        add_circle(svg, place(one.value), y, BLUE, hollow=line.is_baseline)


def _span(found: Sequence[Estimate], measure: Measure) -> tuple[float, float]:
    """Return what an axis has to show: all the intervals, and 0 unless it is a share."""
    ends = [end for one in found for end in (one.value, one.low, one.high) if end is not None]
    if not ends:
        return 0.0, 1.0
    low = min(ends) if measure.is_share else min(*ends, 0.0)
    return low, max(ends)


def _height(row: int) -> float:
    return HEAD + row * ROW + ROW / 2
