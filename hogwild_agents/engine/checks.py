"""Checks: what is wrong with the feeds of a tick, told before anything has changed."""

from __future__ import annotations

from collections.abc import Sequence

from hogwild_agents.engine.block import CacheBlock, ViewEntry
from hogwild_agents.engine.cache import Cache
from hogwild_agents.engine.context import Context
from hogwild_agents.engine.plan import Feed, entry_block, entry_range
from hogwild_agents.errors import FeedError


def check_tick(feeds: Sequence[Feed], cache: Cache, context: Context, vocabulary: int) -> None:
    """Check the feeds of one tick, each alone and all together.

    Args:
        feeds: of the tick.
        cache: whose blocks they name.
        context: how long their views may be.
        vocabulary: how many token ids there are.

    Raises:
        FeedError: a feed is malformed, two write the same block, or there is none.
        ContextLengthError: a view is longer than the model's context.
        CacheFullError: the budget has no room.
        ClosedError: a block was freed.
    """
    if not feeds:
        raise FeedError("A tick needs at least one feed, but none was given.")
    fresh: dict[int, int] = {}
    for feed in feeds:
        if id(feed.block) in fresh:
            raise FeedError(
                f"Two feeds of one tick write {feed.block!r}: join their tokens into one feed, "
                "or give each a block of its own."
            )
        fresh[id(feed.block)] = len(feed.tokens)
        _check_tokens(feed, vocabulary)
        _check_view(feed, cache)
    for feed in feeds:
        context.check(_view_length(feed, fresh), feed.block)
    cache.pool.require(sum(fresh.values()))


def check_feed(feed: Feed, cache: Cache, context: Context, vocabulary: int) -> None:
    """Check one feed as :func:`check_tick` does, as though it was fed alone.

    Raises:
        FeedError: it is malformed.
        ContextLengthError: its view is longer than the model's context.
        ClosedError: a block was freed.
    """
    _check_tokens(feed, vocabulary)
    _check_view(feed, cache)
    context.check(_view_length(feed, {id(feed.block): len(feed.tokens)}), feed.block)


def _check_tokens(feed: Feed, vocabulary: int) -> None:
    if not len(feed.tokens):
        raise FeedError(f"The feed for {feed.block!r} has no tokens: a feed needs at least one.")
    wrong = next((token for token in feed.tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise FeedError(
            f"The feed for {feed.block!r} holds the token {wrong}, but the model has the ids 0 to "
            f"{vocabulary - 1}."
        )


def _check_view(feed: Feed, cache: Cache) -> None:
    cache.require(feed.block, *(entry_block(entry) for entry in feed.view))
    last: ViewEntry | None = feed.view[-1] if len(feed.view) else None
    if last is None or entry_block(last) is not feed.block or not _open_end(last):
        raise FeedError(
            f"The view of a feed ends in the block it writes, but this one for "
            f"{feed.block!r} ends in {last!r}: put the written block last."
        )
    for entry in feed.view[:-1]:
        if entry_block(entry) is feed.block and _open_end(entry):
            raise FeedError(
                f"{feed.block!r} is written and stands twice in its own view: name it once, "
                "at the end."
            )
    for entry in feed.view:
        low, high = entry_range(entry, 0)
        if not 0 <= low <= high <= len(entry_block(entry)):
            raise FeedError(
                f"A view names the entries {low} to {high} of {entry_block(entry)!r}, which "
                "has not so many: slice it within its length."
            )


def _view_length(feed: Feed, fresh: dict[int, int]) -> int:
    """Return how long a view is when its blocks have gained what is ``fresh``, by their ids."""
    ranges = (entry_range(entry, fresh.get(id(entry_block(entry)), 0)) for entry in feed.view)
    return sum(high - low for low, high in ranges)


def _open_end(entry: ViewEntry) -> bool:
    return isinstance(entry, CacheBlock) or entry.stop is None
