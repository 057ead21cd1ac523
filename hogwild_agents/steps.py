r"""Steps: where a worker's step ends.

A step ends at an empty line (``\n\n``) right after sentence punctuation of any script, but not
inside an open code block or an open ``$$`` formula (the paper, appendix A). All the newlines of the
run belong to the separator.

Code blocks are those of Markdown: a line that begins with three or more backticks or tildes opens
one, a line that ends with as many closes it. Backticks behind other text open one only if nothing
but a language follows (``**Alice [3]:** ```python``), so that a mere mention of them does not hold
a step open; tildes there need the language. Backtick spans within one line are skipped, and so
is what a backslash escapes.
"""

from __future__ import annotations

import re

# Unicode's Sentence_Terminal property, and what it leaves out though sentences end with it: the
# Greek question mark, the Tibetan shads, the ellipsis.
_RANGES = """
0021 002E 003F 037E 0589 061D-061F 06D4 0700-0702 07F9 0837 0839 083D-083E 0964-0965 0F0D-0F0E
104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D5 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F
1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C 1C7E-1C7F 2024 2026 203C-203D 2047-2049 2CF9-2CFB 2E2E
2E3C 2E53-2E54 2E60-2E61 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9
AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59
10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239
1123B-1123C 112A9 113D4-113D5 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944
11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38
16B44 16D6E-16D6F 16E98 1BC9F 1DA88
"""


def _characters(ranges: str) -> frozenset[str]:
    spans = (span.partition("-") for span in ranges.split())
    return frozenset(
        chr(code)
        for first, _, last in spans
        for code in range(int(first, 16), int(last or first, 16) + 1)
    )


SENTENCE_ENDS = _characters(_RANGES)
"""The characters that end a sentence, in any script."""

_MARK = re.compile(r"\\.|`+|~{3,}|\$\$")
_LINE_START = re.compile(r"(?:[\s>]|[-*+]\s|\d+[.)]\s)*")
_LANGUAGE = re.compile(r"\s*[A-Za-z][\w+#.-]*\s*")


def step_end(text: str) -> int | None:
    """Return the index just after the separator that ends this step, or None if it goes on.

    Args:
        text: one step's text so far, with or without its prefix. If a separator is in it, the
            first one counts.
    """
    return StepScanner().push(text)


class StepScanner:
    """:func:`step_end` of a step that grows piece by piece, each character looked at once."""

    def __init__(self) -> None:
        self._length = 0
        self._line: list[str] = []  # what the line so far is made of; empty after a newline
        self._fence = ""  # the marks that opened the code block we are in
        self._formula = False
        self._ready = False  # the last line ended a sentence, outside of code and formulas
        self._end: int | None = None

    @property
    def ready(self) -> bool:
        """Whether the step ends with the next newline, if that comes first."""
        return self._ready and not self._line

    def push(self, text: str) -> int | None:
        """Append text; return where the step ends, counted from its beginning, or None.

        Equal to ``step_end`` of all that was pushed. Once a step has ended, the index stays.
        """
        if self._end is not None:
            return self._end
        start = 0
        while (newline := text.find("\n", start)) >= 0:
            if newline > start:
                self._line.append(text[start:newline])
            start = newline + 1
            if self._line:
                self._end_line()
            elif self._ready:
                run = len(text) - start - len(text[start:].lstrip("\n"))
                self._end = self._length + start + run
                return self._end
        if start < len(text):
            self._line.append(text[start:])
        self._length += len(text)
        return None

    def _end_line(self) -> None:
        line = "".join(self._line)
        self._line = []
        if self._fence:
            closing = rf"{re.escape(self._fence[0])}{{{len(self._fence)},}}\s*$"
            if re.search(closing, line):
                self._fence = ""
        else:
            self._read_marks(line)
        self._ready = line[-1] in SENTENCE_ENDS and not self._fence and not self._formula

    def _read_marks(self, line: str) -> None:
        """Follow the formulas that a line opens and closes, and the code block it opens."""
        at = 0
        while (found := _MARK.search(line, at)) is not None:
            at, mark = found.end(), found[0]
            if mark == "$$":
                self._formula = not self._formula
            elif self._formula or mark[0] == "\\":
                continue
            elif mark[0] == "`" and (span := _closing_span(line, at, len(mark))):
                at = span
            elif len(mark) >= 3 and _opens_fence(line[: found.start()], mark, line[at:]):
                self._fence = mark
                return


def _closing_span(line: str, start: int, count: int) -> int | None:
    found = re.compile(rf"(?<!`)`{{{count}}}(?!`)").search(line, start)
    return found.end() if found else None


def _opens_fence(before: str, mark: str, after: str) -> bool:
    if _LINE_START.fullmatch(before) or _LANGUAGE.fullmatch(after):
        return True
    return mark[0] == "`" and not after.strip()
