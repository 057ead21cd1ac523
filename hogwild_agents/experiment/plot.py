"""Plot: a report as SVG; one panel for each measure, one row for each cell.

A dot is a mean, its line the 95 % interval; baselines are hollow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from rich.cells import cell_len

from hogwild_agents.experiment.report import MEASURES, Line, Measure, Report
from hogwild_agents.experiment.statistics import Estimate

__all__ = ["as_svg", "ticks_of"]

PANEL, GAP, ROW, MARGIN, HEAD, FOOT = 180.0, 36.0, 22.0, 16.0, 64.0, 56.0
CHARACTER = 6.4
NOTE = "Dots are means, lines 95 % intervals; what others are compared with is hollow."
INK, FAINT, GRID, DOT, PAPER = "#1f2328", "#6e7781", "#d8dee4", "#0969da", "#ffffff"


def as_svg(report: Report) -> str:
    """Return the plot as the text of an SVG file."""
    labels = max((cell_len(line.label) for line in report.lines), default=0) * CHARACTER + GAP / 2
    width = 2 * MARGIN + labels + len(MEASURES) * (PANEL + GAP)
    height = HEAD + len(report.lines) * ROW + FOOT
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
    )
    svg.set("font-family", "system-ui, sans-serif")
    svg.set("font-size", "12")
    SubElement(svg, "title").text = report.name
    SubElement(svg, "rect", width="100%", height="100%", fill=PAPER)
    _text(svg, MARGIN, 24, report.name, fill=INK, bold=True, size=15)
    for row, line in enumerate(report.lines):
        _text(svg, MARGIN, _height(row) + 4, line.label, fill=INK)
    for number, measure in enumerate(MEASURES):
        _panel(svg, MARGIN + labels + number * (PANEL + GAP), measure, report.lines)
    _text(svg, MARGIN, height - 14, NOTE, fill=FAINT, size=10)
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"


def ticks_of(low: float, high: float, number: int = 4) -> list[float]:
    """Return about so many round numbers, from at most ``low`` to at least ``high``."""
    rough = (high - low) / number or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _panel(svg: Element, left: float, measure: Measure, lines: Sequence[Line]) -> None:
    """Draw one measure of all cells."""
    factor = 100.0 if measure.is_share else 1.0
    found = [line.means[measure.name].scaled(factor) for line in lines]
    axis = ticks_of(*_span(found, measure))
    bottom = _height(len(lines)) - ROW / 2

    def place(value: float) -> float:
        return left + (value - axis[0]) / (axis[-1] - axis[0]) * PANEL

    _text(svg, left, HEAD - 18, measure.title, fill=INK, bold=True)
    for tick in axis:
        x = place(tick)
        _line(svg, x, HEAD - 8, x, bottom, GRID)
        _text(svg, x, bottom + 16, f"{tick:g}", fill=FAINT, middle=True, size=10)
    for row, (line, one) in enumerate(zip(lines, found, strict=True)):
        y = _height(row)
        if one.low is not None and one.high is not None:
            _line(svg, place(one.low), y, place(one.high), y, DOT, "2")
        dot = SubElement(svg, "circle", cx=_number(place(one.value)), cy=_number(y), r="4")
        dot.set("fill", PAPER if line.is_baseline else DOT)
        dot.set("stroke", DOT)
        dot.set("stroke-width", "2")


def _span(found: Sequence[Estimate], measure: Measure) -> tuple[float, float]:
    """Return what an axis has to show: all the intervals, and 0 unless it is a share."""
    ends = [end for one in found for end in (one.value, one.low, one.high) if end is not None]
    if not ends:
        return 0.0, 1.0
    low = min(ends) if measure.is_share else min(*ends, 0.0)
    return low, max(ends)


def _height(row: int) -> float:
    return HEAD + row * ROW + ROW / 2


def _number(value: float) -> str:
    return f"{value:.1f}"


def _line(
    svg: Element, x1: float, y1: float, x2: float, y2: float, stroke: str, width: str = "1"
) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    line = SubElement(svg, "line", {name: _number(end) for name, end in ends.items()})
    line.set("stroke", stroke)
    line.set("stroke-width", width)


def _text(
    svg: Element,
    x: float,
    y: float,
    text: str,
    *,
    fill: str,
    bold: bool = False,
    middle: bool = False,
    size: int = 12,
) -> None:
    element = SubElement(svg, "text", x=_number(x), y=_number(y), fill=fill)
    element.set("font-size", str(size))
    if bold:
        element.set("font-weight", "600")
    if middle:
        element.set("text-anchor", "middle")
    element.text = text
