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


def filled(column: Ints, count: int) -> Ints:
    """Return a column of so many numbers, of which the last ones repeat the last of this."""
    return column if len(column) == count else np.pad(column, (0, count - len(column)), "edge")


def on_device(numbers: Ints, device: torch.device) -> Tensor:
    """Return a tensor with these numbers, on a device."""
    return torch.from_numpy(numbers).to(device)


def all_on_device(columns: Sequence[Ints], device: torch.device) -> tuple[Tensor, ...]:
    """Return tensors with the numbers of some columns, brought to a device all at once."""
    table = torch.from_numpy(np.concatenate(columns))
    return torch.split(moved(table, device), [len(column) for column in columns])


def moved(table: Tensor, device: torch.device) -> Tensor:
    """Return a copy of a tensor of the host's on a device; the host does not wait for it."""
    return pinned(table, device).to(device, non_blocking=True, copy=True)


def pinned(table: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host's in memory from which a device fetches it by itself."""
    return table.pin_memory() if device.type == "cuda" else table
