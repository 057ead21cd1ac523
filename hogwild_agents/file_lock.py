"""FileLock: one writer of a file at a time, in this process or any other.

The lock is the system's own, on the open file: it ends with the file, or with its process, whatever
ends that. Who only reads takes no notice of it.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import IO

__all__ = ["is_taken", "open_whole", "take"]


def take(file: IO[bytes]) -> bool:
    """Take the lock of a file that is open for writing, until it is closed.

    Returns:
        False if another writer has it. What is no file on a disk, such as a pipe, has no lock and
        is free; so is a file where the system keeps no locks.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return True
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def is_taken(path: Path) -> bool:
    """Whether somebody is writing a file now; one that cannot be opened is nobody's."""
    if not path.is_file():
        return False  # to open a pipe and close it again would tell its reader that all is over
    try:
        with path.open("r+b") as file:
            return not take(file)
    except OSError:
        return False


def open_whole(path: Path) -> IO[bytes]:
    """Open a file for writing as ``open(path, "wb")`` does, but leave in it what it holds."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666))


if sys.platform == "win32":
    import msvcrt

    _FAR = 2**31 - 2
    """The byte that is locked: beyond the end, for what is locked there nobody else can read."""

    def _lock(file: IO[bytes]) -> None:
        place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
        os.lseek(file.fileno(), _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file.fileno(), place, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
