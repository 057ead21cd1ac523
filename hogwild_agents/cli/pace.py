"""Pace: slows a run down, so that a person can follow it."""

from __future__ import annotations

import anyio

from hogwild_agents import Observer, TickEnded


class Pace(Observer):
    """Holds up the next tick until it is due.

    Args:
        ticks_per_second: how many there may be, above 0.
    """

    timeout = None

    def __init__(self, ticks_per_second: float) -> None:
        self._seconds = 1 / ticks_per_second
        self._due = 0.0

    async def on_tick_ended(self, event: TickEnded) -> None:
        """Wait. What a slow tick has cost is not made up for by the next."""
        self._due = max(self._due + self._seconds, anyio.current_time())
        await anyio.sleep_until(self._due)
