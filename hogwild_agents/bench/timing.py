"""Timing: contestants in turn, round after round, and what the numbers of all rounds say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import torch

NOISY = 0.10
"""The largest spread of the single sequence over the rounds at which figures can be compared."""


class Runner(Protocol):
    """What can be timed."""

    def reset(self) -> None:
        """Go back to the beginning; this is not timed."""
        ...

    def tick(self) -> None:
        """Do what is timed."""
        ...


@dataclass(frozen=True)
class Timing:
    """Milliseconds per tick of one contestant, one value a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What counts."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The first quartile."""
        return quantile(self.values, 0.25)

    @property
    def high(self) -> float:
        """The third quartile."""
        return quantile(self.values, 0.75)

    @property
    def spread(self) -> float:
        """The distance of the quartiles, as a share of the median."""
        return (self.high - self.low) / self.median

    def over(self, other: Timing) -> float:
        """Return how many times longer than another it took, by the median of the rounds."""
        pairs = zip(self.values, other.values, strict=True)
        return median(one / two for one, two in pairs)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds of a call, with all the device's work that it starts."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return (time.perf_counter() - start) * 1e3


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has nothing left to do; on a CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.ones(1, device=device).item()  # which is done after all else


def take_turns(
    contestants: Mapping[str, Runner], device: torch.device, *, rounds: int, ticks: int
) -> dict[str, Timing]:
    """Measure all contestants in each round, forwards and backwards by turns.

    Args:
        contestants: by name.
        device: where they run.
        rounds: how many values each of them gets.
        ticks: timed in each turn, after one that is not; their median is the round's value.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(turn(contestants[name], device, ticks))
    return {name: Timing(tuple(values)) for name, values in found.items()}


def turn(contestant: Runner, device: torch.device, ticks: int) -> float:
    """Return the median of a few ticks, in milliseconds."""
    contestant.reset()
    contestant.tick()
    return median(timed(contestant.tick, device) for _ in range(ticks))


def quantile(values: tuple[float, ...], share: float) -> float:
    """Return the value below which a share of all lies, between neighbours by the distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
