"""Ending: what ends a run, and the scope that is cancelled for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from hogwild_agents.actions import Conclude, Finish


class Ending:
    """Why a run ends; the first of each kind counts.

    Attributes:
        failure: what broke the run.
        outcome: the action of a policy.
        stopped: why somebody stopped it from outside.
        limit: which limit was reached. The others end a phase at once; a limit is noted first,
            so that all workers can handle their last tokens.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.outcome: Finish | Conclude | None = None
        self.stopped: str | None = None
        self.limit: str | None = None
        self._scope: anyio.CancelScope | None = None
        self._over = anyio.Event()

    @property
    def reason(self) -> str:
        """What ended the run, if not an answer; ``"left"`` where all workers just were done."""
        if self.failure is not None:
            return "failed"
        return self.stopped or self.limit or "left"

    @property
    def natural(self) -> bool:
        """Whether nothing of all this has happened."""
        return self.outcome is None and self.reason == "left"

    def fail(self, error: Exception) -> None:
        """End the run because it is broken."""
        if self.failure is None:
            self.failure = error
        self.now()

    def take(self, action: Finish | Conclude) -> None:
        """End the run because a policy says so."""
        self.outcome = self.outcome or action
        self.now()

    def stop(self, reason: str) -> None:
        """End the run because somebody outside says so."""
        self.stopped = self.stopped or reason
        self.now()

    def reach(self, limit: str) -> None:
        """Note a limit; :meth:`now` ends the phase when it is time."""
        self.limit = self.limit or limit

    def now(self) -> None:
        """End the phase that is going on."""
        if self._scope is not None:
            self._scope.cancel()
            self._over.set()

    @property
    def over(self) -> bool:
        """Whether the phase has been ended, though it may not have come to its end yet."""
        return self._scope is None or self._scope.cancel_called

    async def wait(self) -> None:
        """Wait until the phase is ended."""
        await self._over.wait()

    @contextmanager
    def phase(self) -> Iterator[anyio.CancelScope]:
        """A part of the run that an ending cuts short."""
        with anyio.CancelScope() as scope:
            self._scope, self._over = scope, anyio.Event()
            if self.stopped is not None:
                self.now()
            try:
                yield scope
            finally:
                self._scope = None
