"""Checks: what is wrong with the feeds of a tick, told before anything has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hogwild_agents.engine.block import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.engine.cache import Cache
from hogwild_agents.engine.context import Context
from hogwild_agents.engine.feed import Feed, entry_block, entry_range, view_of
from hogwild_agents.engine.ranges import is_count
from hogwild_agents.errors import FeedError


def check_tick(feeds: Sequence[Feed], cache: Cache, context: Context, vocabulary: int) -> None:
    """Check the feeds of one tick, and that there is room for them.

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
    check_feeds(feeds, cache, context, vocabulary)
    cache.pool.require(sum(len(feed.tokens) for feed in feeds))


def check_feeds(feeds: Sequence[Feed], cache: Cache, context: Context, vocabulary: int) -> None:
    """Check feeds as :func:`check_tick` does, as though these were fed in one tick; not for room.

    Raises:
        FeedError: one is malformed, or two write the same block.
        ContextLengthError: a view is longer than the model's context.
        ClosedError: a block was freed.
    """
    fresh: dict[int, int] = {}
    for feed in feeds:
        if id(feed.block) in fresh:
            raise FeedError(
                f"Two feeds of one tick write {feed.block!r}: join their tokens into one feed, "
                "or give each a block of its own."
            )
        fresh[id(feed.block)] = len(feed.tokens)
    views = [view_of(feed.block, feed.view) for feed in feeds]
    lengths: dict[int, int] = {}  # by id: feeds share most of what they see, each is checked once
    sliced = False
    for feed, view in zip(feeds, views, strict=True):
        _check_tokens(feed, vocabulary)
        cache.require(feed.block)
        for entry, key in zip(view, map(id, view), strict=True):
            if key in lengths:
                continue
            block = cache.blocks.get(key)
            if block is not None:  # a whole block that lives here, nearly always
                lengths[key] = len(block) + fresh.get(key, 0)
            else:
                lengths[key] = _checked_length(entry, cache, fresh)
                sliced |= isinstance(entry, BlockSlice)
        _check_end(feed.block, view, sliced)
    for feed, view in zip(feeds, views, strict=True):
        context.check(sum(map(lengths.__getitem__, map(id, view))), feed.block)


def _check_tokens(feed: Feed, vocabulary: int) -> None:
    if not len(feed.tokens):
        raise FeedError(f"The feed for {feed.block!r} has no tokens: a feed needs at least one.")
    for wrong in (min(feed.tokens), max(feed.tokens)):
        if not 0 <= wrong < vocabulary:
            raise FeedError(
                f"The feed for {feed.block!r} holds the token {wrong}, but the model has the ids "
                f"0 to {vocabulary - 1}."
            )


def _checked_length(entry: ViewEntry, cache: Cache, fresh: Mapping[int, int]) -> int:
    """Return how long a view's entry is when its block has gained what is ``fresh``, by its id."""
    block = entry_block(entry)
    cache.require(block)
    low, high = entry_range(entry, 0)
    if not (is_count(low) and is_count(high) and low <= high <= len(block)):
        raise FeedError(
            f"A view names the entries {low!r} to {high!r} of {block!r}, which has no such ones: "
            "slice it within its length."
        )
    low, high = entry_range(entry, fresh.get(id(block), 0))
    return high - low


def _check_end(block: CacheBlock, view: tuple[ViewEntry, ...], sliced: bool) -> None:
    """Check that a view ends in the block that is written, and names the end of it once.

    Args:
        block: which one.
        view: in which it is written.
        sliced: whether there may be slices in it.
    """
    *before, last = view or (None,)
    if last is not block and not _is_end(last, block):
        raise FeedError(
            f"The view of a feed ends in the block it writes, but this one for "
            f"{block!r} ends in {last!r}: put the written block last."
        )
    if block in before or (sliced and any(_is_end(entry, block) for entry in before)):
        raise FeedError(
            f"{block!r} is written and stands twice in its own view: name it once, at the end."
        )


def _is_end(entry: ViewEntry | None, block: CacheBlock) -> bool:
    """Whether a view's entry is a slice of a block that grows with it."""
    return isinstance(entry, BlockSlice) and entry.block is block and entry.stop is None
