"""Lines: rich texts of one terminal line each, and what is done with them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

FAINT = "bright_black"


def rule(width: int, *, above: Sequence[int] = (), below: Sequence[int] = ()) -> Text:
    """Return a horizontal line that joins the bars above and below it."""
    marks = ["─"] * width
    for column in {*above, *below} & set(range(width)):
        marks[column] = "┴" if column not in below else "┬" if column not in above else "┼"
    return Text("".join(marks), FAINT)


def overlay(line: Text, start: int, text: Text) -> Text:
    """Return the line with a text in place of what stood there."""
    return Text.assemble(line[:start], text, line[start + text.cell_len :])


def ends(left: Text, right: Text, width: int) -> Text:
    """Return a line with one text at each end; without room for both, the right one is left out."""
    gap = width - left.cell_len - right.cell_len - 1
    return left if gap < 1 else Text.assemble(left, " " * gap, right)


def clip(lines: list[Text], most: int, width: int) -> list[Text]:
    """Return at most so many of the lines; the last says if there were more."""
    if len(lines) <= most:
        return lines
    last = lines[most - 1].copy()
    last.append(" …")
    last.truncate(width, overflow="ellipsis")
    return [*lines[: most - 1], last]


def indent(line: Text) -> Text:
    """Return the line one column further to the right."""
    return Text.assemble(" ", line)


def fit(line: Text, width: int) -> Text:
    """Return the line as exactly ``width`` cells that are never wrapped."""
    fitted = line.copy()
    fitted.truncate(width, overflow="crop", pad=True)
    fitted.no_wrap = True
    fitted.overflow = "crop"
    return fitted


def filled(lines: list[Text], height: int) -> list[Text]:
    """Return the lines with empty ones after them, so many in all."""
    return lines + [Text()] * (height - len(lines))


def used(lines: Sequence[Text]) -> int:
    """Return how many lines there are up to the last that is not empty."""
    return max((index + 1 for index, line in enumerate(lines) if line.plain.strip()), default=0)
