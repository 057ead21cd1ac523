"""Columns: tables, and names with a text beside each, on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

__all__ = ["print_columns", "print_table"]

WIDE = 10_000
"""More columns than any table has."""


def print_table(console: Console, table: Table) -> None:
    """Print a table of which no number is ever cut.

    On a terminal that is too narrow, its lines are longer than the terminal's. Elsewhere nothing is
    wrapped. No line ends in blanks.
    """
    everything = console.options.update(max_width=WIDE)
    least, most = Measurement.get(console, everything, table)
    table.width = min(most, max(console.width, least)) if console.is_terminal else most
    with console.capture() as capture:
        console.print(table, crop=False)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_columns(rows: Iterable[tuple[str, str]], *, style: str) -> None:
    """Print names, and texts beside them.

    On a terminal the texts are wrapped in their column. Elsewhere nothing is wrapped, and no line
    ends in blanks: a text is one line unless it has newlines of its own.

    Args:
        rows: each a name and a text.
        style: of the names on a terminal.
    """
    console = Console(highlight=False)
    found = list(rows)
    if not console.is_terminal:
        width = max((len(name) for name, _ in found), default=0) + 2
        for name, text in found:
            print(f"{name:{width}}{text}".replace("\n", "\n" + " " * width))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style=style, no_wrap=True)
    table.add_column()
    for name, text in found:
        table.add_row(Text(name), Text(text))
    console.print(table)
