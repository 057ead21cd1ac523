"""Turns: the running event loop, and what it is about to run.

anyio looks up with every call which event loop there is, which takes longer than what it is asked
for; a coordinator asks several times for each token. So it looks once, and uses the loop's own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol


class Signal(Protocol):
    """What one task waits for, and another one sets once."""

    def set(self) -> None:
        """Let the task go on."""

    async def wait(self) -> object:
        """Wait until it is set."""


@dataclass(frozen=True)
class EventLoop:
    """What is asked of an event loop for every token.

    Attributes:
        ready: what it is about to run; None where it does not tell. While it is empty, nobody goes
            on until something comes from outside: a timer, a thread, a socket. Only asyncio's own
            loop has it: trio and uvloop do not.
        now: returns its time.
        turn: lets all others run who are about to, and lets a cancelled task find out.
        signal: makes what one task can wait for.
    """

    ready: Sized | None
    now: Callable[[], float]
    turn: Callable[[], Awaitable[None]]
    signal: Callable[[], Signal]


class _Future:
    """A signal for asyncio; its events let several tasks wait, and take twice as long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done():  # it is if the task that waits was cancelled
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


def running_loop() -> EventLoop:
    """Return the running event loop."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return EventLoop(None, trio.current_time, trio.lowlevel.checkpoint, trio.Event)
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", None)
    if not isinstance(ready, Sized):
        ready = None
    return EventLoop(ready, loop.time, partial(asyncio.sleep, 0), partial(_Future, loop))
