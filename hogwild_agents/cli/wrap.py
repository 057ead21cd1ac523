"""GrowingText: styled text that only grows, wrapped again from its last line on."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

__all__ = ["GrowingText"]


class GrowingText:
    """Text that is written at its end, as lines of a given width.

    Appending costs as much as the last line is long, however much there is: a view that shows
    long texts many times a second can afford it.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[str, str]] = []
        self._lines: list[Text] = []
        self._last = Text()
        self._width = 0

    @property
    def pieces(self) -> int:
        """How many pieces were appended."""
        return len(self._pieces)

    def append(self, text: str, style: str) -> None:
        """Add a piece of text at the end."""
        self._pieces.append((text, style))
        self._last.append(text, style)

    def lines(self, width: int) -> list[Text]:
        """Return the text in lines of at most ``width`` cells; the last may be empty.

        Words that fit on a line are kept whole. A line has at least one character, so it is too
        wide where the character is.
        """
        if width != self._width:
            self._width = width
            self._lines, self._last = [], Text.assemble(*self._pieces)
        while (end := line_end(self._last.plain, width)) is not None:
            stop, begin = end
            line, rest = self._last[:stop], self._last[begin:]
            line.rstrip()
            self._lines.append(line)
            self._last = rest
        return [*self._lines, self._last]


def line_end(text: str, width: int) -> tuple[int, int] | None:
    """Return where the first line of a text stops and where the next begins; None if all fits."""
    used = 0
    word = 0
    for index, character in enumerate(text):
        if character == "\n":
            return index, index + 1
        if character == " ":
            used += 1
            word = index + 1
            continue
        used += cell_len(character)
        if used > width:
            stop = word if text[:word].strip() else max(index, 1)
            return stop, stop
    return None
