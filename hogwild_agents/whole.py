"""Whole: which values are whole numbers, and which are numbers at all."""

from __future__ import annotations

from numbers import Integral, Real

__all__ = ["is_above_zero", "is_whole"]


def is_whole(value: object) -> bool:
    """Whether a value is a whole number of any library; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def is_above_zero(value: object) -> bool:
    """Whether a value is a number above 0 of any library; True and NaN are none."""
    return not isinstance(value, bool) and isinstance(value, Real) and float(value) > 0
