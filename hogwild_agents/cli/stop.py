"""Stop: what a signal does to many runs at once: all are given up, and the exit code says why."""

from __future__ import annotations

import signal
import sys

import anyio

from hogwild_agents.cli.interrupts import INTERRUPTED, TERMINATED, second_ends

__all__ = ["Stop"]


class Stop:
    """Waits for a signal.

    Attributes:
        code: the exit code that goes with the one that came first, as shells have it.
    """

    def __init__(self) -> None:
        self.code = INTERRUPTED

    async def heed(self, scope: anyio.CancelScope) -> None:
        """Cancel a scope at the first SIGINT or SIGTERM; the second one ends the program."""
        if sys.platform == "win32":
            return  # no receiver there: Ctrl-C raises KeyboardInterrupt
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, second_ends():
            async for number in signals:
                self.code = INTERRUPTED if number == signal.SIGINT else TERMINATED
                scope.cancel()
