"""Memory: how much a few ticks take beyond what was there before."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_above(call: Callable[[], object], device: torch.device) -> int | None:
    """Return by how many bytes memory rose at most while a call ran; None where none can tell.

    On a GPU torch's allocator tells; on Linux the kernel does, which counts whole pages and what
    other threads of the process take.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if not _give_back():
        return None
    resident = _status("VmRSS")
    call()
    highest = _status("VmHWM")
    return None if resident is None or highest is None else max(0, highest - resident)


def peak_of_process(device: torch.device) -> int | None:
    """Return the most bytes that this process has had; of a GPU's memory, since a reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _give_back() -> bool:
    """Give freed memory back to the system and let the kernel count its peak anew."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # with other C libraries the peak looks smaller
    try:
        descriptor = os.open(_CLEAR, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, b"5")
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _status(name: str) -> int | None:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else None
