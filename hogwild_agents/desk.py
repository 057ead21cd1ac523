"""Desk: where one worker sits in a run, with its draft, its sampler and its seat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from hogwild_agents import events as ev
from hogwild_agents.actions import EndStep, Probe, Spawn
from hogwild_agents.coordinator import Commit, Fork, Forked, TickFeed, TickResult
from hogwild_agents.draft import Draft
from hogwild_agents.engine import CacheBlock, Sampled, Sampler
from hogwild_agents.errors import UsageError
from hogwild_agents.probing import Asking
from hogwild_agents.share import Share
from hogwild_agents.spelling import Control
from hogwild_agents.tweaks import Change, Tweaks
from hogwild_agents.writing import Writing

if TYPE_CHECKING:
    from hogwild_agents.run_view import RunView
    from hogwild_agents.thinking import Thinking
    from hogwild_agents.tool_use import ToolUse
    from hogwild_agents.worker import Token, Worker


class Desk:
    """What a worker needs of its run.

    Attributes:
        name: the worker's name.
        worker: the run's own copy of the worker.
        draft: what it has written.
        writing: how it writes more, or is made to.
        sampler: how it samples, by the tweaks.
        tweaks: temporary changes of how it samples.
        seat: its place at the coordinator.
        stop_tokens: token ids that end the worker's text.
        probes: what it is asked with its next feed.
        forks: who goes on from a copy of its text, once it has fed next.
        scope: what is cancelled when it is dismissed.
        tool_use: how it uses its tools, if it has any.
        left: whether it is done.
    """

    def __init__(
        self,
        thinking: Thinking,
        worker: Worker,
        draft: Draft,
        sampler: Sampler,
        stop_tokens: frozenset[int],
        share: Share,
    ) -> None:
        self.name = worker.name
        self.worker = worker.seated(self)
        self.draft = draft
        self.writing = Writing(worker.name, draft, thinking.clock, thinking.exchange)
        self.sampler = sampler
        self.tweaks = Tweaks(sampler.params)
        self.stop_tokens = stop_tokens
        self.probes: list[Probe] = []
        self.forks: list[Spawn] = []
        self.scope = anyio.CancelScope()
        self.tool_use: ToolUse | None = None
        self.left = False
        self._thinking = thinking
        self._gate = thinking.gate
        self._share = share
        self._resumed: anyio.Event | None = None  # while a policy has it parked
        self._waits = False  # for that
        self._condition: Callable[[], bool] | None = None  # that it waits for by itself
        self._handling = 0  # how much of a tick at the moment
        self._dismissed = False
        self._busy = False  # handing in, or waiting for a tick
        self._awaits = False  # what comes of the tokens in flight
        self._lost = False  # what came of the last tick; it may be under way still
        self._in_flight = 0  # how many tokens are handed in and not yet in the cache
        self._scratch: set[CacheBlock] = set()  # what probes were written to
        self.seat = share.join(worker.name, self._commit)

    @property
    def held(self) -> bool:
        """Whether it shall wait until it is resumed."""
        return self._resumed is not None

    @property
    def waits(self) -> bool:
        """Whether it does wait for that, or for something else that others are to bring about."""
        return (self._waits and self.held) or (self._condition is not None and not self.woken)

    @property
    def woken(self) -> bool:
        """Whether what it waits for has come about, or cannot be told; it finds out itself then."""
        try:
            return self._condition is not None and bool(self._condition())
        except Exception:
            return True

    def hold(self) -> None:
        """Let it wait before it feeds next."""
        self._resumed = self._resumed or anyio.Event()

    def dismiss(self) -> None:
        """Cancel it, once it has handled its part of a tick."""
        self._dismissed = True
        if not self._handling:
            self.scope.cancel()

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle a part of a tick: no dismissal keeps policies from hearing of it."""
        self._handling += 1
        try:
            yield
        finally:
            self._handling -= 1
            if self._dismissed and not self._handling:
                self.scope.cancel()

    def tweak(self, change: Change, tokens: int | None) -> None:
        """Change how it samples, for so many sampled tokens or for good."""
        self.tweaks.add(change, tokens)
        self.sampler.params = self.tweaks.params

    def resume(self) -> None:
        """Let it go on."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    async def until_resumed(self) -> None:
        """Wait, owing no feed, while it is held; a step that has ended is fed to its end before.

        It returns when the thinking is over, too.
        """
        if self.held and self.draft.step_ended:
            await self._hand_in_end()
        while self._resumed is not None and self._thinking.thinks:
            self._waits = True
            try:
                with self.parked():
                    self._gate.waiting()
                    await self._resumed.wait()
            finally:
                self._waits = False

    async def submit(self) -> Sampled | None:
        """Feed what is pending in the next tick; return what was sampled after it.

        Where two steps end at once, the first is fed in a tick of its own. None where nothing is
        pending any more, since a tick was under way when this was last cancelled.
        """
        while True:
            if self._lost:
                await self._catch_up()
            await self._gate.admit(self)
            if self.writing.inbox:
                await self.writing.empty_inbox()
            if self.held:  # by a policy that heard of what was in the inbox
                continue
            if not self.draft.pending:
                return None
            if not self.writing.blocked:
                return await self._hand_in(self.sampler)
            await self._hand_in(None)

    async def receive(self, sampled: Sampled) -> Token:
        """Take over a sampled token: text, events, policies, the end of a step."""
        if self.tweaks.sampled():
            self.sampler.params = self.tweaks.params
        with self.handling():
            try:
                token = await self.writing.sample(sampled)
                if self.writing.inbox:
                    await self.writing.empty_inbox()
            except BaseException:
                self._gate.settle(self)
                raise
            await self._gate.handled(self)
        return token

    async def handled(self) -> None:
        """Have done with the last tick."""
        await self._gate.handled(self)

    async def force(self, text: str, *, control: Control = "added") -> None:
        """Append text that the model did not choose."""
        await self.writing.empty_inbox()
        while self.writing.blocked:  # the end of a step, which stands before what comes now
            await self.finish()
            await self.writing.empty_inbox()
        await self.writing.force(text, control)

    async def end_step(self) -> None:
        """End the step where it stands, if it holds more than its prefix."""
        self.writing.inbox.append(EndStep(worker=self.name))
        await self.writing.empty_inbox()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, owing no feed, until a condition holds; see :meth:`Worker.until`.

        Raises:
            ClosedError: the thinking is over, and the worker has shielded itself from that.
        """
        await checkpoint()
        await self._gate.handled(self)
        if self.draft.step_ended and not condition():
            await self._gate.admit(self)
            await self._hand_in_end()
        while not condition():
            await self._until_woken(condition)
            await self.seat.submit()  # for its turn: of several who are woken, in worker order

    async def _until_woken(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        try:
            with self.parked():
                while not condition():
                    self._gate.waiting()
                    await self._gate.change(self)
        finally:
            self._condition = None

    @contextmanager
    def parked(self) -> Iterator[None]:
        """Owe no feed while inside."""
        with self.seat.parked():
            self._gate.settle(self)
            yield

    async def finish(self) -> None:
        """Feed what is still pending, with nothing to follow, and let copies of it go on."""
        await self._catch_up()
        if self.draft.pending or self.forks:
            await self._gate.admit(self)
            await self._hand_in(None)
            await self._gate.handled(self)

    def leave(self) -> None:
        """Owe nothing any more; the block stays visible, but nobody goes on from it."""
        self.forks.clear()
        self.seat.leave()
        self._gate.settle(self)

    @property
    def run_view(self) -> RunView:
        """The run, to read."""
        return self._thinking.view

    def others(self) -> Mapping[str, str]:
        """Return what the other workers have written, by name."""
        return {name: text for name, text in self._thinking.texts.items() if name != self.name}

    async def _catch_up(self) -> None:
        """Wait for a tick that may be under way still; only then we know what is in the cache."""
        if self._lost and self.draft.pending:
            self._require_idle()
            self._busy = True
            try:
                await self.seat.submit()
            finally:
                self._busy = False
        self._lost = False

    async def _hand_in(self, sampler: Sampler | None) -> Sampled | None:
        """Feed what is pending, ask what is to be asked, and copy what is to be copied.

        Where this is cancelled, what would have come of it is asked and copied with the next feed.
        """
        if not (self.forks or self.probes or self._scratch):  # as nearly always
            count, result = await self._submit(sampler)
            return result.sampled[count - 1]
        self._require_idle()
        forks, probes = tuple(self.forks), tuple(self.probes)
        askings = [self._thinking.asking(self, probe) for probe in probes]
        scratch = {block for asking in askings for block in asking.blocks}
        if scratch or self._scratch:
            self._scratch = scratch.union(block for block in self._scratch if block.alive)
        try:
            asked = [feed for asking in askings for feed in asking.feeds]
            count, result = await self._submit(sampler, asked, forks)
        except Exception:
            del self.forks[: len(forks)], self.probes[: len(probes)]
            raise
        finally:
            if scratch:
                self._share.release(*scratch)
        del self.forks[: len(forks)], self.probes[: len(probes)]
        joined = [
            self._thinking.join_fork(spawn, self, block)
            for spawn, block in zip(forks, result.forked, strict=True)
        ]
        if joined or askings:
            await self._thinking.exchange.emit(*joined, *self._verdicts(askings, result, count))
        return result.sampled[count - 1] if count else None

    async def _hand_in_end(self) -> None:
        """Feed the end of a step alone."""
        await self._catch_up()
        if self.draft.step_ended:
            await self._submit(None, ending=True)
            await self._gate.handled(self)

    async def _submit(
        self,
        sampler: Sampler | None,
        asked: Sequence[TickFeed] = (),
        forks: Sequence[Spawn] = (),
        *,
        ending: bool = False,
    ) -> tuple[int, TickResult]:
        """Take part in the next tick; return how many feeds were the worker's own."""
        self._require_idle()
        self._busy = True
        try:
            feeds, moves = self.draft.feeds(sampler, ending=ending)
            handed_in = [*feeds, *asked]
            own = self.draft.place.own
            copies = [Fork(source=own, name=f"{spawn.worker.name} [1]") for spawn in forks]
            self._in_flight = sum([len(feed.tokens) for feed in handed_in])
            self._awaits = True
            result = await self.seat.submit(*handed_in, then=(*moves, *copies))
        except BaseException:
            self._lost = self.seat.taken
            if not self._lost:
                self.draft.withdraw()
            self._gate.settle(self)
            raise
        finally:
            self._busy = self._awaits = False
        self._lost = False
        return len(feeds), result

    def _require_idle(self) -> None:
        if self._busy:
            raise UsageError(
                f"{self.name} waits for a tick already: let one task of a worker write at a time."
            )

    def _verdicts(
        self, askings: Sequence[Asking], result: TickResult, start: int
    ) -> Iterator[ev.Event]:
        for asking in askings:
            stop = start + len(asking.feeds)
            verdict = asking.verdict(result.scores[start:stop])
            yield ev.ProbeAnswered(
                worker=asking.probe.worker,
                question=asking.probe.question,
                probabilities=verdict.probabilities,
                mass=verdict.mass,
                tick=self._thinking.clock.ticks,
            )
            start = stop

    def _commit(self, commit: Commit) -> None:
        self._in_flight -= sum([len(feed.tokens) for feed in commit.feeds])
        if self._scratch or commit.forks:
            kept = tuple(feed for feed in commit.feeds if feed.block not in self._scratch)
            forks = tuple(self._shorten(fork) for fork in commit.forks)
            commit = replace(commit, feeds=kept, forks=forks)
        self._thinking.committed(self, commit, woken=self._awaits and not self._in_flight)

    def _shorten(self, fork: Forked) -> Forked:
        """Take the last token off a fork: its worker feeds that anew."""
        length = fork.length - 1
        self._share.cut(fork.target, length)
        return replace(fork, length=length)
