"""Notices: what the engine warns of, as lines on stderr when nothing else is drawn there."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def engine_warnings() -> Iterator[None]:
    """Collect the engine's warnings; print each of them once, as one line, in the end."""
    from hogwild_agents.engine import LongContextWarning

    lines: dict[str, None] = {}
    with warnings.catch_warnings():
        show = warnings.showwarning

        def collect(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, LongContextWarning):
                lines[str(message)] = None
            else:
                show(message, category, filename, lineno, file, line)

        warnings.simplefilter("always", LongContextWarning)
        warnings.showwarning = collect
        try:
            yield
        finally:
            for text in lines:
                print(f"hogwild: {' '.join(text.split())}", file=sys.stderr)
