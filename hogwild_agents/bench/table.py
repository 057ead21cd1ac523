"""Table: a report for the terminal, in colours where rich is installed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict

from hogwild_agents.bench.prefill import Prefill
from hogwild_agents.bench.report import (
    BATCH,
    CONCATENATING,
    ENGINE,
    OWN,
    PLAIN,
    PRODUCTS,
    SINGLE,
    Cell,
    Report,
    short,
)
from hogwild_agents.bench.timing import NOISY
from hogwild_agents.counts import counted

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Title, heads, rows."""
NAMED = 8
"""Cells that a sentence names at most."""
PLACE = 2
"""Columns that say which cell a row is of."""


def tables(report: Report) -> list[Table]:
    """Return the tables of a report: speed, floors, and where time and memory go."""
    return [_speed(report), _floors(report), _shares(report)]


def remarks(report: Report) -> list[str]:
    """Return what has to be said with the tables, a sentence each."""
    found = [
        f"Context {short(context)}: transformers' fastest way here is {way['chosen']}."
        for context, way in report.ways.items()
    ]
    how = {cell.shares.how for cell in report.cells if cell.shares is not None}
    found += [f"Shares of a tick: {one}, in ticks of their own." for one in sorted(how)]
    if report.prefill is not None:
        found.append(_prefill(report.prefill))
    found += report.notes
    for cell in report.cells:
        place = f"{counted(cell.workers, 'worker')} at context {short(cell.context)}"
        found += [f"{place}: {note}" for note in cell.notes]
    return found


def noise(report: Report) -> list[str]:
    """Return which figures cannot be trusted; of many cells in one sentence."""
    noisy = [cell for cell in report.cells if cell.noisy]
    if len(noisy) < 3:
        return report.noise
    worst = max(cell.times[SINGLE].spread for cell in noisy)
    return [
        f"Too noisy in {len(noisy)} of {len(report.cells)} cells ({_names(noisy)}): a single "
        f"sequence varied by up to {worst:.0%} of its median (the middle half of the rounds), "
        f"where {NOISY:.0%} is the most. Close what else runs and measure again."
    ]


def _names(cells: Sequence[Cell]) -> str:
    """Return the names of cells, such as ``1k × 2, 4``: a context, and numbers of workers."""
    named: dict[int, list[str]] = {}
    for cell in cells[:NAMED]:
        named.setdefault(cell.context, []).append(str(cell.workers))
    names = [f"{short(context)} × {', '.join(some)}" for context, some in named.items()]
    more = f"; and {len(cells) - NAMED} more, which --json names" if len(cells) > NAMED else ""
    return f"context × workers: {'; '.join(names)}{more}"


def as_plain(report: Report, width: int | None = None) -> str:
    """Return the tables as plain text, each in pieces that are no wider than ``width``."""
    parts = [heading(report), ""]
    for one in tables(report):
        parts += [*_lines(one, width), ""]
    return "\n".join([*parts, *remarks(report), *noise(report)]) + "\n"


def _lines(table: Table, width: int | None = None) -> list[str]:
    """Return a table's lines: what is too wide goes on below, with the cells' names again."""
    title, *_ = table
    lines = [title]
    for columns in _pieces(_widths(table), width):
        for row in _rows(table):
            lines.append("  ".join(row[one].rjust(_widths(table)[one]) for one in columns))
    return lines


def _rows(table: Table) -> list[Sequence[str]]:
    _, heads, rows = table
    return [heads, *rows]


