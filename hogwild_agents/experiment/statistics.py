"""Statistics: means and paired differences with 95 % intervals, and what speaks against chance.

The unit is the problem. Several runs on one problem (one for each seed) are averaged first, for
they may be as good as one: a greedy team gives the same run for every seed.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

Z = NormalDist().inv_cdf(0.975)
_MOST_SUMS = 1_000
_DRAWS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; None where there are too few problems for one."""

    value: float
    low: float | None
    high: float | None

    def scaled(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        return Estimate(self.value * factor, low, high)

    def show(self, digits: int, unit: str = "", sign: str = "") -> str:
        """Return it as ``99.2 % [98.0, 99.7]``; with the sign ``+``, so are numbers above 0."""
        form = f"{sign}.{digits}f"
        value = f"{self.value:{form}}{unit}"
        if self.low is None or self.high is None:
            return value
        return f"{value} [{self.low:{form}}, {self.high:{form}}]"


def share(means: Sequence[float], runs: int) -> Estimate:
    """Return the mean of the problems' shares of hits, with Wilson's interval.

    Its number of runs is the effective one, from the problems alone if all seeds agree to all of
    the runs if they are independent (at shares of 0 and 1, where none can tell, the problems).

    Args:
        means: the share of hits on each problem, at least one.
        runs: how many there are together.
    """
    value = fmean(means)
    between = sum((one - value) ** 2 for one in means)
    number = float(len(means))
    if between > 0:
        number = min(max(value * (1 - value) * number**2 / between, number), float(runs))
    spread = Z * Z / number
    middle = (value + spread / 2) / (1 + spread)
    half = Z * math.sqrt(value * (1 - value) / number + spread / (4 * number)) / (1 + spread)
    return Estimate(value, max(middle - half, 0.0), min(middle + half, 1.0))


def average(means: Sequence[float], *, least: float = -math.inf) -> Estimate:
    """Return the mean over the problems (at least one) with Student's interval.

    Args:
        means: the mean of each problem's runs.
        least: what no mean can be below.
    """
    value = fmean(means)
    if len(means) < 2:
        return Estimate(value, None, None)
    half = t_quantile(len(means) - 1) * math.sqrt(variance(means, value) / len(means))
    return Estimate(value, max(value - half, least), value + half)


def ratio(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """Return the ratio of two means over the same problems, with Student's interval.

    It is that of the linearised ratio: of the mean of ``x - ratio * y``, over the mean of ``y``.
    So a problem that is long for both sides makes it no wider.

    Args:
        pairs: a problem's means (x, y), at least one pair; the mean of y is above 0.
    """
    below = fmean(y for _, y in pairs)
    value = fmean(x for x, _ in pairs) / below
    rest = average([(x - value * y) / below for x, y in pairs])
    if rest.low is None or rest.high is None:
        return Estimate(value, None, None)
    return Estimate(value, value + rest.low, value + rest.high)


def share_difference(differences: Sequence[float]) -> Estimate:
    """Return the mean difference of paired shares with the interval of Bonett and Price (2012).

    Theirs is the normal interval after one problem more has spoken for each side, so that it
    does not vanish where no problem has told the two apart.
    """
    more = [*differences, 1.0, -1.0]
    middle = fmean(more)
    half = Z * math.sqrt(sum((one - middle) ** 2 for one in more)) / len(more)
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate(fmean(differences), low, high)


def sign_flip(differences: Sequence[float]) -> float:
    """Return how often chance alone gives a mean difference at least as far from 0 (two-sided).

    If the two sides were alike, each problem's difference could as well have had the other sign.
    All signs are gone through where that can be done by adding up equal sums (for a difference of
    right and wrong it is then McNemar's exact test); else 10,000 of them are drawn.
    """
    moved = [abs(one) for one in differences if one]
    if not moved:
        return 1.0
    least = abs(sum(differences)) - 1e-9 * sum(moved)
    sums = _sums_of_signs(moved)
    if sums is not None:
        return sum(chance for total, chance in sums.items() if abs(total) >= least)
    hits = sum(abs(total) >= least for total in _drawn_sums(moved))
    return (1 + hits) / (1 + _DRAWS)


def _sums_of_signs(sizes: Sequence[float]) -> dict[float, float] | None:
    """Return the probability of each sum under all signs; None if there are too many sums."""
    sums = {0.0: 1.0}
    for size in sizes:
        after: defaultdict[float, float] = defaultdict(float)
        for total, chance in sums.items():
            after[round(total + size, 9)] += chance / 2
            after[round(total - size, 9)] += chance / 2
        if len(after) > _MOST_SUMS:
            return None
        sums = after
    return sums


def _drawn_sums(sizes: Sequence[float]) -> Iterator[float]:
    """Yield sums under drawn signs; eight signs at a time, looked up by a random byte."""
    eights = [sizes[start : start + 8] for start in range(0, len(sizes), 8)]
    tables = [[_signed(eight, byte) for byte in range(256)] for eight in eights]
    rng = random.Random(0)
    for _ in range(_DRAWS):
        yield sum(map(list.__getitem__, tables, rng.randbytes(len(tables))))


def _signed(sizes: Sequence[float], signs: int) -> float:
    return sum(size if signs >> index & 1 else -size for index, size in enumerate(sizes))


def holm(chances: Sequence[float]) -> list[float]:
    """Return the p-values of one family adjusted for its size, by Holm's way, in their order."""
    adjusted = [0.0] * len(chances)
    highest = 0.0
    order = sorted(range(len(chances)), key=lambda index: chances[index])
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = highest
    return adjusted


def t_quantile(freedom: int, probability: float = 0.975) -> float:
    """Return the quantile of Student's t, for a probability above one half."""
    low, high = 0.0, 1.0
    while t_below(high, freedom) < probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_below(middle, freedom) < probability else (low, middle)
    return high


def t_below(value: float, freedom: int) -> float:
    """Return how likely Student's t is below a value of at least 0.

    The closed sums of Abramowitz and Stegun, 26.7.3 and 26.7.4; from 1,000 degrees of freedom on
    the correction of the normal distribution, 26.7.8.
    """
    if freedom >= 1000:
        normal = value * (1 - 1 / (4 * freedom)) / math.sqrt(1 + value * value / (2 * freedom))
        return NormalDist().cdf(normal)
    angle = math.atan2(value, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for index in range(2 + odd, freedom - 1, 2):
        term *= (index - 1) / index * cosine * cosine
        total += term
    inside = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return (1 + inside) / 2
