"""Control groups: what Linux's say of the process, such as the limits of its container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""To which control groups the process belongs, and where these are described."""


def folders(controller: str, groups: Path = GROUPS, mount: Path = MOUNT) -> Iterator[Path]:
    """Yield the folders of the groups, by either version, that may limit something.

    Args:
        controller: what is limited, such as ``"cpu"``.
        groups: lists the groups of the process.
        mount: where they are described.
    """
    for line in read(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers and controller not in names:
            continue
        first = [mount / controller, mount / controllers]
        for root in first if controllers else [mount, mount / "unified"]:
            inner = root / path.lstrip("/")
            for folder in (inner, *inner.parents):
                yield folder
                if folder == root:
                    break


def read(file: Path) -> str:
    """Return what a file holds; nothing if it cannot be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
