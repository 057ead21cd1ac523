"""Answers: what stands in a box."""

from __future__ import annotations

BOX = "\\boxed{"


def find_boxed(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{...}`` in a text, or None.

    Braces inside the box are balanced; ``\{`` and ``\}`` don't count. The content is a string,
    stripped of surrounding blanks: what it means is the reader's business.
    """
    start = text.rfind(BOX)
    while start >= 0:
        content = _balanced(text, start + len(BOX))
        if content is not None:
            return content.strip()
        start = text.rfind(BOX, 0, start)
    return None


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    index = start
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if not depth:
                return text[start:index]
        index += 1
    return None
