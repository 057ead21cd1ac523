"""Tick: what the coordinator does with one round of requests, between two waits; no async here.

:func:`close` and :func:`fit` run on the event loop, :func:`compute` in the worker thread. What
concerns one seat only (a malformed feed, no room, a view function or a sampler that raises) fails
its part and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from traceback import clear_frames
from typing import TYPE_CHECKING

from hogwild_agents.engine import Engine, Feed, Sampled, Sampler, ViewEntry, sample
from hogwild_agents.engine.plan import entry_block, entry_range
from hogwild_agents.errors import (
    CacheFullError,
    ClosedError,
    ContextLengthError,
    FeedError,
    TickError,
)
from hogwild_agents.seat import Commit, Move, Request, TickFeed, TickResult, View

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Part", "close", "compute", "fit"]


@dataclass(eq=False)
class Part:
    """One seat's part of one tick.

    Attributes:
        request: what the seat handed in.
        feeds: what of it is fed in this tick.
        samplers: one for each feed.
        completes: whether nothing of the request is left after this tick.
        error: why it failed.
        committed: whether its feeds are in the cache now.
        sampled: one for each feed.
        moves: those that were made.
    """

    request: Request
    feeds: tuple[Feed, ...] = ()
    samplers: tuple[Sampler | None, ...] = ()
    completes: bool = True
    error: Exception | None = None
    committed: bool = False
    sampled: list[Sampled | None] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many tokens are fed in this tick."""
        return sum(len(feed.tokens) for feed in self.feeds)

    def commit(self, tick: int) -> Commit | None:
        """Return what changed in the cache, if anything did."""
        feeds = self.feeds if self.committed else ()
        if not feeds and not self.moves:
            return None
        return Commit(tick=tick, seat=self.request.seat.name, feeds=feeds, moves=tuple(self.moves))

    def outcome(self, tick: int) -> TickResult | Exception | None:
        """Return what the seat is woken with; None while the request goes on."""
        if self.error is not None:
            return self.error
        return TickResult(tick=tick, sampled=tuple(self.sampled)) if self.completes else None


# -- on the event loop


def close(requests: Iterable[Request], engine: Engine, chunk: int | None) -> list[Part]:
    """Resolve the views of the requests and check each alone.

    Args:
        requests: in join order.
        engine: whose blocks they name.
        chunk: the most tokens of one feed in one tick.
    """
    return [_part(request, engine, chunk) for request in requests]


def fit(parts: Sequence[Part], engine: Engine) -> None:
    """Fail the parts that cannot run together with those of the seats before them."""
    _fit_blocks(parts)
    _fit_budget(parts, engine)
    if engine.context_length is not None:
        _fit_context(parts, engine.context_length)


def _part(request: Request, engine: Engine, chunk: int | None) -> Part:
    part = Part(request)
    try:
        views = [_resolve(feed.view) for feed in request.feeds]
        if request.ticks == 0:
            _check_whole(request, views, engine)
        _cut(part, views, chunk)
        if request.ticks:
            for feed in part.feeds:
                engine.check(feed)
    except Exception as error:  # a view function is the user's code and may raise anything
        part.error = error
    return part


def _check_whole(request: Request, views: Sequence[tuple[ViewEntry, ...]], engine: Engine) -> None:
    """Check a whole request before any of it is fed."""
    written: set[int] = set()
    for feed, view in zip(request.feeds, views, strict=True):
        engine.check(Feed(feed.block, view, feed.tokens))
        if id(feed.block) in written:
            raise FeedError(
                f"Two feeds of one submit write {feed.block!r}: join their tokens into one feed."
            )
        written.add(id(feed.block))
    for move in request.then:
        if move.source is move.target:
            raise FeedError(f"{move.source!r} cannot be moved into itself: name another target.")
        dead = next((block for block in (move.source, move.target) if not block.alive), None)
        if dead is not None:
            raise ClosedError(f"{dead!r} was freed and cannot be moved: leave the move out.")


def _cut(part: Part, views: Sequence[tuple[ViewEntry, ...]], chunk: int | None) -> None:
    """Take this tick's chunk of each feed; the last chunks of all of them meet in one tick."""
    request = part.request
    chunks = [_chunks(feed, chunk) for feed in request.feeds]
    ticks = max(map(len, chunks), default=1)
    part.completes = request.ticks == ticks - 1
    chosen = [
        (Feed(feed.block, view, pieces[number]), feed.sampler)
        for feed, view, pieces in zip(request.feeds, views, chunks, strict=True)
        if (number := request.ticks - (ticks - len(pieces))) >= 0
    ]
    part.feeds = tuple(feed for feed, _ in chosen)
    part.samplers = tuple(sampler if part.completes else None for _, sampler in chosen)
    part.sampled = [None] * len(chosen)


