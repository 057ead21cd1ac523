"""Intervals: 95 % confidence intervals of shares, means and ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959964
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def show(self, digits: int, unit: str = "") -> str:
        """Return it as ``99.4 % [98.3, 99.8]``."""
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        return f"{self.value:.{digits}f}{unit} [{low}, {high}]"


def proportion(hits: int, runs: int) -> Estimate:
    """Return the share of hits with Wilson's interval; ``runs`` is at least 1."""
    share = hits / runs
    spread = Z * Z / runs
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / runs + spread / (4 * runs)) / (1 + spread)
    return Estimate(share, max(middle - half, 0.0), min(middle + half, 1.0))


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean with a bootstrap interval."""
    return ratio([(value, 1.0) for value in values])


def ratio(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Return the ratio of the means of both sides, with an interval by resampling the pairs."""
    import torch

    sides = torch.tensor(pairs, dtype=torch.float64)  # [runs, 2]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(pairs), (RESAMPLES, len(pairs)), generator=generator)
    means = torch.stack([sides[rows].mean(0) for rows in drawn])  # [resamples, 2]
    ratios = means[:, 0] / means[:, 1]
    low, high = torch.quantile(ratios, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    first, second = sides.mean(0).tolist()
    return Estimate(first / second, low, high)
