"""CacheCoordinator: the actor that owns an engine and runs its ticks for any number of seats.

One task, one loop: wait until nobody of a team thinks, close the tick, compute it in a worker
thread, tell everybody what changed, wake the seats of each team one after the other. It holds no
tensors and no text.

Two rules make a run with seeds reproducible on any event loop, also where it shuffles its tasks:
a tick is closed for a team only when every seat of it that owes a feed has handed one in
(lock-step), and of its seats that a tick has served, the next one is woken only when the one before
has settled again. Teams do not depend on each other: whoever waits for something holds up its own.
"""

from __future__ import annotations

import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Sequence,
)
from types import TracebackType
from typing import Self, TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from hogwild_agents.bell import Bell
from hogwild_agents.common import Common
from hogwild_agents.compute import compute
from hogwild_agents.crew import Crew
from hogwild_agents.engine import CacheBlock, Engine, threads
from hogwild_agents.errors import ClosedError, ConfigError, UsageError
from hogwild_agents.guesses import Guesses
from hogwild_agents.log import get_logger
from hogwild_agents.mapping import Mapping
from hogwild_agents.seat import (
    Commit,
    Fork,
    Forked,
    Move,
    OnCommit,
    Seat,
    TickFeed,
    TickResult,
    View,
)
from hogwild_agents.statistics import Meter, Statistics
from hogwild_agents.tick import Part, close, fit
from hogwild_agents.turns import EventLoop, running_loop
from hogwild_agents.whole import is_above_zero, is_whole

