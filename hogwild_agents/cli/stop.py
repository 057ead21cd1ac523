"""Stop: what signals do to many runs at once: all are given up, and the exit code says why."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio

from hogwild_agents.cli.interrupts import INTERRUPTED, TERMINATED, end_at_once, second_ends

__all__ = ["Stop"]


class Stop:
    """Heeds SIGINT and SIGTERM: the first gives all runs up, the second ends the program at once.

    A context manager: from the first signal until it is left, also while what was done is told,
    another signal ends the program.

    Attributes:
        code: the exit code that goes with the one that came first, as shells have it.
    """

    def __init__(self) -> None:
        self.code = INTERRUPTED
        self._before: dict[signal.Signals, Any] = {}  # handlers, once there is another

    @asynccontextmanager
    async def heeding(
        self, scope: anyio.CancelScope, tidy: Callable[[], object]
    ) -> AsyncIterator[None]:
        """Cancel a scope at the first signal.

        Args:
            scope: it may be entered later.
            tidy: called before the program is ended, to give the terminal back.
        """
        if sys.platform == "win32":
            yield  # no receiver there: Ctrl-C raises KeyboardInterrupt
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._heed, scope, tidy)
            yield
            group.cancel_scope.cancel()

    async def _heed(self, scope: anyio.CancelScope, tidy: Callable[[], object]) -> None:
        try:
            with (
                anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
                second_ends(tidy),
            ):
                async for number in signals:
                    self.code = INTERRUPTED if number == signal.SIGINT else TERMINATED
                    scope.cancel()
        finally:
            if scope.cancel_called:
                for one in (signal.SIGINT, signal.SIGTERM):
                    self._before[one] = signal.signal(one, end_at_once)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
