"""Watching a run: everything that happens, in one list, in the order in which it happened.

The list holds what was told (events), what a tick was closed with, every forward with its feeds
and logits, every other change of the cache, and what each seat was told of a tick. It is all that
the checks get.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

from hogwild_agents.coordinator import CacheCoordinator, Commit, OnCommit, Seat
from hogwild_agents.crew import Crew
from hogwild_agents.engine import CacheBlock, Engine, Feed, Trial
from hogwild_agents.events import Event
from hogwild_agents.seat import Request


class OutOfLuck(RuntimeError):
    """What a forward raises that shall fail."""


@dataclass(frozen=True)
class Told:
    """An event of the run."""

    event: Event


@dataclass(frozen=True)
class Spoken:
    """The run was asked to let a person speak, to some workers or to all (None)."""

    speaker: str
    to: tuple[str, ...] | None


@dataclass(frozen=True)
class Seated:
    """Somebody got a seat, behind all others."""

    seat: str


@dataclass(frozen=True)
class HandedIn:
    """A seat has submitted; until the tick is closed it may still take that back."""

    seat: str
    request: Request


@dataclass(frozen=True)
class Closed:
    """A tick was closed with these requests, which have been part of so many ticks before."""

    requests: tuple[tuple[Request, int], ...]


@dataclass(frozen=True)
class Forward:
    """A forward, and the logits after the last token of each feed."""

    feeds: tuple[Feed, ...]
    logits: Tensor


@dataclass(frozen=True)
class Change:
    """Another change of the cache: a move (to ``other``), a fork, a cut, a block that was freed."""

    kind: Literal["made", "moved", "forked", "cut", "freed"]
    block: CacheBlock
    other: CacheBlock | None = None
    length: int = 0


@dataclass(frozen=True)
class Committed:
    """What a seat was told of a tick."""

    commit: Commit


Entry: TypeAlias = Told | Spoken | Seated | HandedIn | Closed | Forward | Change | Committed
Log: TypeAlias = list[Entry]


class WatchedEngine(Engine):
    """An engine that writes all it does to a log.

    Attributes:
        log: what has happened.
        fails_at: which forward shall fail, counted from 1.
        failed: whether it has.
        kept: how many were begun ahead, and kept.
    """

    def __init__(self, model: Any, **options: Any) -> None:
        self.start([], None)
        super().__init__(model, **options)

    def start(self, log: Log, fails_at: int | None) -> None:
        """Begin another log."""
        self.log, self.fails_at, self.failed, self._forwards = log, fails_at, False, 0
        self.kept = 0

    def forward(self, feeds: Sequence[Feed], *, logits: Literal["last", "all"] = "last") -> Tensor:
        self._forwards += 1
        if self._forwards == self.fails_at:
            self.failed = True
            raise OutOfLuck("made to fail")
        result = super().forward(feeds, logits=logits)
        self.log.append(Forward(tuple(feeds), result.clone()))
        return result

    def _keep_trial(self, trial: Trial) -> Tensor | None:
        if self._forwards + 1 == self.fails_at:  # as the forward would that it stands for
            return None
        result = super()._keep_trial(trial)
        if result is not None:
            self._forwards += 1
            self.kept += 1
            self.log.append(Forward(trial.feeds, result.clone()))
        return result

    def block(self, name: str = "") -> CacheBlock:
        block = super().block(name)
        self.log.append(Change("made", block))
        return block

    def move(self, source: CacheBlock, target: CacheBlock) -> None:
        super().move(source, target)
        self.log.append(Change("moved", source, target))

    def fork(self, block: CacheBlock, name: str = "") -> CacheBlock:
        twin = super().fork(block, name)
        self.log.append(Change("forked", block, twin))
        return twin

    def truncate(self, block: CacheBlock, length: int) -> None:
        super().truncate(block, length)
        self.log.append(Change("cut", block, length=length))

    def free(self, block: CacheBlock) -> None:
        super().free(block)
        self.log.append(Change("freed", block))


class WatchedCoordinator(CacheCoordinator):
    """A coordinator that writes to its engine's log what is handed in, closed and committed."""

    engine: WatchedEngine

    def __init__(self, engine: WatchedEngine, **options: Any) -> None:
        super().__init__(engine, **options)
        self._seen: list[Request] = []

    def join(self, name: str, *, on_commit: OnCommit | None = None, team: Hashable = None) -> Seat:
        def note(commit: Commit) -> None:
            self.engine.log.append(Committed(commit))
            if on_commit is not None:
                on_commit(commit)

        self.engine.log.append(Seated(name))
        return super().join(name, on_commit=note, team=team)

    def _seat_changed(self, seat: Seat) -> None:
        request = seat._request
        if request is not None and request not in self._seen:
            self._seen.append(request)
            self.engine.log.append(HandedIn(seat.name, request))
        super()._seat_changed(seat)

    def _close_tick(self, crews: set[Crew]) -> float:
        seats = [seat for seat, crew in self._seats.items() if crew in crews]
        requests = [seat._request for seat in seats if seat._request is not None]
        self.engine.log.append(Closed(tuple((one, one.ticks) for one in requests)))
        return super()._close_tick(crews)
