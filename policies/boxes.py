"""Boxes: the answers that workers box by themselves, and when two of them are equal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from hogwild_agents import TokensWritten, find_boxed

Normalise: TypeAlias = Callable[[str], str]
"""Gives equal answers the same form."""


class Boxes:
    r"""Finds each ``\boxed{...}`` that a worker completes by itself, token by token.

    Only sampled text counts: a box in the prompt, or in what a policy made a worker say, is no
    answer, and neither is one that is empty or holds dots only.

    Args:
        opening: a text that opens a box for a worker to fill when a policy has it said; the box
            then counts as the worker's.
    """

    def __init__(self, opening: str | None = None) -> None:
        self._opening = None if opening is None else opening.strip()
        self._texts: dict[str, str] = {}

    def push(self, event: TokensWritten) -> str | None:
        """Return the content of the box that these tokens close, if they close one."""
        if event.source == "forced":
            self._texts[event.worker] = event.text if event.text.strip() == self._opening else ""
            return None
        text = self._texts.get(event.worker, "") + event.text
        found = (find_boxed(text) or None) if "}" in event.text else None
        # What comes behind a box that was found does not find it again.
        self._texts[event.worker] = text if found is None else text.rpartition("}")[2]
        return found


_TYPESETTING = re.compile(r"\\left|\\right|\\[,;:! ]|\$|~")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]frac\b")
_AROUND = re.compile(r"\s*([,;:=+\-*/^(){}\[\]|<>])\s*")
_DECIMALS = re.compile(r"(?<![\w.])(\d+)\.(\d*?)0*(?![\w.])")


def normalise_answer(answer: str) -> str:
    r"""Return an answer in a form that is the same for answers which only look different.

    What LaTeX merely typesets is left out (``$``, ``\left``, ``\,``, ``\text{...}``), and so are
    blanks around operators, a full stop at the end and zeros at the end of decimals; ``\dfrac`` is
    ``\frac``; words are compared without case, single letters are not. Nothing is computed:
    ``1/2`` and ``0.5`` stay different.
    """
    form = answer
    while (simpler := _simplify(form)) != form:
        form = simpler
    letters = form.replace(" ", "")
    return form.casefold() if len(letters) > 2 and letters.isalpha() else form


def _simplify(text: str) -> str:
    """Return a text that is shorter, or the same; what is left out may bring more together."""
    text = _TYPESETTING.sub(" ", text)
    text = _WRAPPED.sub(r"\1", text)
    text = _FRACTION.sub(r"\\frac", text)
    text = _AROUND.sub(r"\1", " ".join(text.split()))
    text = text.removesuffix(".").removeprefix("+").strip()
    return _DECIMALS.sub(_shorten, text)


def _shorten(number: re.Match[str]) -> str:
    whole, decimals = number[1], number[2]
    return f"{whole}.{decimals}" if decimals else whole
