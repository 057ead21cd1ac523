"""Agreement: whether one way to compute gives what another one gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_EXACT = {torch.float32: 4e-6}
"""The largest relative difference in a dtype; of others it is one step of their mantissa."""
_MOST = 0.01
"""Of the numbers in half precision so many may be rounded the other way."""


def agree(
    one: Callable[..., Tensor],
    other: Callable[..., Tensor],
    *states: Tensor,
    most: float = _MOST,
) -> bool:
    """Return whether two functions give the same for some states, but for how sums are rounded.

    What raises agrees with nothing.

    Args:
        one, other: the functions.
        states: what both are given.
        most: how many of the numbers in half precision may be rounded the other way, as a share.
    """
    try:
        with torch.no_grad():
            left, right = one(*states), other(*states)
    except Exception:
        return False
    return same(left, right, most=most)


def same(left: Tensor, right: Tensor, *, most: float = _MOST) -> bool:
    """Return whether results are the same but for how sums are rounded; see :func:`agree`."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    step = _EXACT.get(left.dtype, torch.finfo(left.dtype).eps)
    close = torch.isclose(left, right, rtol=step, atol=step * float(right.abs().mean()))
    alike = (left == right).float().mean()
    return bool(close.all()) and (left.dtype in _EXACT or float(alike) >= 1 - most)
