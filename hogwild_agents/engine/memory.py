"""Memory: how much there is left."""

from __future__ import annotations

import re
from pathlib import Path

import torch


def available(device: torch.device) -> int | None:
    """Return how many bytes are free; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else None
