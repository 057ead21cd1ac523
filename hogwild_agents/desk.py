"""Desk: where one worker sits in a run, with its draft, its sampler and its seat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hogwild_agents.coordinator import Commit, Seat
from hogwild_agents.draft import Draft
from hogwild_agents.engine import Sampled, Sampler

if TYPE_CHECKING:
    from hogwild_agents.run import Run
    from hogwild_agents.worker import Token, Worker


class Desk:
    """What a worker needs of its run.

    Attributes:
        worker: the run's own copy of the worker.
        draft: what it has written.
        sampler: how it samples; its parameters may be replaced.
        seat: its place at the coordinator.
        stop_tokens: token ids that end the worker's text.
        inbox: texts that it is to say next.
        left: whether it is done.
    """

    def __init__(
        self, run: Run, worker: Worker, draft: Draft, sampler: Sampler, stop_tokens: frozenset[int]
    ) -> None:
        self.worker = worker.seated(self)
        self.draft = draft
        self.sampler = sampler
        self.stop_tokens = stop_tokens
        self.inbox: list[str] = []
        self.left = False
        self._run = run
        self._parked = 0
        self.seat: Seat = run.join(worker.name, self._commit)

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.worker.name

    @property
    def idle(self) -> bool:
        """Whether nobody waits for this worker."""
        return self.left or bool(self._parked)

    @property
    def pending(self) -> bool:
        """Whether there is something to feed."""
        return self.draft.pending or bool(self.inbox)

    async def submit(self) -> Sampled | None:
        """Feed what is pending in the next tick; return what was sampled after it."""
        await self._run.admit(self)
        self._run.empty_inbox(self)
        feeds, moves = self.draft.feeds(self.sampler)
        result = await self.seat.submit(*feeds, then=moves)
        return result.sampled[-1]

    async def receive(self, sampled: Sampled) -> Token:
        """Take over a sampled token: text, events, policies, the end of a step."""
        return await self._run.write_sampled(self, sampled)

    async def force(self, text: str) -> None:
        """Append text that the model did not choose."""
        await self._run.write_forced(self, text)

    @contextmanager
    def parked(self) -> Iterator[None]:
        """Owe no feed while inside."""
        self._parked += 1
        self._run.settle(self)
        try:
            with self.seat.parked():
                yield
        finally:
            self._parked -= 1

    def leave(self) -> None:
        """Be done: nobody waits for this worker, and its block stays visible."""
        self.left = self.draft.place.left = True
        self.seat.leave()
        self._run.settle(self)

    def others(self) -> Mapping[str, str]:
        """Return what the other workers have written, by name."""
        return {name: text for name, text in self._run.texts().items() if name != self.name}

    def _commit(self, commit: Commit) -> None:
        self._run.committed(self, commit)