def _pieces(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Return which columns stand side by side."""
    place = list(range(PLACE))
    pieces = [[*place]]
    for column in range(PLACE, len(widths)):
        wanted = [*pieces[-1], column]
        needed = sum(widths[one] + 2 for one in wanted) - 2
        if width is not None and needed > width and len(wanted) > PLACE + 1:
            wanted = [*place, column]
            pieces.append(wanted)
        pieces[-1] = wanted
    return pieces


def _widths(table: Table) -> list[int]:
    _, heads, rows = table
    return [max(map(len, column)) for column in zip(heads, *rows, strict=True)]


def show(report: Report) -> None:
    """Print the tables."""
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(as_plain(report, width), end="")
        return
    console = Console()
    if not console.is_terminal:
        print(as_plain(report), end="")
        return
    console.print(heading(report), markup=False, highlight=False, style="bold")
    for one in tables(report):
        title, heads, rows = one
        if sum(_widths(one)) + 3 * len(heads) + 1 > console.width:  # it would cut the numbers
            text = "\n".join([*_lines(one, console.width), ""])
            console.print(text, markup=False, highlight=False, soft_wrap=True)
            continue
        drawn = RichTable(title=title, title_justify="left", title_style="bold")
        for head in heads:
            drawn.add_column(head, justify="right", no_wrap=True)
        for row in rows:
            drawn.add_row(*row)
        console.print(drawn)
    for text in remarks(report):
        console.print(text, markup=False, highlight=False, style="dim")
    for text in noise(report):
        console.print(text, markup=False, highlight=False, style="bold yellow")


def heading(report: Report) -> str:
    """Return what was measured, and where, in one line."""
    model, machine, bandwidth = report.model, report.machine, report.bandwidth
    gigabytes = f"{bandwidth.copy / 1e9:.3g} GB/s copied, {bandwidth.read / 1e9:.3g} GB/s read"
    return (
        f"{model['name']}, {model['dtype']}, on {machine['device']}, {machine['threads']} "
        f"thread{'' if machine['threads'] == 1 else 's'}, {gigabytes}, {machine['date']}"
    )


def _speed(report: Report) -> Table:
    heads = ("context", "workers", "ms/tick", "quartiles", "tokens/s")
    against = {SINGLE: "x single", PLAIN: "x plain", BATCH: "x batch", CONCATENATING: "x concat."}
    rows = []
    for cell in report.cells:
        tick = cell.times[ENGINE]
        rows.append(
            (
                *_place(cell),
                f"{tick.median:.4g}",
                f"{tick.low:.4g}-{tick.high:.4g}",
                f"{cell.tokens_per_second:.4g}",
                *(_number(cell.gain(name), ".2f") for name in against),
            )
        )
    title = "Speed: ticks of the engine; tokens per second over those of the baselines"
    return title, (*heads, *against.values()), rows


def _floors(report: Report) -> Table:
    speed, what = report.floor_speed
    floors = ("products", "over", "own", "over", "floor", "over")
    baselines = (SINGLE, PLAIN, BATCH, CONCATENATING)
    rows = []
    for cell in report.cells:
        tick, floor = cell.times[ENGINE].median, cell.floor(speed)
        rows.append(
            (
                *_place(cell),
                f"{tick:.4g}",
                f"{cell.times[PRODUCTS].median:.4g}",
                _number(cell.over(PRODUCTS), ".2f"),
                _median(cell, OWN),
                _number(cell.over(OWN), ".2f"),
                f"{floor:.4g}",
                f"{tick / floor:.2f}",
                *(_median(cell, name) for name in baselines),
            )
        )
    title = f"Floors (bare matrix products; all bytes once at the {what} bandwidth), baselines: ms"
    heads = ("context", "workers", "ms/tick", *floors, "single", "plain", "batch", "concat.")
    return title, heads, rows


def _shares(report: Report) -> Table:
    names = ("model", "attention", "sampling", "planning")
    rows = []
    for cell in report.cells:
        runtime, memory = report.runtime(cell.workers), cell.memory.get(ENGINE)
        shares = {} if cell.shares is None else asdict(cell.shares)
        rows.append(
            (
                *_place(cell),
                *(_number(shares.get(name), ".1%") for name in names),
                _number(None if runtime is None else runtime.added.over(runtime.bare), "+.1%"),
                _number(None if runtime is None else runtime.added.median, ".3g"),
                _mebibytes(None if memory is None else memory.cache),
                _mebibytes(None if memory is None else memory.peak),
            )
        )
    heads = ("context", "workers", *names, "runtime adds", "ms", "keys+values", "a tick takes")
    return "Where time and memory go: shares of a bare tick, what a team adds, MiB", heads, rows


def _prefill(one: Prefill) -> str:
    return (
        f"A prompt's chunk of {one.chunk} tokens takes {one.alone.median:.4g} ms alone; in one "
        f"tick with {counted(one.workers, 'worker')} it takes {one.together.median:.4g} ms, "
        f"{one.over:.2f} times as long as both one after the other."
    )


def _place(cell: Cell) -> tuple[str, str]:
    return short(cell.context), str(cell.workers)


def _median(cell: Cell, name: str) -> str:
    return f"{cell.times[name].median:.4g}" if name in cell.times else "-"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _mebibytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 2**20:.4g}"
