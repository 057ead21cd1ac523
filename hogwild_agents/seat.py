"""Seat: a worker's place at the coordinator, and what passes between the two.

A seat *thinks* from joining until it submits, and again from being woken until the next submit:
meanwhile it owes a feed, and its team's tick waits for it. It owes nothing while its request waits,
while it is parked, after it has left, and after its submit was cancelled (until it submits again,
so that a cancelled worker may clean up slowly without holding up the others).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeAlias

from anyio.lowlevel import checkpoint_if_cancelled

from hogwild_agents.engine import CacheBlock, Feed, Sampled, Sampler, ViewEntry
from hogwild_agents.errors import ClosedError, UsageError
from hogwild_agents.turns import EventLoop

__all__ = [
    "Commit",
    "Fork",
    "Forked",
    "Move",
    "OnCommit",
    "Request",
    "Seat",
    "TickFeed",
    "TickResult",
    "View",
]

View: TypeAlias = Sequence[ViewEntry] | Callable[[], Sequence[ViewEntry]]
"""A view, or a function that gives it when the tick is closed."""


@dataclass(frozen=True, kw_only=True)
class TickFeed:
    """What a worker hands in for the next tick.

    Attributes:
        block: the block that is written.
        tokens: the token ids to append, at least one.
        view: what the tokens attend to, ``block`` last. A function is called once a tick when it
            is closed, after everybody of the team has handed in, and must not block.
        sampler: samples the token that follows; ``None`` samples nothing.
        scored: token ids whose log-probabilities after the last token are wanted: of the model
            itself, before any sampling parameter. No token is sampled for that, or drawn.
        breaks: told the token that was sampled, whether the next feed is likely to be anything
            else than that token alone (a step ends, a tool is called). Only a coordinator that
            computes ``ahead`` asks, on the event loop; nothing but speed depends on it. ``None``
            for never.
    """

    block: CacheBlock
    tokens: Sequence[int]
    view: View
    sampler: Sampler | None = None
    scored: Sequence[int] = ()
    breaks: Callable[[int], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Move:
    """Append ``source``'s entries to ``target`` and empty ``source``, after the tick's forward."""

    source: CacheBlock
    target: CacheBlock


@dataclass(frozen=True, kw_only=True)
class Fork:
    """Make a new block with a copy of ``source``'s entries, after the tick's forward.

    Attributes:
        source: what is copied; it stays as it is.
        name: of the new block; the source's if empty.
    """

    source: CacheBlock
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Forked:
    """A fork that was made.

    Attributes:
        source: what was copied.
        target: the new block.
        length: how many entries it was given.
        after: how many of the same commit's moves were made before.
    """

    source: CacheBlock
    target: CacheBlock
    length: int
    after: int


@dataclass(frozen=True, kw_only=True)
class TickResult:
    """What a seat gets for a request.

    Attributes:
        tick: number of the tick that completed the request, from 1.
        sampled: one for each feed of the request; ``None`` where it had no sampler.
        scores: one for each feed of the request: the log-probabilities of its ``scored``, in the
            same order.
        forked: the new blocks, one for each :class:`Fork`, in order. They are the submitter's.
    """

    tick: int
    sampled: tuple[Sampled | None, ...]
    scores: tuple[tuple[float, ...], ...] = ()
    forked: tuple[CacheBlock, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What one seat changed in the cache in one tick; all commits together are the whole cache.

    To make the changes again, take the commits of a tick together: one forward over all their
    feeds, then the :attr:`ops` of one commit after the other, in the order in which they were
    told.

    Attributes:
        tick: number of the tick, from 1; ticks that failed have none. Moves and forks made in a
            round without feeds, which is no tick, have the number of the tick before.
        seat: the seat's name.
        feeds: what was appended, with the views as they were. A feed longer than the
            coordinator's ``prefill_chunk`` comes as one commit for each chunk.
        moves: the moves made after the forward, in order.
        forks: the forks made after the forward, in order; those of a request that failed are
            undone and left out.
    """

    tick: int
    seat: str
    feeds: tuple[Feed, ...]
    moves: tuple[Move, ...]
    forks: tuple[Forked, ...] = ()

    @property
    def ops(self) -> tuple[Move | Forked, ...]:
        """Moves and forks in the order in which they were made."""
        ops: list[Move | Forked] = list(self.moves)
        for fork in reversed(self.forks):
            ops.insert(fork.after, fork)
        return tuple(ops)


