"""Svg: the strokes that every plot is drawn with, as text; no library is needed."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element, SubElement, indent, tostring

__all__ = [
    "BLUE",
    "FAINT",
    "GRID",
    "INK",
    "PAPER",
    "add_circle",
    "add_line",
    "add_path",
    "add_text",
    "as_text",
    "new_plot",
    "ticks_of",
]

INK, FAINT, GRID, BLUE, PAPER = "#1f2328", "#6e7781", "#d8dee4", "#0969da", "#ffffff"


def new_plot(width: float, height: float, title: str) -> Element:
    """Return an empty plot on white."""
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
    )
    svg.set("font-family", "system-ui, sans-serif")
    svg.set("font-size", "12")
    SubElement(svg, "title").text = title
    SubElement(svg, "rect", width="100%", height="100%", fill=PAPER)
    return svg


def as_text(svg: Element) -> str:
    """Return a plot as the text of an SVG file."""
    indent(svg)
    return tostring(svg, encoding="unicode") + "\n"


def ticks_of(low: float, high: float, number: int = 4) -> list[float]:
    """Return about so many round numbers, from at most ``low`` to at least ``high``."""
    rough = (high - low) / number or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def add_line(
    svg: Element, x1: float, y1: float, x2: float, y2: float, stroke: str, width: str = "1"
) -> None:
    """Draw a straight line."""
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    line = SubElement(svg, "line", {name: _number(end) for name, end in ends.items()})
    line.set("stroke", stroke)
    line.set("stroke-width", width)


def add_path(
    svg: Element, points: list[tuple[float, float]], stroke: str, *, dashed: bool = False
) -> None:
    """Draw a line through points."""
    path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    line = SubElement(svg, "polyline", points=path, fill="none", stroke=stroke)
    line.set("stroke-width", "2")
    if dashed:
        line.set("stroke-dasharray", "4 4")


def add_circle(
    svg: Element, x: float, y: float, stroke: str, *, hollow: bool = False, radius: str = "4"
) -> None:
    """Draw a dot."""
    dot = SubElement(svg, "circle", cx=_number(x), cy=_number(y), r=radius)
    dot.set("fill", PAPER if hollow else stroke)
    dot.set("stroke", stroke)
    dot.set("stroke-width", "2")


def add_text(
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
    """Write a line of text that begins at x, or has its middle there."""
    element = SubElement(svg, "text", x=_number(x), y=_number(y), fill=fill)
    element.set("font-size", str(size))
    if bold:
        element.set("font-weight", "600")
    if middle:
        element.set("text-anchor", "middle")
    element.text = text


def _number(value: float) -> str:
    return f"{value:.1f}"
