"""Plot: tokens per second over a single sequence, one panel for each context, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from hogwild_agents.bench.report import BATCH, CONCATENATING, ENGINE, SINGLE, Cell, Report, short
from hogwild_agents.bench.table import heading
from hogwild_agents.svg import (
    BLUE,
    FAINT,
    GRID,
    INK,
    add_circle,
    add_line,
    add_path,
    add_text,
    as_text,
    new_plot,
    ticks_of,
)

PANEL, HEIGHT, GAP, LEFT, HEAD, FOOT = 220.0, 220.0, 44.0, 44.0, 84.0, 64.0
COLOURS = {ENGINE: BLUE, BATCH: "#bc4c00", CONCATENATING: "#8250df"}
LABELS = {
    ENGINE: "hogwild",
    BATCH: "transformers, batch of N",
    CONCATENATING: "concatenating and re-rotating",
}
Point = tuple[float, float]


def as_svg(report: Report) -> str:
    """Return the plot as the text of an SVG file."""
    contexts = list(dict.fromkeys(cell.context for cell in report.cells))
    width = LEFT + max(len(contexts), 3) * (PANEL + GAP)
    svg = new_plot(width, HEAD + HEIGHT + FOOT, f"hogwild bench: {report.model['name']}")
    title = f"Tokens per second over one sequence of transformers: {report.model['name']}"
    add_text(svg, LEFT, 24, title, fill=INK, bold=True, size=15)
    add_text(svg, LEFT, 42, heading(report), fill=FAINT, size=10)
    highest = max((gain for cell in report.cells for _, gain in _gains(cell)), default=1.0)
    for number, context in enumerate(contexts):
        cells = [cell for cell in report.cells if cell.context == context]
        _panel(svg, LEFT + number * (PANEL + GAP), cells, highest)
    _legend(svg, HEAD + HEIGHT + 50)
    return as_text(svg)


def _gains(cell: Cell) -> list[tuple[str, float]]:
    """Return each contestant's tokens per second over the single sequence's."""
    engine = cell.gain(SINGLE) or 0.0
    found = [(ENGINE, engine)]
    for name in (BATCH, CONCATENATING):
        gain = cell.gain(name)
        if gain is not None:
            found.append((name, engine / gain))
    return found


def _panel(svg: Element, left: float, cells: Sequence[Cell], highest: float) -> None:
    """Draw one context: workers to the right, the ratio upwards."""
    most = max(cell.workers for cell in cells)
    across, up = ticks_of(0, most), ticks_of(0, max(highest, most))
    bottom = HEAD + HEIGHT

    def place(workers: float, ratio: float) -> Point:
        return left + workers / across[-1] * PANEL, bottom - ratio / up[-1] * HEIGHT

    add_text(svg, left, HEAD - 14, f"context {short(cells[0].context)}", fill=INK, bold=True)
    for tick in up:
        _, y = place(0, tick)
        add_line(svg, left, y, left + PANEL, y, GRID)
        add_text(svg, left - 16, y + 4, f"{tick:g}", fill=FAINT, middle=True, size=10)
    for tick in across:
        x, _ = place(tick, 0)
        add_text(svg, x, bottom + 16, f"{tick:g}", fill=FAINT, middle=True, size=10)
    add_text(svg, left + PANEL / 2, bottom + 30, "workers", fill=FAINT, middle=True, size=10)
    add_path(svg, [place(0, 0), place(most, most)], FAINT, dashed=True)
    for name, colour in COLOURS.items():
        found = [(cell.workers, dict(_gains(cell)).get(name)) for cell in cells]
        points = [place(workers, gain) for workers, gain in found if gain is not None]
        if points:
            add_path(svg, points, colour)
        for x, y in points:
            add_circle(svg, x, y, colour, radius="3")


def _legend(svg: Element, y: float) -> None:
    x = LEFT
    entries = [(LABELS[name], colour) for name, colour in COLOURS.items()]
    for label, colour in [*entries, ("N workers at the speed of one (dashed)", FAINT)]:
        add_circle(svg, x, y - 4, colour, radius="3")
        add_text(svg, x + 10, y, label, fill=INK, size=11)
        x += 30 + 6.2 * len(label)
