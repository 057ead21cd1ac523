"""Columns: names with a text beside each, for people on a terminal and for programs in a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_columns"]


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
