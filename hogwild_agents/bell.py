"""Bell: lets any number of tasks wait for the next change of something that they look at."""

from __future__ import annotations

import anyio


class Bell:
    """Rung when something has changed.

    Look first and wait then, again and again: whoever was not waiting has not heard it.
    """

    def __init__(self) -> None:
        self._next: anyio.Event | None = None  # while somebody waits

    def ring(self) -> None:
        """Wake all who wait."""
        event, self._next = self._next, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Wait until it is rung."""
        if self._next is None:
            self._next = anyio.Event()
        await self._next.wait()
