"""Clock: counts the ticks and tokens of a run; says when a tick is over, and when it is enough."""

from __future__ import annotations

import time

from hogwild_agents.limits import Limits


class Clock:
    """The time of one run.

    A worker is *due* from the commit of a tick until it has handled the token that came of it. The
    tick is over when nobody is.

    Args:
        limits: when it is enough.

    Attributes:
        ticks: how many forward passes the thinking has taken so far.
        tokens: how many tokens all workers have sampled so far.
    """

    def __init__(self, limits: Limits) -> None:
        self.ticks = 0
        self.tokens = 0
        self._limits = limits
        self._due: set[str] = set()
        self._last_commit: int | None = None
        self._told = 0
        self._began: float | None = None
        self._seconds: float | None = None

    @property
    def seconds(self) -> float:
        """How long the thinking has taken so far."""
        if self._seconds is not None:
            return self._seconds
        return 0.0 if self._began is None else time.perf_counter() - self._began

    @property
    def quiet(self) -> bool:
        """Whether all workers have handled what came of the ticks so far."""
        return not self._due

    def start(self) -> None:
        """Begin to measure seconds."""
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Measure no further."""
        self._seconds = self.seconds

    def committed(self, name: str, tick: int, *, woken: bool) -> None:
        """Note a worker's part of a tick.

        Args:
            name: of the worker.
            tick: the coordinator's number of it.
            woken: whether the worker will be; not so while a long text is fed in parts.
        """
        if tick != self._last_commit:
            self._last_commit = tick
            self.ticks += 1
        if woken:
            self._due.add(name)

    def turn(self, name: str) -> bool:
        """Settle for a worker; return whether a tick is over that was not when last asked."""
        self._due.discard(name)
        if self._due or self._told == self.ticks:
            return False
        self._told = self.ticks
        return True

    def limit(self) -> str | None:
        """Return which limit is reached by the ticks, or by the tokens sampled so far."""
        limits = self._limits
        if limits.ticks is not None and self.ticks >= limits.ticks:
            return "ticks"
        return "tokens" if limits.tokens is not None and self.tokens >= limits.tokens else None