OnCommit: TypeAlias = Callable[[Commit], None]


class Request:
    """One submit: from being handed in until its seat is woken.

    Attributes:
        feeds: as handed in; their lists are copied, so that nobody can change them under way.
        then: the moves and forks to make after the last of them.
        ticks: how many ticks it has been part of; long feeds take several.
        written: how many of its tokens are in the cache.
        live: False once the submitter was cancelled or has left; nobody waits for it any more.
    """

    def __init__(
        self,
        seat: Seat,
        feeds: Sequence[TickFeed],
        then: Sequence[Move | Fork],
        loop: EventLoop,
    ) -> None:
        self.seat = seat
        self.feeds = tuple(map(_copied, feeds))
        self.then = tuple(then)
        self.submitted = loop.now()
        self.ticks = 0
        self.written = 0
        self.live = True
        self.outcome: TickResult | Exception | None = None
        self.finished = loop.signal()

    def finish(self, outcome: TickResult | Exception) -> None:
        """Hand over the outcome and wake the submitter, if there is one still."""
        if self.live:
            self.live = False
            self.outcome = outcome
            self.finished.set()

    def take(self) -> TickResult | Exception | None:
        """Return what :meth:`finish` was given, once; None before and afterwards."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def result(self) -> TickResult:
        """Return what :meth:`finish` was given, or raise it; once."""
        outcome, self.outcome = self.outcome, None
        assert outcome is not None, "result() is read once, after finish()"
        if isinstance(outcome, TickResult):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # it would keep itself alive, and with it all that its frames hold


def _copied(feed: TickFeed) -> TickFeed:
    """Return a feed with lists of its own, unless they cannot be changed anyway."""
    if isinstance(feed.tokens, tuple) and isinstance(feed.scored, tuple):
        return feed
    return replace(feed, tokens=tuple(feed.tokens), scored=tuple(feed.scored))


class Seat:
    """A worker's place at a :class:`CacheCoordinator`, made by its ``join``.

    Use it as a context manager, so that it is left however the worker ends::

        with coordinator.join("Alice") as seat:
            result = await seat.submit(TickFeed(block=own, tokens=ids, view=view, sampler=sampler))

    A seat that thinks holds up the ticks of its team: whoever waits for anything but its own submit
    (a tool, a person, another worker) does so inside :meth:`parked`.

    Attributes:
        name: a label; seats of one coordinator may have equal names.
    """

    def __init__(
        self,
        name: str,
        *,
        on_commit: OnCommit | None,
        changed: Callable[[Seat], None],
        release: Callable[[Iterable[CacheBlock]], None],
        loop: EventLoop,
    ) -> None:
        self.name = name
        self._on_commit = on_commit
        self._changed = changed
        self._release = release
        self._loop = loop
        self._request: Request | None = None
        self._parked = 0
        self._taken = False
        self._idle = False
        self._closed: str | None = None
        self._thinking_since = loop.now()

    # -- what the worker calls

    async def submit(self, *feeds: TickFeed, then: Sequence[Move | Fork] = ()) -> TickResult:
        """Take part in the next tick, and wait until it has been run.

        Without feeds the seat passes: it takes part in the round only for its ``then``, or to be
        woken in its turn. A feed longer than the coordinator's ``prefill_chunk`` takes several
        ticks; of several feeds the last chunks fall into the same one.

        When cancelled before its tick is closed, nothing of it happens; when cancelled later, its
        tokens are in the cache and the result is dropped, and the blocks forked for it are
        freed. A request that takes several ticks may fail or be cancelled between them; what was
        committed stays.

        Args:
            feeds: what to append, each to a block of its own.
            then: moves and forks to make after the forward, in this order, when those of seats
                that joined earlier are done. One that fails ends them: the feeds and the moves
                before it stay, the forks before it are freed.

        Raises:
            FeedError: a feed, a move or a fork is malformed, a scored token does not exist, or an
                earlier seat writes the same block in this tick.
            ContextLengthError: a view would be longer than the model's context.
            CacheFullError: the cache has no room for the tokens, or for a fork.
            TickError: the forward pass failed, and no block has changed; or sampling did.
            ClosedError: the seat has left, the coordinator is closed, or a block was freed.
            UsageError: another submit of this seat is still waiting.
        """
        if self._request is None:
            self._taken = False
        await checkpoint_if_cancelled()
        self._require_open()
        if self._request is not None:
            raise UsageError(
                f"Seat {self.name!r} has submitted already and waits for its tick: await that "
                "submit first, or join a second seat."
            )
        request = Request(self, feeds, then, self._loop)
        self._request = request
        self._idle = False
        self._changed(self)
        try:
            await request.finished.wait()
        except BaseException:
            self._withdraw(request)
            self._drop(request.take())
            raise
        return request.result()

    @property
    def taken(self) -> bool:
        """Whether a tick was closed with what was submitted last, even if that was cancelled."""
        return self._taken

    @contextmanager
    def parked(self) -> Iterator[None]:
        """Owe nothing inside the ``with``; the others tick on. It may be nested.

        Submitting inside is allowed: a parked seat takes part in a tick without being waited for.

        Raises:
            ClosedError: the seat has left, or the coordinator is closed.
        """
        self._require_open()
        self._parked += 1
        self._changed(self)
        try:
            yield
        except BaseException as error:
            self._idle |= not isinstance(error, Exception)  # cancelled: it may not come back
            raise
        finally:
            self._parked -= 1
            self._think()
            self._changed(self)

    def leave(self) -> None:
        """Leave the coordinator; a submit that is waiting gets ClosedError. Twice is fine."""
        self._close(f"Seat {self.name!r} has left its coordinator: join again for a new seat.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def __repr__(self) -> str:
        return f"Seat({self.name!r}, {self._state()})"

    # -- what the coordinator reads and calls

    @property
    def _left(self) -> bool:
        return self._closed is not None

    @property
    def _thinks(self) -> bool:
        """Whether the next tick has to wait for this seat."""
        return not (self._closed or self._request or self._parked or self._idle)

    def _take(self) -> Request | None:
        """Return what is to be part of the tick that is closed now, if anything is."""
        self._taken |= self._request is not None
        return self._request

    def _commit(self, commit: Commit) -> None:
        if self._on_commit is not None:
            self._on_commit(commit)

    def _wake(self, request: Request, outcome: TickResult | Exception) -> bool:
        """Hand over the outcome of a request; return whether anybody was waiting for it."""
        if not request.live:
            return False
        self._request = None
        self._idle = False
        self._think()
        request.finish(outcome)
        return True

    def _close(self, reason: str) -> None:
        """Leave, and tell whoever submits why."""
        if self._left:
            return
        self._closed = reason
        if self._request is not None:
            self._request.finish(ClosedError(reason))
            self._request = None
        self._changed(self)

    # -- inside

    def _think(self) -> None:
        self._thinking_since = self._loop.now()

    def _withdraw(self, request: Request) -> None:
        request.live = False
        self._idle = True
        if self._request is request:
            self._request = None
        self._changed(self)

    def _drop(self, outcome: TickResult | Exception | None) -> None:
        """Give back what nobody will get: cancelled at the very moment of being woken."""
        if isinstance(outcome, TickResult):
            self._release(outcome.forked)

    def _require_open(self) -> None:
        if self._closed is not None:
            raise ClosedError(self._closed)

    def _state(self) -> str:
        if self._left:
            return "left"
        if self._request is not None:
            return "waiting for its tick"
        return "parked" if self._parked else "idle" if self._idle else "thinking"
