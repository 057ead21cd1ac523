"""Counts: numbers with what they count, in words."""

from __future__ import annotations

__all__ = ["counted", "inflected"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 run``, ``2,000 runs``."""
    return f"{number:,} {inflected(noun, number)}"


def inflected(noun: str, number: int) -> str:
    """Return a noun as it stands with a number: ``run`` with 1, ``runs`` with any other."""
    return noun if number == 1 else f"{noun}s"
