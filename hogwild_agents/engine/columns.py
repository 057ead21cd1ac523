"""Columns: integers of a tick in arrays, since a tick of many teams has thousands of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints: TypeAlias = npt.NDArray[np.int64]
"""Integers, one or several a row."""


def ints(numbers: Sequence[int]) -> Ints:
    """Return a column of these numbers."""
    return np.array(numbers, np.int64)


def ends(counts: Ints) -> Ints:
    """Return where groups of so many rows, one after another, end."""
    return counts.cumsum()


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Return the numbers ``start`` to ``start + count - 1`` of each group, one after another."""
    last = ends(counts)
    shifts: Ints = np.repeat(starts - last + counts, counts)
    shifts += np.arange(len(shifts))
    return shifts


def on_device(numbers: Ints, device: torch.device) -> Tensor:
    """Return a tensor with these numbers, on a device."""
    return torch.from_numpy(numbers).to(device)
