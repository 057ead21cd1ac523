"""Turns: what an event loop is about to run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sized
from typing import Any


def ready_queue() -> Sized | None:
    """Return what the running event loop is about to run; None where it does not tell.

    While it is empty, nobody goes on until something comes from outside: a timer, a thread, a
    socket. Only asyncio's own loop has it: trio and uvloop do not.
    """
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return None
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    return ready if isinstance(ready, Sized) else None
