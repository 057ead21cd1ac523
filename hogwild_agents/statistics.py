"""Statistics: what a coordinator has done so far, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Meter", "Statistics"]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """A snapshot of a coordinator's work.

    Attributes:
        ticks: ticks committed; one that failed, or in which nobody fed anything, is not counted.
        tokens: tokens fed, prompts and forced text included.
        sampled: tokens sampled.
        seconds: time spent in committed ticks, from closing one to its last move, and in the
            forward of those that were computed ahead.
        batch_sizes: how many ticks had how many feeds.
        waiting_mean: how long a request waited for its tick to be closed, in seconds, on average:
            the price of waiting for the others, and for a forward that was begun ahead.
        waiting_max: the longest such wait.
        cache_used: tokens in the engine's cache.
        cache_budget: how many it may hold; ``None`` without a budget.
        seats: seats that have joined and not left.
        parked: how many of them are parked.
        thinking: the names of those that owe a feed: who holds up the next tick of a team.
        guessed: how many of the ticks were computed ahead, see :class:`CacheCoordinator`.
        misguessed: how many forwards were computed ahead in vain.
    """

    ticks: int
    tokens: int
    sampled: int
    seconds: float
    batch_sizes: Mapping[int, int]
    waiting_mean: float
    waiting_max: float
    cache_used: int
    cache_budget: int | None
    seats: int
    parked: int
    thinking: tuple[str, ...]
    guessed: int
    misguessed: int

    @property
    def tokens_per_second(self) -> float:
        """Sampled tokens of all seats per second spent in ticks; 0 before the first tick."""
        return self.sampled / self.seconds if self.seconds else 0.0

    @property
    def batch_mean(self) -> float:
        """Feeds per tick on average; 0 before the first tick."""
        feeds = sum(size * count for size, count in self.batch_sizes.items())
        return feeds / self.ticks if self.ticks else 0.0

    @property
    def batch_max(self) -> int:
        """Feeds of the largest tick; 0 before the first tick."""
        return max(self.batch_sizes, default=0)


class Meter:
    """Counts what :class:`Statistics` shows; the coordinator reads the clock.

    Attributes:
        ticks: how many ticks were committed: also the number of the latest one.
    """

    def __init__(self) -> None:
        self.ticks = self._tokens = self._sampled = self._waits = 0
        self._seconds = self._waited = self._waited_max = 0.0
        self._batch_sizes: Counter[int] = Counter()

    def waited(self, seconds: Sequence[float]) -> None:
        """Count requests whose tick was closed after so many seconds each."""
        self._waits += len(seconds)
        self._waited += sum(seconds)
        self._waited_max = max([self._waited_max, *seconds])

    def ticked(self, *, feeds: int, tokens: int, sampled: int, seconds: float) -> None:
        """Count one committed tick."""
        self.ticks += 1
        self._tokens += tokens
        self._sampled += sampled
        self._seconds += seconds
        self._batch_sizes[feeds] += 1

    def read(
        self,
        *,
        cache_used: int,
        cache_budget: int | None,
        seats: int,
        parked: int,
        thinking: tuple[str, ...],
        guessed: int,
        misguessed: int,
    ) -> Statistics:
        """Return a snapshot; what the meter cannot know is handed in."""
        return Statistics(
            ticks=self.ticks,
            tokens=self._tokens,
            sampled=self._sampled,
            seconds=self._seconds,
            batch_sizes=dict(sorted(self._batch_sizes.items())),
            waiting_mean=self._waited / self._waits if self._waits else 0.0,
            waiting_max=self._waited_max,
            cache_used=cache_used,
            cache_budget=cache_budget,
            seats=seats,
            parked=parked,
            thinking=thinking,
            guessed=guessed,
            misguessed=misguessed,
        )
