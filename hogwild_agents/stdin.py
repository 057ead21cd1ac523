"""Standard input, line by line, for one task among others.

No thread reads, for nothing could stop it: a program that is done would wait for one more line of
it, or break if it were a daemon. The event loop waits until the descriptor has something instead.
What is read is never more than the line, so that ``input()`` goes on behind it.
"""

from __future__ import annotations

import io
import os
import select
import sys

import anyio
import anyio.to_thread

from hogwild_agents.errors import UsageError


async def read_line() -> str:
    """Return the next line, with its newline if it has one; nothing at the end of the input.

    Cancelled in the middle of a line, it has taken what there was of that. What ``sys.stdin`` has
    read ahead of a pipe, say for an ``input()`` before, is passed over.

    Raises:
        UsageError: another task reads it.
    """
    if sys.stdin is None or sys.stdin.closed:  # a program without a console
        return ""
    try:
        descriptor = sys.stdin.fileno()
    except io.UnsupportedOperation:  # it is none of the system's
        return await _read_in_thread()
    if sys.platform == "win32":  # it cannot wait for a console
        return await _read_in_thread()
    return await _read_descriptor(descriptor)


async def _read_in_thread() -> str:
    return await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)


async def _read_descriptor(descriptor: int) -> str:
    line = bytearray()
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], 0)[0]:
            await _until_readable(descriptor)
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line.decode(sys.stdin.encoding or "utf-8", errors="replace")


async def _until_readable(descriptor: int) -> None:
    try:
        await anyio.wait_readable(descriptor)
    except anyio.BusyResourceError as error:
        raise UsageError(
            "Two workers read standard input at once: let one TypingWorker do so, and give the "
            "others lines of their own."
        ) from error
