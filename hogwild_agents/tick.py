"""Tick: what the coordinator makes of one round of requests, on the event loop; no async here.

:func:`close` and :func:`fit` check what was handed in; :mod:`~hogwild_agents.compute` runs it. What
concerns one seat only (a malformed feed, no room, a view function or a sampler that raises) fails
its part and leaves the others alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import index

from hogwild_agents.engine import CacheBlock, Engine, Feed, Sampled, Sampler, ViewEntry
from hogwild_agents.engine.feed import entry_block, entry_range, view_of
from hogwild_agents.errors import CacheFullError, ClosedError, ContextLengthError, FeedError
from hogwild_agents.seat import Commit, Fork, Forked, Move, Request, TickFeed, TickResult

__all__ = ["Part", "close", "fit", "live"]


@dataclass(eq=False)
class Part:
    """One seat's part of one tick.

    Attributes:
        request: what the seat handed in.
        feeds: what of it is fed in this tick.
        size: how many tokens that is.
        samplers: one for each feed.
        scored: one for each feed: whose log-probabilities are wanted.
        completes: whether nothing of the request is left after this tick.
        error: why it failed.
        tick: the number of the tick, once it is over; without feeds, of the one before.
        committed: whether its feeds are in the cache now.
        sampled: one for each feed.
        scores: one for each feed.
        moves: those that were made.
        forks: those that were made, and whose blocks nobody has been given yet.
    """

    request: Request
    feeds: list[Feed] = field(default_factory=list)
    size: int = 0
    samplers: list[Sampler | None] = field(default_factory=list)
    scored: list[Sequence[int]] = field(default_factory=list)
    completes: bool = True
    error: Exception | None = None
    tick: int = 0
    committed: bool = False
    sampled: list[Sampled | None] = field(default_factory=list)
    scores: list[tuple[float, ...]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    forks: list[Forked] = field(default_factory=list)

    @property
    def forked(self) -> tuple[CacheBlock, ...]:
        """The new blocks."""
        return tuple([fork.target for fork in self.forks])

    def commit(self) -> Commit | None:
        """Return what changed in the cache, if anything did."""
        feeds = tuple(self.feeds) if self.committed else ()
        if not (feeds or self.moves or self.forks):
            return None
        return Commit(
            tick=self.tick,
            seat=self.request.seat.name,
            feeds=feeds,
            moves=tuple(self.moves),
            forks=tuple(self.forks),
        )

    def outcome(self) -> TickResult | Exception | None:
        """Return what the seat is woken with; None while the request goes on."""
        if self.error is not None:
            return self.error
        if not self.completes:
            return None
        return TickResult(
            tick=self.tick,
            sampled=tuple(self.sampled),
            scores=tuple(self.scores),
            forked=self.forked if self.forks else (),
        )


def close(requests: Iterable[Request], engine: Engine, chunk: int | None) -> list[Part]:
    """Resolve the views of the requests, and cut what is fed in this tick.

    Args:
        requests: in join order.
        engine: whose blocks they name.
        chunk: the most tokens of one feed in one tick.
    """
    return [_part(request, engine, chunk) for request in requests]


def fit(parts: Sequence[Part], engine: Engine) -> None:
    """Fail the parts that cannot run, alone or together with those of the seats before them."""
    sound = _are_sound(parts, engine)
    if not sound:
        _check_each(parts, engine)
        _fit_blocks(parts)
    _fit_budget(parts, engine)
    if not sound and engine.context_length is not None:
        _fit_context(parts, engine.context_length)


def _part(request: Request, engine: Engine, chunk: int | None) -> Part:
    part = Part(request)
    try:
        views = [
            view_of(feed.block, feed.view() if callable(feed.view) else feed.view)
            for feed in request.feeds
        ]
        _cut(part, views, chunk)
        if request.ticks == 0:
            _check_whole(part, views, engine)
    except Exception as error:  # a view function is the user's code and may raise anything
        part.error = error
    return part


def _check_whole(part: Part, views: Sequence[tuple[ViewEntry, ...]], engine: Engine) -> None:
    """Check a whole request before any of it is fed, but for the feeds of this tick."""
    request = part.request
    if not part.completes:
        whole = zip(request.feeds, views, strict=True)
        engine.check(*(Feed(feed.block, view, feed.tokens) for feed, view in whole))
    for feed in request.feeds:
        if feed.scored:
            _check_scored(feed, engine.vocab_size)
    for op in request.then:
        _check_op(op)


def _are_sound(parts: Sequence[Part], engine: Engine) -> bool:
    """Check all feeds of the tick in one go."""
    try:
        engine.check(*[feed for part in live(parts) for feed in part.feeds])
    except Exception:
        return False
    return True


def _check_each(parts: Sequence[Part], engine: Engine) -> None:
    """Find out whose feeds cannot even run alone."""
    for part in live(parts):
        try:
            engine.check(*part.feeds)
        except Exception as error:
            part.error = error


def _check_scored(feed: TickFeed, vocabulary: int) -> None:
    try:
        wrong = next(
            (token for token in map(index, feed.scored) if not 0 <= token < vocabulary), None
        )
    except TypeError as error:
        raise FeedError(
            f"The feed for {feed.block!r} is scored for tokens that are no integers ({error}): "
            "give a sequence of token ids."
        ) from error
    if wrong is not None:
        raise FeedError(
            f"The feed for {feed.block!r} is scored for the token {wrong}, but the model has the "
            f"ids 0 to {vocabulary - 1}."
        )


def _check_op(op: Move | Fork) -> None:
    if isinstance(op, Fork):
        if not op.source.alive:
            raise ClosedError(f"{op.source!r} was freed and cannot be forked: leave the fork out.")
        return
    if op.source is op.target:
        raise FeedError(f"{op.source!r} cannot be moved into itself: name another target.")
    dead = next((block for block in (op.source, op.target) if not block.alive), None)
    if dead is not None:
        raise ClosedError(f"{dead!r} was freed and cannot be moved: leave the move out.")


def _cut(part: Part, views: Sequence[tuple[ViewEntry, ...]], chunk: int | None) -> None:
    """Take this tick's chunk of each feed; the last chunks of all of them meet in one tick."""
    request = part.request
    if chunk is None:
        chunk = sys.maxsize
    ticks = [max(1, -(-len(feed.tokens) // chunk)) for feed in request.feeds]
    longest = max(ticks, default=1)
    part.completes = request.ticks == longest - 1
    for feed, view, count in zip(request.feeds, views, ticks, strict=True):
        number = request.ticks - (longest - count)
        if number < 0:
            continue
        tokens = feed.tokens[number * chunk :][:chunk] if count > 1 else feed.tokens
        part.feeds.append(Feed(feed.block, view, tokens))
        part.samplers.append(feed.sampler if part.completes else None)
        part.scored.append(feed.scored if part.completes else ())
        part.sampled.append(None)
        part.scores.append(())
        part.size += len(tokens)


def _fit_blocks(parts: Sequence[Part]) -> None:
    """In one tick a block is written once: by the first seat that wants to."""
    writers: dict[int, str] = {}
    for part in live(parts):
        name = part.request.seat.name
        taken = next((feed.block for feed in part.feeds if id(feed.block) in writers), None)
        if taken is not None:
            part.error = FeedError(
                f"Seat {name!r} would write {taken!r}, which seat {writers[id(taken)]!r} writes in "
                "the same tick: give each a block of its own."
            )
        else:
            writers.update((id(feed.block), name) for feed in part.feeds)


def _fit_budget(parts: Sequence[Part], engine: Engine) -> None:
    """Admit in join order what the cache has room for."""
    room = engine.free_tokens
    if room is None:
        return
    for part in live(parts):
        request = part.request
        left = sum(len(feed.tokens) for feed in request.feeds) - request.written
        if left <= room:
            room -= part.size
        else:
            part.error = CacheFullError(
                f"Seat {request.seat.name!r} needs room for {left} more tokens, but of the cache "
                f"budget of {engine.max_tokens} tokens this tick has {room} left: free or "
                "truncate blocks, or give the engine a larger max_tokens or max_bytes."
            )


def _fit_context(parts: Sequence[Part], limit: int) -> None:
    """Fail whose view grows too long by what is fed in this tick, from the last seat on."""
    fresh = {id(feed.block): len(feed.tokens) for part in live(parts) for feed in part.feeds}
    for part in reversed(live(parts)):
        length = max((_length(feed.view, fresh) for feed in part.feeds), default=0)
        if length > limit:
            part.error = ContextLengthError(
                f"A view of seat {part.request.seat.name!r} would be {length} tokens long with "
                f"what is fed in this tick, but the model's context has {limit}: shorten the "
                "prompt, or forget steps."
            )
            for feed in part.feeds:
                del fresh[id(feed.block)]


def _length(view: Iterable[ViewEntry], fresh: dict[int, int]) -> int:
    ranges = (entry_range(entry, fresh.get(id(entry_block(entry)), 0)) for entry in view)
    return sum(high - low for low, high in ranges)


def live(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that have not failed."""
    return [part for part in parts if part.error is None]
