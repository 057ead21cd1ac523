"""Stray: cancellations that nobody has asked of the task in which they come up.

On asyncio a future or a task that somebody else has cancelled raises CancelledError in whoever
awaits it. Left alone, it passes for the end of that task: a task group then cancels all the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

import anyio

__all__ = ["unless_stray"]

T = TypeVar("T")


async def unless_stray(work: Awaitable[T], who: str) -> T:
    """Await some work; of a cancellation that is not meant for it, make an error like any other.

    Args:
        work: anybody's code.
        who: whose, for the error.

    Raises:
        RuntimeError: what the work awaited was cancelled, and the work itself was not.
    """
    try:
        return await work
    except asyncio.CancelledError as error:
        if _is_meant():
            raise
        raise RuntimeError(
            f"{who} awaited something that was cancelled elsewhere: catch asyncio.CancelledError "
            "there, or await what nobody cancels."
        ) from error


def _is_meant() -> bool:
    """Whether the running task, or a scope around it, was cancelled."""
    task = asyncio.current_task()
    asked = task is None or bool(task.cancelling())
    return asked or anyio.current_effective_deadline() == -math.inf
