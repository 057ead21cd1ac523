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


class Event(Protocol):
    """What lets tasks wait, as anyio's does."""

    def set(self) -> None:
        """Let go on all who wait."""

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
        event: makes an event.
    """

    ready: Sized | None
    now: Callable[[], float]
    turn: Callable[[], Awaitable[None]]
    event: Callable[[], Event]


def running_loop() -> EventLoop:
    """Return the running event loop."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return EventLoop(None, trio.current_time, trio.lowlevel.checkpoint, trio.Event)
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", None)
    if not isinstance(ready, Sized):
        ready = None
    return EventLoop(ready, loop.time, partial(asyncio.sleep, 0), asyncio.Event)
