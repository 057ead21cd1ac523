"""Feed: what one worker hands in for a tick, and what the entries of its view show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

from hogwild_agents.engine.block import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.errors import FeedError


@dataclass(frozen=True, eq=False)
class Feed:
    """What one worker hands in for a tick.

    Attributes:
        block: the block that is written.
        view: the blocks (or slices) this feed attends to, in order; the last one is ``block``.
        tokens: the token ids to append, at least one; kept as plain integers.

    Raises:
        FeedError: a token is no integer.
    """

    block: CacheBlock
    view: Sequence[ViewEntry]
    tokens: Sequence[int]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "tokens", tuple(map(index, self.tokens)))
        except TypeError as error:
            raise FeedError(
                f"The feed for {self.block!r} holds tokens that are no integers ({error}): give a "
                "sequence of token ids."
            ) from error


def view_of(block: CacheBlock, view: Sequence[ViewEntry]) -> tuple[ViewEntry, ...]:
    """Return the entries of the view of a feed for a block.

    Raises:
        FeedError: it is no sequence.
    """
    try:
        return tuple(view)
    except (TypeError, FeedError) as error:  # a block says itself that it cannot be gone through
        raise FeedError(
            f"The view of the feed for {block!r} is {view!r}: give a sequence of the blocks that "
            f"it sees, {block!r} last."
        ) from error


def entry_block(entry: ViewEntry) -> CacheBlock:
    """Return the block that a view entry names."""
    return entry.block if isinstance(entry, BlockSlice) else entry


def entry_range(entry: ViewEntry, fresh: int) -> tuple[int, int]:
    """Return the entries (low, high) of its block that a view entry shows in this tick.

    Args:
        entry: the view entry.
        fresh: how many tokens the block gains in this tick.
    """
    end = len(entry_block(entry)) + fresh
    if isinstance(entry, BlockSlice):
        return entry.start, end if entry.stop is None else entry.stop
    return 0, end
