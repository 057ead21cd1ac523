"""Link: integers from process 0 to all the others, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from hogwild_agents.errors import ParallelError

FIRST = 1024
"""Integers of the first broadcast of a message. A tick of a usual team takes one broadcast."""

_PATIENCE = timedelta(days=3650)
"""A leader may be idle for as long as it likes; that it has died is told by its connection."""


class Link:
    """A group of its own on the CPU, in which process 0 speaks and the others listen.

    All processes make it together, and use it alike: each message is sent once and received once
    by every other process.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self.rank = dist.get_rank()
        self.processes = dist.get_world_size()
        self._first = torch.zeros(FIRST, dtype=torch.int64, device="cpu")

    @property
    def leads(self) -> bool:
        """Whether this is the process that speaks."""
        return self.rank == 0

    def send(self, message: Sequence[int]) -> None:
        """Send a message to all others.

        Raises:
            ParallelError: one of them is gone.
        """
        content = torch.tensor([len(message), *message], dtype=torch.int64, device="cpu")
        self._first[: len(content)] = content[:FIRST]
        try:
            dist.broadcast(self._first, 0, group=self._group)
            if len(content) > FIRST:
                dist.broadcast(content[FIRST:], 0, group=self._group)
        except RuntimeError as error:
            raise ParallelError(
                f"Another of the {self.processes} processes of this model has ended "
                f"({reason_of(error)}): start them all anew."
            ) from error

    def receive(self) -> list[int]:
        """Wait for the next message.

        Raises:
            ParallelError: process 0 is gone.
        """
        try:
            dist.broadcast(self._first, 0, group=self._group)
            content = self._first.clone()
            missing = int(content[0]) + 1 - FIRST
            if missing > 0:
                rest = torch.empty(missing, dtype=torch.int64, device="cpu")
                dist.broadcast(rest, 0, group=self._group)
                content = torch.cat([content, rest])
        except RuntimeError as error:
            raise ParallelError(
                f"Process 0 has ended and left process {self.rank} without a leader "
                f"({reason_of(error)}): start all processes anew."
            ) from error
        message: list[int] = content.tolist()
        return message[1 : 1 + message[0]]

    def agree(self, facts: Sequence[int]) -> list[Sequence[int]]:
        """Return the facts that each process gives, in the order of their ranks."""
        found: list[Sequence[int]] = [()] * self.processes
        dist.all_gather_object(found, tuple(facts), group=self._group)
        return found

    def close(self) -> None:
        """Leave the group; who still waits for a message is told. Again changes nothing."""
        group, self._group = self._group, None
        if group is not None:
            dist.destroy_process_group(group)


def reason_of(error: BaseException) -> str:
    """Return the first sentence of an error, without the line of code that torch puts before it."""
    text = re.sub(r"^\[[^]]*\] ", "", " ".join(str(error).split()))
    first = re.split(r"(?<=[.!?]) ", text, maxsplit=1)[0]
    return first.rstrip(".!") or type(error).__name__
