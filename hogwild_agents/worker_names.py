"""Worker names: what workers are called whom nobody has named."""

from __future__ import annotations

NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi")


def worker_names(number: int) -> tuple[str, ...]:
    """Return the default names of so many workers; beyond the eighth they are numbered."""
    numbered = tuple(f"Worker{index}" for index in range(len(NAMES) + 1, number + 1))
    return NAMES[:number] + numbered
