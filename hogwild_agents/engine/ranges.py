"""Ranges: which values an option may have, told in one sentence before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from hogwild_agents.errors import ConfigError

__all__ = ["is_count", "number", "require", "require_least_one"]


def is_count(value: object) -> bool:
    """Whether a value is a whole number of any library, from 0; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= 0


def number(value: Any) -> float:
    """Return a number of any library; what is none, as True is, compares as NaN does."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def require(name: str, value: object, holds: Callable[[Any], bool], range_: str) -> None:
    """Raise a ConfigError if a value does not hold what it must, in words: its range."""
    if not holds(value):
        raise ConfigError(f"{name} is {value!r}, but must be {range_}.")


def require_least_one(**values: object) -> None:
    """Raise a ConfigError if one of the values, by their names, is no count above 0, nor None."""
    for name, value in values.items():
        require(name, value, _is_least_one, "a whole number from 1, or None")


def _is_least_one(value: object) -> bool:
    return value is None or (is_count(value) and value != 0)