__all__ = [
    "CacheCoordinator",
    "Commit",
    "Fork",
    "Forked",
    "Move",
    "OnCommit",
    "Seat",
    "Statistics",
    "TickFeed",
    "TickResult",
    "View",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_log = get_logger(__name__)

_QUIET_TURNS = 3
"""After so many turns in which no seat has changed, none is about to, unless the loop can tell."""

_MOST_TURNS = 100
"""Turns after which the loop goes on in any case, though a seat parks and comes back in each."""


class CacheCoordinator:
    """Runs ticks for the seats that join it, of one team or of many.

    An async context manager. Leaving it closes it: tasks in :attr:`task_group` are cancelled,
    seats elsewhere get ClosedError, a forward under way is waited for, and nothing is left
    running. The engine stays open. It can be entered once.

    While it is open, the engine is the coordinator's. Blocks may be made at any time, and freed by
    :meth:`release`; truncate, fork or move them yourself only where no tick of their team can be
    under way: in an ``on_commit``, or, without patience, between the waking of a seat and its next
    submit. (Then a tick of other teams may be, which such a call waits for, and with it the event
    loop.)

    Teams do not wait for each other. A tick is closed for those of whom nobody owes a feed. As one
    tick for all costs little more than one for some, it waits for the others as long as the event
    loop has anything to do, and then until they have had as much time as the last tick took. So a
    team in which somebody waits (a policy for another model, a handler for a file) holds up the
    others for that long at most, and not again before it has taken part in a tick. Where nobody
    waits for anything, the same teams take part in the same ticks in every run: on asyncio, that
    is, and not on event loops that do not tell whether anybody is about to go on (trio, uvloop).
    What a team writes does not depend on that.

    Computing ahead changes nothing but when a forward is run: while the seats and policies work on
    a tick, the next one is computed with the tokens just sampled, as though everybody simply went
    on. If all do, it is kept, and sampled from; if anybody hands in something else, or a view has
    changed, or a block is freed, truncated, forked or moved, it is taken back, and the tick is run
    as it was handed in. (A call of the engine that does so waits for the forward under way, and
    with it the event loop; :meth:`release` does not.) So a wrong guess costs one forward, which
    :meth:`statistics` counts. None is made after a token with which a feed ``breaks``, and fewer
    and fewer while they are wrong.

    Args:
        engine: what computes the ticks.
        patience: how many seconds a team's tick waits for a seat that owes a feed, counted from
            when it began to owe it; ``None`` waits for ever. A late seat is not waited for again
            until it has submitted. With patience, a run is no longer reproducible.
        prefill_chunk: the most tokens of one feed in one tick, so that a long prompt doesn't stall
            those who think; ``None`` cuts nothing.
        ahead: compute the next tick ahead. It pays where policies or event handlers wait for
            something, or where they compute while the model has a device of its own. On a CPU
            where the forward takes all cores and nobody waits, it costs a little. It is off
            everywhere, since it was not measured on a GPU.

    Attributes:
        engine: what computes the ticks.
        common: the blocks that several runs share.

    Raises:
        ConfigError: patience or prefill_chunk is out of range, or the engine is none.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        patience: float | None = None,
        prefill_chunk: int | None = 512,
        ahead: bool = False,
    ) -> None:
        if not isinstance(engine, Engine):
            raise ConfigError(
                f"A coordinator runs the ticks of {engine!r}, but must be given an Engine, such as "
                "model.engine."
            )
        if patience is not None and not is_above_zero(patience):
            raise ConfigError(
                f"patience is {patience!r}, but must be a number of seconds above 0, or None."
            )
        if prefill_chunk is not None and not (is_whole(prefill_chunk) and prefill_chunk > 0):
            raise ConfigError(
                f"prefill_chunk is {prefill_chunk!r}, but must be a whole number of tokens above "
                "0, or None."
            )
        self.engine = engine
        self.common = Common(self)
        self._patience = math.inf if patience is None else patience
        self._chunk = prefill_chunk
        self._seats: dict[Seat, Crew] = {}  # in join order
        self._crews: dict[Hashable, Crew] = {}  # by their teams
        self._meter = Meter()
        self._bell = Bell()  # rung when a seat has changed
        self._changes = 0  # how often it was rung
        self._loop: EventLoop  # since it was entered
        self._thread = anyio.CapacityLimiter(1)
        self._ahead = ahead
        self._guesses = Guesses(engine, self._thread)
        self._in_tick = False
        self._parts: Sequence[Part] = ()  # of the tick that is under way
        self._took = 0.0  # how long the last one took
        self._ready_since = math.inf  # when the first team was ready for the next one
        self._released: list[CacheBlock] = []
        self._group: TaskGroup | None = None
        self._closed = False

    # -- what teams call

    @property
    def task_group(self) -> TaskGroup:
        """The task group for whatever must not outlive the coordinator.

        Raises:
            ClosedError: the coordinator is not open.
        """
        return self._require_open()

    def join(self, name: str, *, on_commit: OnCommit | None = None, team: Hashable = None) -> Seat:
        """Return a new seat, the last in join order; from now on it owes a feed each tick.

        Args:
            name: a label.
            team: whose seat it is; those of one team tick together, and those of others beside
                them. The seats that name none are a team, too.
            on_commit: called after each tick that changed the cache for this seat, before anybody
                is woken, also if the seat has been cancelled or left meanwhile. It must not
                block. If it raises, the seat's submit raises that.

        Raises:
            ClosedError: the coordinator is not open.
        """
        self._require_open()
        seat = Seat(
            name,
            on_commit=on_commit,
            changed=self._seat_changed,
            release=self._release,
            loop=self._loop,
        )
        crew = self._crews.setdefault(team, Crew(team))
        self._seats[seat] = crew
        crew.seats[seat] = None
        crew.note(seat)
        _log.debug("seat joined", seat=name, seats=len(self._seats))
        return seat

    def map(
        self,
        solve: Callable[[_Item], Awaitable[_Result]],
        items: Iterable[_Item] | AsyncIterable[_Item],
        *,
        limit: int = 8,
    ) -> AsyncGenerator[_Result, None]:
        """Return an async generator of ``solve(item)`` for each item, in the order of the items::

            async with aclosing(coordinator.map(team.solve, problems, limit=8)) as results:
                async for result in results:
                    print(result.problem, result.answer)

        The work is done in :attr:`task_group`, and goes on while the loop's body runs. An item is
        read only when its work may begin: when fewer than ``limit`` are under way, and fewer than
        ``limit`` results wait for their turn. If one item fails, those after it are cancelled, and
        the loop raises its error when its turn comes. Leaving the loop early cancels the rest and
        waits for its end, at once if it is left through ``aclosing``, as above.

        Args:
            solve: the work, for instance ``team.solve``.
            items: for which; they may come in their own time, and without end. An async generator
                is closed in the end.
            limit: how many are under way at once.

        Raises:
            ConfigError: limit is no whole number above 0.
            ClosedError: the coordinator is not open, or was closed under way.
        """
        if not (is_whole(limit) and limit > 0):
            raise ConfigError(f"limit is {limit!r}, but must be a whole number of items above 0.")
        self._require_open()
        return Mapping(solve, items, limit).results(self._require_open)

    def release(self, *blocks: CacheBlock) -> None:
        """Free blocks as soon as no tick is under way; those freed already are left out.

        It never waits, so that it can be called while being cancelled.
        """
        self._release(blocks)

    def statistics(self) -> Statistics:
        """Return what has been done so far."""
        return self._meter.read(
            cache_used=self.engine.used_tokens,
            cache_budget=self.engine.max_tokens,
            seats=len(self._seats),
            parked=sum(seat._parked > 0 for seat in self._seats),
            thinking=tuple(seat.name for seat in self._seats if seat._thinks),
            guessed=self._guesses.right,
            misguessed=self._guesses.wrong,
        )

    # -- the tick loop

    async def _run(self) -> None:
        """Run ticks until cancelled."""
        try:
            async with anyio.create_task_group() as guessing:
                while True:
                    closed_at = self._close_tick(await self._gather())
                    await self._compute()
                    self._commit(closed_at)
                    self._guess(guessing)
                    self._serve()
        except BaseExceptionGroup as group:  # a bug of the loop: guesses raise nothing
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        finally:
            self._in_tick = False
            self._guesses.drop()
            self._serve()
            for crew in self._crews.values():
                for part in crew.served:
                    self._release(part.forked)
            self._free_released()
            self._close_seats()

    async def _gather(self) -> set[Crew]:
        """Wait until some team has a request, and no seat of it still owes one.

        Others are waited for as well, but no longer than a tick takes: so nobody is held up by
        them for more than that, and ticks that could have been one are not run one by one.

        Returns:
            the teams whose requests make the tick.
        """
        while True:
            await self._hush()
            now = self._loop.now()  # of both, else patience may run out in between
            if self._wake(now) or await self._guesses.ended():  # others may have come meanwhile
                continue
            ready, until = self._look(now)
            if ready and until is None:
                return ready
            with anyio.CancelScope(deadline=math.inf if until is None else until):
                await self._bell.wait()

    def _look(self, now: float) -> tuple[set[Crew], float | None]:
        """Return the teams that are ready for a tick, and until when to wait for others, if so."""
        ready: set[Crew] = set()
        late: list[tuple[Crew, float]] = []
        for crew in self._crews.values():
            until = crew.awaited(now, self._patience)
            if until is not None:
                late.append((crew, until))
            elif crew.asks:
                ready.add(crew)
        self._ready_since = min(self._ready_since, now) if ready else math.inf
        if ready:
            latest = self._ready_since + self._took
            late = [(crew, min(until, crew.since + self._took, latest)) for crew, until in late]
        return ready, min((until for _, until in late if until > now), default=None)

    def _close_tick(self, crews: set[Crew]) -> float:
        """Take the requests of some teams, as they are now, and fail those that cannot run.

        Returns:
            the time.
        """
        self._in_tick = True
        self._ready_since = math.inf
        now = self._loop.now()
        for crew in self._crews.values():
            crew.missed = crew not in crews
        taken = [seat._take() for seat, crew in self._seats.items() if not crew.missed]
        requests = [request for request in taken if request]
        self._meter.waited([now - request.submitted for request in requests if not request.ticks])
        self._parts = close(requests, self.engine, self._chunk)
        fit(self._parts, self.engine)
        return now

    async def _compute(self) -> None:
        """Run the forward, the sampling, the moves and the forks in the worker thread."""
        if not any(part.feeds or part.request.then for part in self._parts):
            return
        threads.give_back()  # else the worker thread's are too many
        await to_thread.run_sync(
            compute,
            self._parts,
            self.engine,
            self._guesses.forward,
            self._meter.ticks + 1,
            limiter=self._thread,
        )

    def _commit(self, closed_at: float) -> None:
        """Count the tick, and tell every seat's ``on_commit`` what changed."""
        fed = [part for part in self._parts if part.committed]
        if fed:
            self._took = self._loop.now() - closed_at + self._guesses.seconds
            self._meter.ticked(
                feeds=sum([len(part.feeds) for part in fed]),
                tokens=sum([part.size for part in fed]),
                sampled=sum([found is not None for part in fed for found in part.sampled]),
                seconds=self._took,
            )
        for part in self._parts:
            part.request.ticks += 1
            part.request.written += part.size if part.committed else 0
            part.tick = self._meter.ticks
            self._tell(part)
        self._in_tick = False
        self._free_released()

    def _guess(self, group: TaskGroup) -> None:
        """Begin with the next tick, if nobody but the seats about to be woken takes part in it."""
        if not self._ahead or any(crew.thinking for crew in self._crews.values()):
            return
        waiting = [seat._request for seat in self._seats if seat._request]
        if waiting == [part.request for part in self._parts]:
            self._guesses.begin(self._parts, group, self._free_released)

    def _serve(self) -> None:
        """Hand the parts of the tick to the teams, whose seats are woken in turn."""
        now = self._loop.now()
        for part in self._parts:
            crew = self._seats.get(part.request.seat)
            if crew is None:  # it has left
                self._release(part.forked)
            else:
                crew.serve(part, now)
        self._parts = ()

    def _wake(self, now: float) -> bool:
        """Wake the next seat of each team of which none thinks; return whether there was any."""
        woken = False
        for crew in list(self._crews.values()):
            if not crew.served or crew.awaited(now, self._patience) is not None:
                continue
            while crew.served:
                if self._wake_one(crew.served.popleft()):
                    woken = True
                    break
            self._forget_if_empty(crew)
        return woken

    # -- waiting

    async def _hush(self) -> None:
        """Let act whoever was set off by the seats that changed last, and whom they set off.

        A seat that lets another one go on (a parked one, a cancelled one) and then submits would
        otherwise race with it for the next turn. That is over as soon as nobody is about to run; or
        after some turns without a change, where the event loop does not tell, or is kept busy by
        others and nobody thinks but in teams that have let a tick go by.
        """
        loop, quiet, seen = self._loop, 0, self._changes
        for _ in range(_MOST_TURNS):
            await loop.turn()
            if loop.ready is not None and not loop.ready:
                return
            quiet, seen = (quiet + 1, seen) if seen == self._changes else (0, self._changes)
            if quiet >= _QUIET_TURNS and (loop.ready is None or not self._expected()):
                return

    def _expected(self) -> bool:
        """Whether anybody thinks who may still be in time for the tick."""
        return any(crew.thinking and not crew.missed for crew in self._crews.values())

    def _seat_changed(self, seat: Seat) -> None:
        """Take note of a seat that has submitted, parked, come back, been cancelled or left."""
        self._note(seat)
        if seat._left and seat in self._seats:
            self._forget_if_empty(self._seats.pop(seat))
            _log.debug("seat left", seat=seat.name, seats=len(self._seats))
        self._changes += 1
        self._bell.ring()

    # -- inside

    def _note(self, seat: Seat) -> None:
        """Note whether a seat owes a feed, now that it has changed."""
        crew = self._seats.get(seat)
        if crew is not None:
            crew.note(seat)

    def _forget_if_empty(self, crew: Crew) -> None:
        if crew.empty:
            self._crews.pop(crew.team, None)

    def _wake_one(self, part: Part) -> bool:
        """Wake the seat of a part if its request is done; return whether anybody was waiting."""
        seat, outcome = part.request.seat, part.outcome()
        woken = outcome is not None and seat._wake(part.request, outcome)
        if woken:
            self._note(seat)
        if part.forks:
            if woken and isinstance(outcome, TickResult):
                part.forks.clear()  # they are the seat's now
            self._release(part.forked)
        return woken

    def _tell(self, part: Part) -> None:
        """Call a seat's on_commit, and log what went wrong with its part."""
        seat = part.request.seat
        commit = part.commit()
        try:
            if commit is not None:
                seat._commit(commit)
        except Exception as error:  # the seat's own code: it fails that seat alone
            part.error = part.error or error
        if part.error is not None:
            _log.warning("request failed", seat=seat.name, tick=part.tick, error=str(part.error))

    def _release(self, blocks: Iterable[CacheBlock]) -> None:
        self._released += blocks
        self._free_released()

    def _free_released(self) -> None:
        if not (self._in_tick or self._guesses.running):
            for block in self._released:
                if block.alive:
                    self.engine.free(block)
            self._released.clear()

    def _close_seats(self) -> None:
        """Let nobody wait who could not be woken any more."""
        self._closed = True
        for seat in list(self._seats):
            seat._close(
                f"The coordinator of seat {seat.name!r} is closed: join a coordinator that is open."
            )

    def _require_open(self) -> TaskGroup:
        if self._closed:
            raise ClosedError("This coordinator is closed: make a new CacheCoordinator.")
        if self._group is None:
            raise ClosedError("This coordinator is not open yet: enter it with `async with`.")
        return self._group

    async def __aenter__(self) -> Self:
        if self._closed or self._group is not None:
            raise UsageError("A CacheCoordinator can be entered once: make a new one.")
        self._loop = running_loop()
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._run, name="hogwild tick loop")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._group is not None
        # Tasks of the group are cancelled first, so that what they get is cancellation and not
        # ClosedError, which would come out of here as the group's failure.
        self._group.cancel_scope.cancel()
        self._close_seats()
        try:
            return await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and _leaves(group) == _leaves(error):
                return False  # only the body has failed: its error goes on as it is
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._seats)} seats"
        return f"CacheCoordinator({state}, {self._meter.ticks} ticks)"


def _leaves(error: BaseException) -> list[int]:
    """Return which errors a group is made of; event loops rebuild the groups themselves."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [id(error)]
