"""Thinking: the workers of one run at their desks, from the first token to what ends it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from hogwild_agents import events as ev
from hogwild_agents.actions import Action, EndStep, Probe, Say, Spawn
from hogwild_agents.board import Board, Place
from hogwild_agents.checks import Situation, fault
from hogwild_agents.clock import Clock
from hogwild_agents.coordinator import Commit, TickFeed
from hogwild_agents.desk import Desk
from hogwild_agents.draft import SEPARATOR, Draft, Piece, Written
from hogwild_agents.ending import Ending
from hogwild_agents.engine import CacheBlock, Sampled, Sampler, ViewEntry
from hogwild_agents.errors import (
    ClosedError,
    ContextLengthError,
    LimitError,
    PolicyError,
    RunError,
    UsageError,
)
from hogwild_agents.events import Source
from hogwild_agents.interventions import take
from hogwild_agents.limits import Limits
from hogwild_agents.log import get_logger
from hogwild_agents.models import LanguageModel
from hogwild_agents.opening import introduce
from hogwild_agents.panel import Panel, Proposal
from hogwild_agents.people import Person, Speech
from hogwild_agents.probing import Asking, Verdict
from hogwild_agents.record import Record
from hogwild_agents.result import Step
from hogwild_agents.run_view import RunView
from hogwild_agents.share import Share
from hogwild_agents.spelling import Control
from hogwild_agents.text import decode_continuation
from hogwild_agents.tool_use import ToolUse
from hogwild_agents.worker import Token, Worker

if TYPE_CHECKING:
    from hogwild_agents.team import Team

_log = get_logger(__name__)


class Thinking:
    """What the workers of a run do together.

    Args:
        problem: the problem.
        team: whose workers, layout and limits.
        panel: the run's policies.
        record: where events go.
        ending: what ends the run.
        share: its part of the cache.

    Attributes:
        desks: the workers' desks by name, in worker order.
        people: who has spoken to the workers, by name.
        reserved: the names of those who will join.
        steps: the finished steps.
        failures: what workers raised, by name.
        clock: its time.
        view: the run, for workers and policies to read.
    """

    def __init__(
        self, problem: str, team: Team, panel: Panel, record: Record, ending: Ending, share: Share
    ) -> None:
        self.desks: dict[str, Desk] = {}
        self.people: dict[str, Person] = {}
        self.reserved: set[str] = set()
        self.steps: list[Step] = []
        self.failures: dict[str, Exception] = {}
        self.clock = Clock(team.limits)
        self.view = RunView(problem, self)
        self._team = team
        self._panel = panel
        self._record = record
        self._ending = ending
        self._share = share
        self._board: Board | None = None
        self._group: TaskGroup | None = None
        self._dismissed: list[Desk] = []
        self._heard: list[ev.Event] = []  # from outside, since the last tick

    @property
    def thinks(self) -> bool:
        """Whether it is under way."""
        return self._group is not None and not self._ending.over

    @property
    def sampled(self) -> int:
        """How many tokens all workers have sampled so far."""
        return sum(desk.draft.sampled for desk in self.desks.values())

    @property
    def texts(self) -> dict[str, str]:
        """All that each worker, and each person, has written so far, by name."""
        texts = {name: desk.draft.text for name, desk in self.desks.items()}
        return texts | {name: person.text for name, person in self.people.items()}

    @property
    def layout(self) -> str:
        """The layout's name."""
        return self._team.layout.name

    @property
    def limits(self) -> Limits:
        """When the thinking ends at the latest."""
        return self._team.limits

    @property
    def board(self) -> Board:
        """All blocks of the run.

        Raises:
            ClosedError: the thinking has not begun.
        """
        if self._board is None:
            raise ClosedError("The thinking has not begun, so nobody can be seen or spoken to yet.")
        return self._board

    @property
    def model(self) -> LanguageModel:
        """The workers' model."""
        return self._team.model

    async def think(self, board: Board, started: ev.RunStarted) -> None:
        """Let all workers live, until they are done or this is cancelled.

        Raises:
            PolicyError: a policy failed before anybody thought.
        """
        self._board = board
        self.clock.start()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._let_end, name="end of the thinking")
                await self._let_live(started)
                group.cancel_scope.cancel()
        finally:
            self.clock.stop()
            for desk in self.desks.values():
                desk.seat.leave()

    async def _let_live(self, started: ev.RunStarted) -> None:
        """Let all workers live, until they are done."""
        try:
            async with anyio.create_task_group() as self._group:
                places = list(self.board.places)
                desks = [self._seat(w, p) for w, p in zip(self._team.workers, places, strict=True)]
                await self.emit(started)
                await self.emit(*[self.written(desk, desk.draft.open_step()) for desk in desks])
                for desk in desks:
                    self._group.start_soon(self._live, desk, name=f"worker {desk.name}")
        finally:
            self._group = None

    async def _let_end(self) -> None:
        """When this is cancelled, let it be over for those too who have shielded themselves."""
        try:
            await anyio.sleep_forever()
        finally:
            if self._group is not None:
                self._ending.now()
                self._record.told.ring()
                for desk in self.desks.values():
                    desk.resume()

    # -- one worker

    async def _live(self, desk: Desk, first: Sequence[TickFeed] = ()) -> None:
        """Let one worker live; what it raises concerns it alone, unless the whole run is broken."""
        try:
            await self._live_and_leave(desk, first)
        finally:  # also when cancelled: others who shield themselves wait for their turns
            desk.leave()
        self.waiting()

    async def _live_and_leave(self, desk: Desk, first: Sequence[TickFeed]) -> None:
        try:
            with desk.scope:
                # Also without feeds: so the first turns come in worker order.
                await desk.seat.submit(*first)
                await desk.worker.run()
        except Exception as error:
            self._failed(desk, error)
        try:
            if self._ending.natural and not self._ending.over:
                await self._see_off(desk)
        except Exception as error:
            self._failed(desk, error)

    async def _see_off(self, desk: Desk) -> None:
        """Tell that a worker is done, and feed what it has written."""
        await self.empty_inbox(desk)
        if desk.blocked:
            await desk.finish()
            await self.empty_inbox(desk)
        desk.left = desk.draft.place.left = True
        desk.resume()
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
        while True:
            limit = self.clock.limit(self.sampled)
            if limit is not None:
                self._ending.reach(limit)
            if self._ending.limit is not None:
                with desk.parked():
                    await self._ending.wait()
            if self._ending.over:
                await checkpoint_if_cancelled()
                raise ClosedError(f"The thinking is over: {desk.name} can write nothing any more.")
            if not desk.held:
                return
            await desk.until_resumed()

    async def change(self, desk: Desk) -> None:
        """Wait for the next event.

        Raises:
            ClosedError: the thinking is over, and yet the worker has not been cancelled, because
                it has shielded itself.
        """
        if self.thinks:
            await self._record.told.wait()
        if not self.thinks:
            await checkpoint_if_cancelled()
            raise ClosedError(f"The thinking is over: {desk.name} waits for nothing any more.")

    def waiting(self) -> None:
        """End the thinking if all workers who are left wait for each other, or to be resumed."""
        there = [desk for desk in self.desks.values() if not desk.left]
        if any(desk.woken for desk in there):
            self._record.told.ring()  # what it waits for came without an event
        if there and all(desk.waits for desk in there):
            self._ending.reach("parked")
            self._end_if_enough()

    async def handled(self, desk: Desk) -> None:
        """Note that a worker has handled its part of the last tick; the last one ends the tick."""
        self.clock.settle(desk.name)
        if self.clock.turn():
            heard, self._heard = self._heard, []
            await self._consult(*heard)
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
        self.book_desk(desk, commit)
        self.clock.committed(desk.name, commit.tick, woken=woken)

    def book_desk(self, desk: Desk, commit: Commit) -> None:
        """Note what a worker's part of a tick has changed in the cache."""
        self.book(desk.draft.place, commit, desk.draft.committed(commit.feeds))

    def book(self, place: Place, commit: Commit, sources: Sequence[Sequence[Source]]) -> None:
        """Note what somebody's part of a tick has changed in the cache."""
        self._record.commit(place.name, commit, sources)
        for fork in commit.forks:
            self._share.adopt(fork.target)
        if commit.moves and place.closing is not None:
            self.board.moved(place)
            self._share.release(place.closing)
            place.closing = None

    def _end_if_enough(self) -> None:
        if self._ending.limit is not None and self.clock.quiet:
            self._ending.now()

    # -- text

    async def write_sampled(self, desk: Desk, sampled: Sampled) -> Token:
        """Book a sampled token, tell everybody, and take what policies ask for."""
        written = desk.draft.sample(sampled.token)
        whole = written.piece.tokens == (sampled.token,)
        logprobs = (sampled.logprob,) if whole and sampled.logprob is not None else ()
        await self.emit(*self._wrote(desk, written, logprobs))
        return Token(
            id=sampled.token,
            text=written.piece.text,
            ends_step=written.ended is not None,
            logprob=sampled.logprob,
            top=sampled.top,
        )

    async def write_forced(self, desk: Desk, text: str, control: Control) -> None:
        """Append text that the model did not choose, and tell everybody."""
        await self.emit(self.written(desk, desk.draft.force(text, control=control)))

    async def empty_inbox(self, desk: Desk) -> None:
        """Write what policies had a worker say, now that all before it stands.

        A step's end has to wait where another step has ended that is not fed yet: it stays in the
        inbox, and so does what comes after it.
        """
        await self.emit(*self.take_inbox(desk))

    def take_inbox(self, desk: Desk) -> list[ev.Event]:
        """Write what policies had a worker say or end; return what is to be told."""
        events: list[ev.Event] = []
        while desk.inbox:
            item = desk.inbox[0]
            if isinstance(item, EndStep) and desk.draft.begun:
                if desk.draft.turning:
                    break
                events += self._wrote(desk, desk.draft.end_step())
            elif isinstance(item, Say):
                events.append(self.written(desk, desk.draft.force(item.text)))
            del desk.inbox[0]
        return events

    def _wrote(
        self, desk: Desk, written: Written, logprobs: tuple[float, ...] = ()
    ) -> list[ev.Event]:
        """Return what is to be told of a text, and of the step that may have ended with it."""
        piece, tick, draft = written.piece, self.clock.ticks, desk.draft
        events: list[ev.Event] = [self.written(desk, piece, logprobs)]
        if written.ended is not None:
            events.append(
                ev.StepEnded(
                    worker=desk.name,
                    step=piece.step,
                    tick=tick,
                    text=written.ended,
                    tokens_written=draft.sampled,
                    prefix=written.prefix,
                )
            )
            events += [self.written(desk, opening) for opening in written.opening]
        return events

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
            self.tell(event)
        await self._consult(*events)

    def tell(self, event: ev.Event) -> None:
        """Tell an event to those who only listen; a step is finished when its end is told."""
        if isinstance(event, ev.StepEnded):
            self.steps.append(
                Step(
                    worker=event.worker,
                    number=event.step,
                    text=event.text,
                    tick=event.tick,
                    prefix=event.prefix,
                )
            )
        self._record.tell(event)

    async def _consult(self, *events: ev.Event) -> None:
        try:
            for event in events:
                for proposal in await self._panel.consult(event, self.clock.ticks):
                    await self._take(proposal, event)
        except PolicyError as error:
            self._ending.fail(error)
            raise
        finally:
            self._let_go()

    async def _take(self, proposal: Proposal, event: ev.Event) -> None:
        wrong = fault(proposal.action, event, self.situation())
        if wrong:
            raise PolicyError(f"{proposal.source} ({type(proposal.action).__name__}) {wrong}.")
        if self._ending.outcome is not None:
            return  # the run is ending already
        action, tick = proposal.action, self.clock.ticks
        taken = ev.ActionTaken(policy=proposal.policy, action=action, tick=tick)
        self.tell(taken)
        joined = take(action, self, self._ending)
        await self._panel.consult(taken, tick)
        if joined:
            await self.emit(*joined)

    def act(self, action: Action, source: str) -> None:
        """Take an action that somebody outside asks for; policies hear of it after the next tick.

        Raises:
            UsageError: it cannot be taken.
            ClosedError: nobody is thinking.
        """
        self._require_thinking()
        wrong = fault(action, None, self.situation())
        if wrong:
            raise UsageError(f"{source} {wrong}.")
        self._hear(ev.ActionTaken(policy=source, action=action, tick=self.clock.ticks))
        self._hear(*take(action, self, self._ending))
        self._let_go()

    def _hear(self, *events: ev.Event) -> None:
        """Tell what has happened from outside; the policies are asked when the tick has ended."""
        for event in events:
            self.tell(event)
        self._heard += events

    def situation(self) -> Situation:
        """Return what actions are checked against."""
        return Situation(
            model=self.model,
            present={name: not desk.left for name, desk in self.desks.items()},
            speakers={*self.people, *self.reserved},
            steps={(step.worker, step.number) for step in self.steps},
            sampling={name: desk.tweaks.params for name, desk in self.desks.items()},
        )

    def dismiss(self, desk: Desk) -> None:
        """Cancel a worker, once all that is to be told of this moment is told."""
        if not desk.left:
            self._dismissed.append(desk)

    def _let_go(self) -> None:
        dismissed, self._dismissed = self._dismissed, []
        for desk in dismissed:
            desk.scope.cancel()

    # -- who joins

    def join(self, worker: Worker) -> list[ev.Event]:
        """Let a worker join in mid-run; return what is to be told."""
        group, team = self._require_thinking(), self._team
        place = Place(worker.name, self._share.block(f"{worker.name} [1]"))
        self.board.places.append(place)
        feeds = introduce(worker, place, self.board, team.opening, self._share.block)
        desk = self._seat(worker, place)
        opening = self.written(desk, desk.draft.open_step())
        group.start_soon(self._live, desk, feeds, name=f"worker {desk.name}")
        return [ev.WorkerJoined(worker=desk.name, tick=self.clock.ticks), opening]

    async def join_fork(self, spawn: Spawn, source: Desk, block: CacheBlock) -> None:
        """Let a worker join that goes on from a copy of another one's unfinished text."""
        group, worker = self._require_thinking(), spawn.worker
        self.reserved.discard(worker.name)
        place = Place(worker.name, block)
        self.board.places.append(place)
        feeds = introduce(worker, place, self.board, self._team.opening, self._share.block)
        desk = self._seat(worker, place)
        desk.draft.fork(source.draft)
        group.start_soon(self._live, desk, feeds, name=f"worker {desk.name}")
        await self.emit(
            ev.WorkerJoined(worker=desk.name, tick=self.clock.ticks, forked_from=source.name)
        )

    def say(self, text: str, to: Sequence[str] | None, speaker: str) -> None:
        """Let a person say something that workers see with the next tick; see :meth:`Run.say`."""
        group = self._require_thinking()
        self._check_speech(text, to, speaker)
        if speaker not in self.people:
            place = Place(speaker, self._share.block(speaker), speaks=True)
            self.board.places.append(place)
            self.people[speaker] = Person(
                place, self.board, self._team.layout, self._share.block, self.book
            )
            self._hear(ev.WorkerJoined(worker=speaker, tick=self.clock.ticks))
        person = self.people[speaker]
        speech = self._speech(text, speaker, person.spoken + 1)
        if to is not None:
            self.board.address(speaker, speech.step, to)
        if person.add(speech, partial(self._share.join, speaker)):
            group.start_soon(self._let_speak, person, name=f"speaker {speaker}")
        self._hear(*self._spoke(speaker, speech))

    async def _let_speak(self, person: Person) -> None:
        try:
            await person.speak()
        except LimitError:
            self._ending.reach("cache")
            self._end_if_enough()
        except Exception as error:
            self._ending.fail(error)

    def _check_speech(self, text: str, to: Sequence[str] | None, speaker: str) -> None:
        if not text.strip() or not self.model.encode(text):
            raise UsageError(f"{speaker} said {text!r}, which is nothing: give some text.")
        if speaker in self.desks or speaker in self.reserved:
            raise UsageError(
                f"A worker is called {speaker!r}: speak under another name, or have the worker say "
                "it with run.act(Say(...))."
            )
        unknown = [name for name in to or () if name not in self.desks]
        if unknown or (to is not None and not to):
            names = ", ".join(self.desks)
            raise UsageError(f"{to!r} names nobody to speak to in this run: name some of {names}.")

    def _speech(self, text: str, speaker: str, step: int) -> Speech:
        prefix = self._team.headings.opening(speaker, step)
        whole = f"{prefix}{text.strip()}{SEPARATOR}"
        tokens = tuple(self.model.encode(whole, control="none"))
        written = decode_continuation(self.model.tokenizer, tokens)
        return Speech(step=step, tokens=tokens, text=written, prefix=prefix)

    def _spoke(self, speaker: str, speech: Speech) -> list[ev.Event]:
        tick = self.clock.ticks
        return [
            ev.TokensWritten(
                worker=speaker,
                step=speech.step,
                tick=tick,
                tokens=speech.tokens,
                text=speech.text,
                source="forced",
            ),
            ev.StepEnded(
                worker=speaker,
                step=speech.step,
                tick=tick,
                text=speech.text,
                tokens_written=0,
                prefix=speech.prefix,
            ),
        ]

    # -- probes and blocks

    def asking(self, desk: Desk, probe: Probe) -> Asking:
        """Return the feeds that put a probe to a worker."""
        place, layout, board = desk.draft.place, self._team.layout, self.board

        def see() -> Sequence[ViewEntry]:
            return layout.view(board, place, place.own)

        return Asking(probe, self.model.encode, see, self._share.block)

    async def answered(self, probe: Probe, verdict: Verdict) -> None:
        """Tell what came of a probe."""
        await self.emit(
            ev.ProbeAnswered(
                worker=probe.worker,
                question=probe.question,
                probabilities=verdict.probabilities,
                mass=verdict.mass,
                tick=self.clock.ticks,
            )
        )

    def discard(self, blocks: Iterable[CacheBlock]) -> None:
        """Give back blocks that nobody sees any more."""
        self._share.release(*blocks)

    def cut(self, block: CacheBlock, length: int) -> None:
        """Shorten a block, between two ticks."""
        self._share.cut(block, length)

    # -- desks

    def _require_thinking(self) -> TaskGroup:
        if self._group is None or self._ending.over:
            when = "any more" if self._board is not None else "yet"
            raise ClosedError(
                f"The run is not thinking {when}: do that between its RunStarted and RunEnded."
            )
        return self._group

    def _seat(self, worker: Worker, place: Place) -> Desk:
        """Give a worker its desk."""
        model, share, team = self._team.model, self._share, self._team
        self.board.limit(worker.name, sees=worker.sees, seen_by=worker.seen_by)
        draft = Draft(place, self.board, team.layout, team.headings, model, share.block)
        seated = copy.copy(worker)
        desk = Desk(self, seated, draft, self._sampler(worker), model.stop_ids, share.join)
        if seated.tools:
            desk.tool_use = ToolUse(seated, model, team.headings)
        self.desks[worker.name] = desk
        self._panel.join(worker.name)
        return desk

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
