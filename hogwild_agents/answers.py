"""Answers: what stands in a box."""

from __future__ import annotations

import re

BOX = "\\boxed{"

_DOTS = re.compile(r"\s*(?:(?:[.…]|\\[cl]?dots(?![a-zA-Z]))\s*)+")


def find_boxed(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{...}`` in a text, or None.

    Braces inside the box are balanced; ``\{`` and ``\}`` don't count. Nor does a box that holds
    only dots: so prompts speak of boxes, and models repeat it. The content is a string, stripped of
    surrounding blanks: what it means is the reader's business.
    """
    start = text.rfind(BOX)
    while start >= 0:
        content = _balanced(text, start + len(BOX))
        if content is not None and not is_dots(content):
            return content.strip()
        start = text.rfind(BOX, 0, start)
    return None


def is_dots(content: str) -> bool:
    """Whether there is nothing but dots, as in a box that stands for one to be filled."""
    return _DOTS.fullmatch(content) is not None


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
