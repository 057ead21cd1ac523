"""Two real processes that share a model, joined by a file: no port is chosen by anybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers.distributed.configuration_utils import DistributedConfig

ROOT = Path(__file__).parents[2]

SHARES_EXPERTS = "ep_size" in {field.name for field in fields(DistributedConfig)}
"""Whether transformers can share out the experts of gpt-oss: 5.17 cannot."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, and what it wrote."""

    code: int
    out: dict[str, Any]
    err: str


class Processes:
    """Processes 0 to count - 1 of ``tests.parallel.rank``; leaving the scope ends them all.

    Args:
        scene: what they do.
        folder: where models and the file that joins them are.
    """

    def __init__(self, scene: str, folder: Path, *, count: int = 2) -> None:
        (folder / f"{scene}.store").unlink(missing_ok=True)  # of the last ones in this folder
        self._errors = [folder / f"{scene}.{rank}.err" for rank in range(count)]
        self._each = [self._start(scene, folder, rank, count) for rank in range(count)]

    def _start(self, scene: str, folder: Path, rank: int, count: int) -> subprocess.Popen[str]:
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "OMP_NUM_THREADS": 1}
        with self._errors[rank].open("w") as errors:  # a pipe would fill up, with nobody to read it
            return subprocess.Popen(
                [sys.executable, "-m", "tests.parallel.rank", scene, str(folder)],
                cwd=ROOT,
                env=os.environ | {name: str(value) for name, value in own.items()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def wait_for(self, rank: int, line: str) -> None:
        """Wait until a process writes this line."""
        stream = self._each[rank].stdout
        assert stream is not None
        found = stream.readline().strip()
        assert found == line, found + self._written(rank)

    def say(self, rank: int, line: str) -> None:
        """Give a line to a process that waits for one."""
        stream = self._each[rank].stdin
        assert stream is not None
        stream.write(f"{line}\n")
        stream.flush()

    def kill(self, rank: int) -> None:
        """End a process without a warning."""
        self._each[rank].kill()

    def ends(self, rank: int, *, seconds: float = 240) -> Ended:
        """Wait for the end of a process.

        Raises:
            TimeoutExpired: it has not ended in time.
        """
        out, _ = self._each[rank].communicate(timeout=seconds)
        lines = out.strip().splitlines()
        result = json.loads(lines[-1]) if lines else {}
        return Ended(self._each[rank].returncode, result, self._written(rank))

    def _written(self, rank: int) -> str:
        return self._errors[rank].read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._each:
            process.kill()
            process.communicate()
