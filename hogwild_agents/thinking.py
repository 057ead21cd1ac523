"""Thinking: the workers of one run at their desks, from the first token to what ends it."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from hogwild_agents import events as ev
from hogwild_agents.actions import Say
from hogwild_agents.clock import Clock
from hogwild_agents.coordinator import Commit
from hogwild_agents.desk import Desk
from hogwild_agents.draft import Draft, Piece
from hogwild_agents.ending import Ending
from hogwild_agents.engine import Sampled, Sampler
from hogwild_agents.errors import (
    ClosedError,
    ContextLengthError,
    LimitError,
    PolicyError,
    RunError,
)
from hogwild_agents.layouts import Board, Place
from hogwild_agents.log import get_logger
from hogwild_agents.panel import Panel, Proposal, check
from hogwild_agents.record import Record
from hogwild_agents.result import Step
from hogwild_agents.share import Share
from hogwild_agents.worker import Token, Worker

if TYPE_CHECKING:
    from hogwild_agents.team import Team

_log = get_logger(__name__)


class Thinking:
    """What the workers of a run do together.

    Args:
        team: whose workers, layout and limits.
        panel: the run's policies.
        record: where events go.
        ending: what ends the run.
        share: its part of the cache.

    Attributes:
        desks: the workers' desks by name, in worker order.
        steps: the finished steps.
        failures: what workers raised, by name.
        clock: its time.
    """

    def __init__(
        self, team: Team, panel: Panel, record: Record, ending: Ending, share: Share
    ) -> None:
        self.desks: dict[str, Desk] = {}
        self.steps: list[Step] = []
        self.failures: dict[str, Exception] = {}
        self.clock = Clock(team.limits)
        self._team = team
        self._panel = panel
        self._record = record
        self._ending = ending
        self._share = share

    @property
    def sampled(self) -> int:
        """How many tokens all workers have sampled so far."""
        return sum(desk.draft.sampled for desk in self.desks.values())

    @property
    def texts(self) -> dict[str, str]:
        """All that each worker has written so far, by name."""
        return {name: desk.draft.text for name, desk in self.desks.items()}

    async def think(self, board: Board, started: ev.RunStarted) -> None:
        """Let all workers live, until they are done or this is cancelled.

        Raises:
            PolicyError: a policy failed before anybody thought.
        """
        self.clock.start()
        try:
            for worker, place in zip(self._team.workers, board.places, strict=True):
                self.desks[worker.name] = self._desk(worker, place, board)
            await self.emit(started)
            await self.emit(*[self.written(d, d.draft.open_step()) for d in self.desks.values()])
            async with anyio.create_task_group() as group:
                for desk in self.desks.values():
                    group.start_soon(self._live, desk, name=f"worker {desk.name}")
        finally:
            self.clock.stop()
            for desk in self.desks.values():
                desk.seat.leave()

    # -- one worker

    async def _live(self, desk: Desk) -> None:
        """Let one worker live; what it raises concerns it alone, unless the whole run is broken."""
        try:
            await desk.seat.submit()  # without feeds: so the first turns come in worker order
            await desk.worker.run()
        except Exception as error:
            self._failed(desk, error)
        try:
            if self._ending.natural and not self._ending.over:
                await self._see_off(desk)
        except Exception as error:
            self._failed(desk, error)
        desk.leave()

    async def _see_off(self, desk: Desk) -> None:
        """Tell that a worker is done, and feed what it has written."""
        await self.empty_inbox(desk)
        desk.left = desk.draft.place.left = True
        failure = self.failures.get(desk.name)
        error = None if failure is None else say(failure)
        await self.emit(ev.WorkerLeft(worker=desk.name, tick=self.clock.ticks, error=error))
        await desk.finish()

    def _failed(self, desk: Desk, error: Exception) -> None:
        """Sort out what a worker raised."""
        error = only(error)
        _log.warning("worker failed", worker=desk.name, error=say(error))
        if not isinstance(error, LimitError | RunError):
            self.failures.setdefault(desk.name, error)
        elif self._ending.over:
            return  # it comes of that
        elif isinstance(error, LimitError):
            self._ending.reach("context" if isinstance(error, ContextLengthError) else "cache")
        else:
            self._ending.fail(error)

    # -- ticks

    async def admit(self, desk: Desk) -> None:
        """Let a worker go on to its next tick, unless a limit ends the thinking.

        Raises:
            ClosedError: the thinking is over, and yet the worker has not been cancelled, because
                it has shielded itself.
        """
        await self.handled(desk)
        limit = self.clock.limit(self.sampled)
        if limit is not None:
            self._ending.reach(limit)
        if self._ending.limit is not None:
            with desk.parked():
                await self._ending.wait()
        if self._ending.over:
            await checkpoint_if_cancelled()
            raise ClosedError(f"The thinking is over: {desk.name} can write nothing any more.")

    async def handled(self, desk: Desk) -> None:
        """Note that a worker has handled its part of the last tick; the last one ends the tick."""
        self.clock.settle(desk.name)
        if self.clock.turn():
            await self.emit(
                ev.TickEnded(tick=self.clock.ticks, seconds=self.clock.seconds, tokens=self.sampled)
            )
        self._end_if_enough()

    def settle(self, desk: Desk) -> None:
        """Note that nobody has to wait for a worker, where no event can be told."""
        self.clock.settle(desk.name)
        self._end_if_enough()

    def committed(self, desk: Desk, commit: Commit, *, woken: bool) -> None:
        """Book one worker's part of a tick; called between two ticks."""
        self.book(desk, commit)
        self.clock.committed(desk.name, commit.tick, woken=woken)

    def book(self, desk: Desk, commit: Commit) -> None:
        """Note what a worker's part of a tick has changed in the cache."""
        closing = desk.draft.place.closing
        self._record.commit(desk.name, commit, desk.draft.committed(commit))
        if commit.moves and closing is not None:
            self._share.release(closing)

    def _end_if_enough(self) -> None:
        if self._ending.limit is not None and self.clock.quiet:
            self._ending.now()

    # -- text

    async def write_sampled(self, desk: Desk, sampled: Sampled) -> Token:
        """Book a sampled token, tell everybody, and take what policies ask for."""
        written = desk.draft.sample(sampled.token)
        piece, tick = written.piece, self.clock.ticks
        whole = piece.tokens == (sampled.token,)
        logprobs = (sampled.logprob,) if whole and sampled.logprob is not None else ()
        events: list[ev.Event] = [self.written(desk, piece, logprobs)]
        if written.ended is not None:
            step = Step(worker=desk.name, number=piece.step, text=written.ended, tick=tick)
            self.steps.append(step)
            events.append(
                ev.StepEnded(
                    worker=desk.name,
                    step=piece.step,
                    tick=tick,
                    text=written.ended,
                    tokens_written=desk.draft.sampled,
                )
            )
            events += [self.written(desk, opening) for opening in written.opening]
        await self.emit(*events)
        return Token(
            id=sampled.token,
            text=piece.text,
            ends_step=written.ended is not None,
            logprob=sampled.logprob,
            top=sampled.top,
        )

    async def write_forced(self, desk: Desk, text: str) -> None:
        """Append text that the model did not choose, and tell everybody."""
        await self.emit(self.written(desk, desk.draft.force(text)))

    async def empty_inbox(self, desk: Desk) -> None:
        """Write what policies had a worker say, now that all before it stands."""
        await self.emit(*self.take_inbox(desk))

    def take_inbox(self, desk: Desk) -> list[ev.TokensWritten]:
        """Write what policies had a worker say; return what is to be told."""
        texts, desk.inbox = desk.inbox, []
        return [self.written(desk, desk.draft.force(text)) for text in texts]

    def written(
        self, desk: Desk, piece: Piece, logprobs: tuple[float, ...] = ()
    ) -> ev.TokensWritten:
        """Return the event that tells what a worker wrote."""
        return ev.TokensWritten(
            worker=desk.name,
            step=piece.step,
            tick=self.clock.ticks,
            tokens=piece.tokens,
            text=piece.text,
            source=piece.source,
            logprobs=logprobs,
        )

    # -- events and actions

    async def emit(self, *events: ev.Event) -> None:
        """Tell events to everybody, then take what the policies ask for, in their order.

        All are told before the first policy is asked: what was written is on record, even if
        whoever wrote it is cancelled while a policy thinks.

        Raises:
            PolicyError: a controller raised, or asked for what cannot be; the run has failed.
        """
        for event in events:
            self._record.tell(event)
        try:
            for event in events:
                for proposal in await self._panel.consult(event, self.clock.ticks):
                    await self._take(proposal, event)
        except PolicyError as error:
            self._ending.fail(error)
            raise

    async def _take(self, proposal: Proposal, event: ev.Event) -> None:
        present = {name: not desk.left for name, desk in self.desks.items()}
        check(proposal, event, present, self._team.model.encode)
        if self._ending.outcome is not None:
            return  # the run is ending already
        action, tick = proposal.action, self.clock.ticks
        taken = ev.ActionTaken(policy=proposal.policy, action=action, tick=tick)
        self._record.tell(taken)
        if isinstance(action, Say):
            self.desks[action.worker].inbox.append(action.text)
        else:
            self._ending.take(action)
        await self._panel.consult(taken, tick)

    # -- desks

    def _desk(self, worker: Worker, place: Place, board: Board) -> Desk:
        model, share = self._team.model, self._share
        draft = Draft(place, board, self._team.layout, self._team.headings, model, share.block)
        seated = copy.copy(worker)
        return Desk(self, seated, draft, self._sampler(worker), model.stop_ids, share.join)

    def _sampler(self, worker: Worker) -> Sampler:
        team = self._team
        params = worker.sampling or team.sampling
        params = params.replace(banned=params.banned | team.model.reasoning_bans)
        seed = worker.seed
        if seed is None:
            seed = random.Random(f"{team.seed}/{worker.name}").getrandbits(63)
        return Sampler(params, seed)


def say(error: Exception) -> str:
    """Return an exception in words."""
    return f"{type(error).__name__}: {error}"


def only(error: Exception) -> Exception:
    """Return what a group of one exception holds; task groups wrap whatever comes out of them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
