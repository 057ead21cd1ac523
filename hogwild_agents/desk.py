"""Desk: where one worker sits in a run, with its draft, its sampler and its seat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hogwild_agents.coordinator import Commit, Seat
from hogwild_agents.draft import Draft
from hogwild_agents.engine import Sampled, Sampler
from hogwild_agents.errors import UsageError

if TYPE_CHECKING:
    from hogwild_agents.thinking import Thinking
    from hogwild_agents.worker import Token, Worker


class Desk:
    """What a worker needs of its run.

    Attributes:
        worker: the run's own copy of the worker.
        draft: what it has written.
        sampler: how it samples; its parameters may be replaced.
        seat: its place at the coordinator.
        stop_tokens: token ids that end the worker's text.
        inbox: texts that policies have it say next.
        left: whether it is done.
    """

    def __init__(
        self,
        thinking: Thinking,
        worker: Worker,
        draft: Draft,
        sampler: Sampler,
        stop_tokens: frozenset[int],
        join: Callable[[str, Callable[[Commit], None]], Seat],
    ) -> None:
        self.worker = worker.seated(self)
        self.draft = draft
        self.sampler = sampler
        self.stop_tokens = stop_tokens
        self.inbox: list[str] = []
        self.left = False
        self._thinking = thinking
        self._busy = False  # handing in, or waiting for a tick
        self._awaits = False  # what comes of the tokens in flight
        self._lost = False  # what came of the last tick; it may be under way still
        self._in_flight = 0  # how many tokens are handed in and not yet in the cache
        self.seat = join(worker.name, self._commit)

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.worker.name

    @property
    def pending(self) -> bool:
        """Whether there is something to feed."""
        return self.draft.pending or bool(self.inbox)

    async def submit(self) -> Sampled | None:
        """Feed what is pending in the next tick; return what was sampled after it."""
        await self._thinking.admit(self)
        await self._thinking.empty_inbox(self)
        return await self._hand_in(self.sampler)

    async def receive(self, sampled: Sampled) -> Token:
        """Take over a sampled token: text, events, policies, the end of a step."""
        try:
            token = await self._thinking.write_sampled(self, sampled)
            await self._thinking.empty_inbox(self)
        except BaseException:
            self._thinking.settle(self)
            raise
        await self._thinking.handled(self)
        return token

    async def handled(self) -> None:
        """Have done with the last tick."""
        await self._thinking.handled(self)

    async def force(self, text: str) -> None:
        """Append text that the model did not choose."""
        await self._thinking.empty_inbox(self)
        await self._thinking.write_forced(self, text)

    @contextmanager
    def parked(self) -> Iterator[None]:
        """Owe no feed while inside."""
        with self.seat.parked():
            self._thinking.settle(self)
            yield

    async def finish(self) -> None:
        """Feed what is still pending, with nothing to follow."""
        if self.draft.pending:
            await self._thinking.admit(self)
            await self._hand_in(None)
            await self._thinking.handled(self)

    def leave(self) -> None:
        """Owe nothing any more; the block stays visible."""
        self.seat.leave()
        self._thinking.settle(self)

    def others(self) -> Mapping[str, str]:
        """Return what the other workers have written, by name."""
        return {name: text for name, text in self._thinking.texts.items() if name != self.name}

    async def _hand_in(self, sampler: Sampler | None) -> Sampled | None:
        if self._busy:
            raise UsageError(
                f"{self.name} waits for a tick already: let one task of a worker write at a time."
            )
        self._busy = True
        try:
            if self._lost:  # only when that tick is over we know what is in the cache
                await self.seat.submit()
            feeds, moves = self.draft.feeds(sampler)
            self._in_flight = sum(len(feed.tokens) for feed in feeds)
            self._awaits = True
            result = await self.seat.submit(*feeds, then=moves)
        except BaseException:
            self.draft.withdraw()
            self._lost = self.draft.taken
            self._thinking.settle(self)
            raise
        finally:
            self._busy = self._awaits = False
        self._lost = False
        return result.sampled[-1]

    def _commit(self, commit: Commit) -> None:
        self._in_flight -= sum(len(feed.tokens) for feed in commit.feeds)
        self._thinking.committed(self, commit, woken=self._awaits and not self._in_flight)
