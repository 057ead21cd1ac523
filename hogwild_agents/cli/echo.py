"""Echo: what is typed while a live view is shown would stand in the middle of it, ``^C`` too."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["Echo"]


class Echo:
    """Keeps the terminal from showing what is typed. Where there is none, it does nothing."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def stop(self) -> None:
        """Show no key from now on; Ctrl-C is heeded as before."""
        if not _is_ours():
            return
        import termios

        mode = termios.tcgetattr(sys.stdin)
        self._before = list(mode)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(sys.stdin, termios.TCSANOW, mode)

    def give_back(self) -> None:
        """Show keys as before. Doing it again changes nothing."""
        mode, self._before = self._before, None
        if mode is None or not _is_ours():
            return
        import termios

        termios.tcsetattr(sys.stdin, termios.TCSANOW, mode)


def _is_ours() -> bool:
    """Whether stdin is a terminal that this process has; in the background it would be stopped."""
    if sys.platform == "win32" or sys.stdin is None or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False
