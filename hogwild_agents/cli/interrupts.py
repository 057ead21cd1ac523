"""Interrupts: Ctrl-C while modules are imported and a model is loaded ends the program at once.

A KeyboardInterrupt raised in there is not safe. Extension modules swallow it, and the program
goes on as if nobody had pressed a key; numpy takes its own half-done import for a module and
recurses for ever; transformers turns it into a ModuleNotFoundError.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

__all__ = [
    "INTERRUPTED",
    "SENTENCE",
    "TERMINATED",
    "end_at_once",
    "ends_at_once",
    "second_ends",
    "tidied",
]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""
TERMINATED = 143
"""That after SIGTERM."""
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
SENTENCE = "hogwild: interrupted before there was anything to keep."
_SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def ends_at_once(tidy: Callable[[], object] | None = None) -> Iterator[None]:
    """While it lasts, Ctrl-C ends the program there and then, with one sentence and code 130.

    Who ignores the signal, or has a handler of their own, keeps it.

    Args:
        tidy: called before the end, to give the terminal back.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def end(number: int, frame: object) -> None:
        # The signal may have come in the midst of writing to the same streams.
        with suppress(Exception):
            if tidy is not None:
                tidy()
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(OSError):
            if tidy is not None and os.isatty(2):  # for what is still in a buffer is lost
                os.write(2, _SHOW_CURSOR)
            os.write(2, f"{SENTENCE}\n".encode())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is end:  # what was imported may have set its own
            signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End the program there and then, with the exit code that shells have for a signal."""
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(_CODES[signal.Signals(number)])


@contextmanager
def tidied(tidy: Callable[[], object]) -> Iterator[None]:
    """While it lasts, something is done before a signal ends the program there and then.

    What raises a KeyboardInterrupt, or is ignored, does not; nor does anything in other threads.

    Args:
        tidy: called before the end, to take away what is not done.
    """

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(Exception):
            tidy()
        former = before[signal.Signals(number)]
        if callable(former):
            former(number, frame)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    ours = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in _CODES if ours}
    ending = [one for one in before if before[one] in (end_at_once, signal.SIG_DFL)]
    for one in ending:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in ending:
            signal.signal(one, before[one])


@contextmanager
def second_ends(tidy: Callable[[], object] | None = None) -> Iterator[None]:
    """While it lasts, the second SIGINT or SIGTERM ends the program there and then.

    Also where the event loop is busy, and hears of none: whoever had a handler is told as well.
    To be entered where signals are heeded already, in the main thread.

    Args:
        tidy: called before the end, to give the terminal back.
    """
    heard: list[int] = []

    def heed(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if len(heard) > 1:
            with suppress(Exception):  # it may have come in the midst of writing
                if tidy is not None:
                    tidy()
            end_at_once(number, frame)  # a forward under way would be waited for
        former = before[signal.Signals(number)]
        if callable(former):
            former(number, frame)

    before = {one: signal.getsignal(one) for one in _CODES}
    for one in _CODES:
        signal.signal(one, heed)
    try:
        yield
    finally:
        for one, former in before.items():
            signal.signal(one, former)
