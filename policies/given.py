"""Given: what a policy is given, looked at when the policy is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

from hogwild_agents import ConfigError


def require_whole(what: str, value: object, least: int = 1) -> None:
    """Check a whole number, such as an action may hold; True and False are none.

    Args:
        what: the error's beginning, which names the value.
        value: the number.
        least: what it is at least.

    Raises:
        ConfigError: it is none, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what}: give a whole number from {least}.")


def require_probability(what: str, value: object) -> None:
    """Check a probability above 0, or None for none; see :func:`require_whole`."""
    if value is not None and not 0 < number(value) <= 1:
        raise ConfigError(f"{what}: give a probability above 0.")


def require_function(name: str, value: Callable[..., Any] | None) -> None:
    """Check a function that is called later, or None for none.

    Raises:
        ConfigError: it cannot be called.
    """
    if value is not None and not callable(value):
        raise ConfigError(f"{name} is {value!r}, but must be a function.")


def number(value: object) -> float:
    """Return a number of any library; what is none, as True is, compares as NaN does."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
