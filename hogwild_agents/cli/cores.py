"""Cores: how many a container lets the process use.

torch starts a thread for each core that it sees. In a container with a quota it sees all of the
machine's, and its threads then wait for each other while the system holds some of them back.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from hogwild_agents.control_groups import GROUPS, MOUNT, folders, read


def fewer(groups: Path = GROUPS, mount: Path = MOUNT) -> int | None:
    """Return how many threads suit a quota, if that is less than the cores that one sees."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(_quotas(groups, mount), default=math.inf)
    return max(1, math.floor(cores + 0.5)) if cores < seen else None


def _quotas(groups: Path, mount: Path) -> Iterator[float]:
    """Yield the quotas of a process's control groups, in cores."""
    for folder in folders("cpu", groups, mount):
        yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """Yield what one group allows, by either version of Linux's control groups."""
    both = read(folder / "cpu.max").split()  # "max 100000", or microseconds and their period
    if not both:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        both = [part for name in names for part in read(folder / name).split()]
    if len(both) == 2 and both[0].isdecimal() and int(both[1]):
        yield int(both[0]) / int(both[1])
