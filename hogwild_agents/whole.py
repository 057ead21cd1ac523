"""Whole: which values are whole numbers."""

from __future__ import annotations

from numbers import Integral

__all__ = ["is_whole"]


def is_whole(value: object) -> bool:
    """Whether a value is a whole number of any library; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, Integral)
