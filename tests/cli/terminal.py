"""A terminal for tests: a program on a pseudo-terminal, and what it writes."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
"""To the other screen of the terminal, and back."""
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
HOME = b"\x1b[H"
"""What each frame begins with."""
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs ``hogwild`` on a pseudo-terminal of a given size.

    Attributes:
        written: everything it has written so far.
    """

    def __init__(self, *arguments: str, cwd: Path, width: int = 80, height: int = 24) -> None:
        self.written = b""
        self._master, slave = os.openpty()
        self.resize(width, height)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hogwild_agents.cli", *arguments],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "xterm-256color"},
            preexec_fn=_own_the_terminal,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was written, without control sequences."""
        return without_escapes(self.written)

    @property
    def is_given_back(self) -> bool:
        """Whether it shows its first screen and the cursor, as before."""
        screen = self.written.count(ENTER) == self.written.count(LEAVE)
        return screen and self.written.rfind(SHOW_CURSOR) >= self.written.rfind(HIDE_CURSOR)

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def press_ctrl_c(self) -> None:
        """Press it: the terminal sends the signal."""
        os.write(self._master, b"\x03")

    def read_until(self, pattern: bytes, seconds: float = 60) -> None:
        """Read until something that a regular expression finds has been written."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.written):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.text!r}"
            assert self._read(0.1), f"ended without {pattern!r}: {self.text!r}"

    def finish(self, seconds: float = 60) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < deadline, f"goes on: {self.text!r}"
        return self._process.wait(10)

    def _read(self, seconds: float) -> bool:
        """Read what there is; return False at the end."""
        if select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux's end of file, when nobody holds the other side any more
                return False
            self.written += data
            return bool(data)
        return True


def without_escapes(written: bytes) -> str:
    """Return the text without control sequences."""
    return ESCAPE.sub(b"", written).replace(b"\r", b"").decode(errors="replace")


def _own_the_terminal() -> None:
    """Make the pseudo-terminal the one that Ctrl-C comes from."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