def _chunks(feed: TickFeed, chunk: int | None) -> list[Sequence[int]]:
    size = chunk or len(feed.tokens)
    return [feed.tokens[start : start + size] for start in range(0, len(feed.tokens), size)]


def _resolve(view: View) -> tuple[ViewEntry, ...]:
    return tuple(view() if callable(view) else view)


def _fit_blocks(parts: Sequence[Part]) -> None:
    """In one tick a block is written once: by the first seat that wants to."""
    writers: dict[int, str] = {}
    for part in _live(parts):
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
    for part in _live(parts):
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
    fresh = {id(feed.block): len(feed.tokens) for part in _live(parts) for feed in part.feeds}
    for part in reversed(_live(parts)):
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


# -- in the worker thread


def compute(parts: Sequence[Part], engine: Engine, tick: int) -> None:
    """Run one forward over the parts that have not failed, sample, and make the moves.

    Changes the engine's blocks, the samplers' random states, and the parts. Raises nothing: an
    error is put into the parts that it concerns.
    """
    feeding = [part for part in _live(parts) if part.feeds]
    if feeding:
        try:
            logits = engine.forward([feed for part in feeding for feed in part.feeds])
        except Exception as cause:
            _fail_all(feeding, tick, cause)
        else:
            for part in feeding:
                part.committed = True
            _sample(feeding, logits, tick)
    for part in parts:
        if part.completes and (part.committed or (part.error is None and not part.feeds)):
            _move(part, engine)


def _fail_all(parts: Sequence[Part], tick: int, cause: Exception) -> None:
    clear_frames(cause.__traceback__)  # else its tensors live on; it may be memory that lacks
    for part in parts:
        part.error = TickError(
            f"The forward pass of tick {tick} failed and no block has changed ({_say(cause)}): "
            "mend the cause and submit again."
        )
        part.error.__cause__ = cause


def _sample(parts: Sequence[Part], logits: Tensor, tick: int) -> None:
    """Sample for all the feeds at once; where that fails, for each alone."""
    places = [(part, number) for part in parts for number in range(len(part.feeds))]
    draws = [
        (row, part, number, sampler)
        for row, (part, number) in enumerate(places)
        if (sampler := part.samplers[number]) is not None
    ]
    if not draws:
        return
    if len(draws) < len(places):
        logits = logits[[row for row, *_ in draws]]  # [draws, vocab]
    samplers = [sampler for _, _, _, sampler in draws]
    contexts = [partial(_tokens, part.feeds[number].view) for _, part, number, _ in draws]
    drawing = [
        sampler.generator(logits.device) for sampler in samplers if sampler.params.temperature
    ]
    states = [generator.get_state() for generator in drawing]
    try:
        found = sample(logits, samplers, contexts)
    except Exception:  # one seat's parameters must not cost the others their tokens, or draws
        for generator, state in zip(drawing, states, strict=True):
            generator.set_state(state)
    else:
        for (_, part, number, _), token in zip(draws, found, strict=True):
            part.sampled[number] = token
        return
    for row, (_, part, number, sampler) in enumerate(draws):
        try:
            part.sampled[number] = sample(logits[row : row + 1], [sampler], [contexts[row]])[0]
        except Exception as cause:
            part.error = TickError(
                f"No token could be sampled for seat {part.request.seat.name!r} after tick {tick} "
                f"({_say(cause)}), though what it fed is in the cache: check its sampling "
                "parameters."
            )
            part.error.__cause__ = cause


def _move(part: Part, engine: Engine) -> None:
    for move in part.request.then:
        try:
            engine.move(move.source, move.target)
        except Exception as error:
            part.error = error
            return
        part.moves.append(move)


# -- small change


def _live(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.error is None]


def _tokens(view: Iterable[ViewEntry]) -> list[int]:
    """Return the tokens of a whole view."""
    return [
        token
        for entry in view
        for token in entry_block(entry).tokens[slice(*entry_range(entry, 0))]
    ]


def _say(cause: Exception) -> str:
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
