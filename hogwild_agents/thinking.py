"""Thinking: the workers of one run at their desks, from the first token to what ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from hogwild_agents import events as ev
from hogwild_agents.actions import Action, Probe, Spawn
from hogwild_agents.board import Board, Place
from hogwild_agents.checks import Situation
from hogwild_agents.clock import Clock
from hogwild_agents.coordinator import Commit, TickFeed
from hogwild_agents.desk import Desk
from hogwild_agents.ending import Ending
from hogwild_agents.engine import CacheBlock, ViewEntry
from hogwild_agents.errors import ClosedError, ContextLengthError, LimitError, RunError
from hogwild_agents.events import Source
from hogwild_agents.exchange import Exchange
from hogwild_agents.gate import Gate
from hogwild_agents.interventions import take
from hogwild_agents.limits import Limits
from hogwild_agents.log import get_logger
from hogwild_agents.models import LanguageModel
from hogwild_agents.panel import Panel
from hogwild_agents.people import People, Person
from hogwild_agents.probing import Asking
from hogwild_agents.record import Record
from hogwild_agents.result import Step
from hogwild_agents.run_view import RunView
from hogwild_agents.seating import Seating
from hogwild_agents.share import Share
from hogwild_agents.stray import unless_stray
from hogwild_agents.worker import Worker

if TYPE_CHECKING:
    from hogwild_agents.team import Team

_log = get_logger(__name__)

Work = Callable[..., Awaitable[None]]


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
        failures: what workers raised, by name.
        clock: its time.
        exchange: where events are told, and actions taken.
        gate: who may go on to the next tick.
        people: who speaks to the workers.
        view: the run, for workers and policies to read.
    """

    def __init__(
        self, problem: str, team: Team, panel: Panel, record: Record, ending: Ending, share: Share
    ) -> None:
        self.desks: dict[str, Desk] = {}
        self.failures: dict[str, Exception] = {}
        self.clock = Clock(team.limits)
        self.exchange = Exchange(
            panel,
            record,
            ending,
            self.clock,
            self.situation,
            partial(take, thinking=self, ending=ending),
        )
        self.gate = Gate(self, self.clock, ending, self.exchange, record)
        self.people = People(team, share, self.clock, self.exchange, self.book)
        self.view = RunView(problem, self)
        self._seating = Seating(self, team, panel, share)
        self._team = team
        self._record = record
        self._ending = ending
        self._share = share
        self._board: Board | None = None
        self._group: TaskGroup | None = None  # while it takes tasks
        self._is_cancelled: Callable[[], bool] = lambda: False
        self._tasks = 0  # that keep it open

    @property
    def thinks(self) -> bool:
        """Whether it is under way."""
        return self._group is not None and not self._ending.over

    @property
    def cancelled(self) -> bool:
        """Whether it is being cancelled from outside, though not all may have heard of that yet."""
        group = self._group
        return self._is_cancelled() or (group is not None and group.cancel_scope.cancel_called)

    @property
    def sampled(self) -> int:
        """How many tokens all workers have sampled so far."""
        return self.clock.tokens

    @property
    def steps(self) -> list[Step]:
        """The finished steps."""
        return self._record.steps

    @property
    def coming(self) -> tuple[str, ...]:
        """Who will join, once the worker from whose text they go on has fed next."""
        return tuple(spawn.worker.name for desk in self.desks.values() for spawn in desk.forks)

    @property
    def workers(self) -> list[Worker]:
        """All workers who are or were there, in worker order."""
        return [desk.worker for desk in self.desks.values()]

    @property
    def texts(self) -> dict[str, str]:
        """All that each worker, and each person, has written so far, by name."""
        texts = {name: desk.draft.text for name, desk in self.desks.items()}
        return texts | self.people.texts

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
                self._tasks = 1  # this one, until all workers have begun
                places = list(self.board.places)
                workers = zip(self._team.workers, places, strict=True)
                desks = [self._seating.seat(worker, place) for worker, place in workers]
                await self.exchange.emit(started)
                await self.exchange.emit(
                    *[desk.writing.written(desk.draft.open_step()) for desk in desks]
                )
                for desk in desks:
                    self._begin(self._group, f"worker {desk.name}", self._live, desk)
                self._done()
        finally:
            self._group = None

    def _begin(self, group: TaskGroup, name: str, work: Work, *args: Any) -> None:
        """Let a task do something while the workers live."""
        self._tasks += 1
        group.start_soon(self._do, work, *args, name=name)

    async def _do(self, work: Work, *args: Any) -> None:
        try:
            await work(*args)
        finally:
            self._done()

    def _done(self) -> None:
        """Count a task less; without any the group closes, though its end is noticed later."""
        self._tasks -= 1
        if not self._tasks:
            self._group = None

    async def _let_end(self) -> None:
        """When this is cancelled, let it be over for those too who have shielded themselves."""
        self._is_cancelled = anyio.get_current_task().has_pending_cancellation
        try:
            await anyio.sleep_forever()
        finally:
            self._is_cancelled = lambda: True  # nobody may ask a task that is done
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
        self.gate.waiting()

    async def _live_and_leave(self, desk: Desk, first: Sequence[TickFeed]) -> None:
        try:
            with desk.scope:
                # Also without feeds: so the first turns come in worker order.
                await desk.seat.submit(*first)
                await unless_stray(desk.worker.run(), desk.name)
        except Exception as error:
            self._failed(desk, error)
        try:
            if self._ending.natural and not self._ending.over:
                await self._see_off(desk)
        except Exception as error:
            self._failed(desk, error)

    async def _see_off(self, desk: Desk) -> None:
        """Tell that a worker is done, and feed what it has written."""
        desk.resume()
        await self.gate.handled(desk)
        await desk.writing.empty_inbox()
        if desk.writing.blocked:
            await desk.finish()
            await desk.writing.empty_inbox()
        desk.left = desk.draft.place.left = True
        desk.resume()
        failure = self.failures.get(desk.name)
        error = None if failure is None else say(failure)
        await self.exchange.emit(
            ev.WorkerLeft(worker=desk.name, tick=self.clock.ticks, error=error)
        )
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

    # -- what a tick has changed

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

    # -- actions

    def act(self, action: Action, source: str) -> None:
        """Take an action that somebody outside asks for; policies hear of it after the next tick.

        Raises:
            UsageError: it cannot be taken.
            ConfigError: a policy cannot be copied for who would join.
            ClosedError: nobody is thinking.
        """
        self._require_thinking()
        self.exchange.act(action, source)

    def situation(self) -> Situation:
        """Return what actions are checked against."""
        return Situation(
            model=self.model,
            present={name: not desk.left for name, desk in self.desks.items()},
            speakers={*self.people.texts, *self.coming},
            steps={(step.worker, step.number) for step in self.steps},
            sampling={name: desk.tweaks.params for name, desk in self.desks.items()},
        )

    # -- who joins

    def join(self, worker: Worker) -> list[ev.Event]:
        """Let a worker join in mid-run; return what is to be told."""
        group = self._require_thinking()
        desk, feeds = self._seating.join(worker, self._share.block(f"{worker.name} [1]"))
        opening = desk.writing.written(desk.draft.open_step())
        self._begin(group, f"worker {desk.name}", self._live, desk, feeds)
        return [ev.WorkerJoined(worker=desk.name, tick=self.clock.ticks), opening]

    def join_fork(self, spawn: Spawn, source: Desk, block: CacheBlock) -> ev.Event:
        """Let a worker join that goes on from a copy of another's unfinished text; return that."""
        group = self._require_thinking()
        desk, feeds = self._seating.join(spawn.worker, block)
        desk.draft.fork(source.draft)
        self._begin(group, f"worker {desk.name}", self._live, desk, feeds)
        return ev.WorkerJoined(worker=desk.name, tick=self.clock.ticks, forked_from=source.name)

    def say(self, text: str, to: Sequence[str] | None, speaker: str) -> None:
        """Let a person say something that workers see with the next tick; see :meth:`Run.say`."""
        group = self._require_thinking()
        person = self.people.say(
            text, to, speaker, self.board, workers=self.desks, coming=self.coming
        )
        if person is not None:
            self._begin(group, f"speaker {speaker}", self._let_speak, person)

    async def _let_speak(self, person: Person) -> None:
        try:
            await person.speak()
        except LimitError:
            self._ending.reach("cache")
            self.gate.end_if_enough()
        except Exception as error:
            self._ending.fail(error)

    # -- probes

    def asking(self, desk: Desk, probe: Probe) -> Asking:
        """Return the feeds that put a probe to a worker."""
        place, layout, board = desk.draft.place, self._team.layout, self.board

        def see() -> Sequence[ViewEntry]:
            return layout.view(board, place, place.own)

        return Asking(probe, self.model.encode, see, self._share.block)

    def _require_thinking(self) -> TaskGroup:
        if self._group is None or self._ending.over:
            when = "any more" if self._board is not None else "yet"
            raise ClosedError(
                f"The run is not thinking {when}: do that between its RunStarted and RunEnded."
            )
        return self._group


def say(error: Exception) -> str:
    """Return an exception in words."""
    return f"{type(error).__name__}: {error}"


def only(error: Exception) -> Exception:
    """Return what a group of one exception holds; task groups wrap whatever comes out of them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
