"""Readers: which tokens of a tick read which stretch of which block, for all feeds at once.

A *row* is a token that reads a stretch. Rows of one stretch are neighbours, in the order of the
feeds, so that a layer reads the stretch once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from hogwild_agents.engine.block import CacheBlock, ViewEntry
from hogwild_agents.engine.columns import Ints, ends, ints, ranges
from hogwild_agents.engine.feed import Feed, entry_block, entry_range
from hogwild_agents.engine.reach import Reach

Range = tuple[CacheBlock, int, int]
"""Entries ``low`` to ``high`` of a block, as (block, low, high)."""


@dataclass(frozen=True, eq=False)
class Packed:
    """All feeds in one row, and where everything stands that they see.

    Attributes:
        fresh: how many tokens each block gains, by its ``id``.
        ids: [T] token ids.
        positions: [T] block-local positions.
        view_positions: [T] those in the view of each token's feed.
        counts: [feeds] how many tokens each has.
        firsts: [feeds] which token is its first.
        last: [feeds] which entry is the last of its view.
        shown: the different ranges of blocks that are seen.
        seen: [entries] which of these each view entry is, view after view.
        feeds: [entries] whose view it is.
        origins: [entries] the view position of the block's entry 0.
    """

    fresh: Mapping[int, int]
    ids: Ints
    positions: Ints
    view_positions: Ints
    counts: Ints
    firsts: Ints
    last: Ints
    shown: Sequence[Range]
    seen: Ints
    feeds: Ints
    origins: Ints

    @cached_property
    def several(self) -> list[int]:
        """The feeds of several tokens, which attend causally to each other."""
        return [feed for feed, count in enumerate(self.counts.tolist()) if count > 1]

    def tokens(self, feed: int) -> tuple[int, int]:
        """Return which tokens are a feed's, as (first, last + 1)."""
        first = int(self.firsts[feed])
        return first, first + int(self.counts[feed])


def pack(feeds: Sequence[Feed]) -> Packed:
    """Put the feeds of a tick in one row, and lay out their views."""
    fresh = {id(feed.block): len(feed.tokens) for feed in feeds}
    numbers: dict[Range, int] = {}
    of_entry: dict[ViewEntry, int] = {}  # feeds share most of what they see: each is found once
    for entry in dict.fromkeys(chain.from_iterable(feed.view for feed in feeds)):
        block = entry_block(entry)
        shown = (block, *entry_range(entry, fresh.get(id(block), 0)))
        of_entry[entry] = numbers.setdefault(shown, len(numbers))
    seen = ints([of_entry[entry] for feed in feeds for entry in feed.view])
    sizes = ints([high - low for _, low, high in numbers])[seen]
    counts = ints([len(feed.tokens) for feed in feeds])
    widths = [len(feed.view) for feed in feeds]
    views = np.repeat(np.arange(len(feeds)), widths)
    starts, last = ends(sizes) - sizes, np.cumsum(widths) - 1
    origins = starts - ints([low for _, low, _ in numbers])[seen]
    origins -= starts[last - widths + 1][views]
    positions = ranges(ints([len(feed.block) for feed in feeds]), counts)
    return Packed(
        fresh=fresh,
        ids=ints([token for feed in feeds for token in feed.tokens]),
        positions=positions,
        view_positions=positions + np.repeat(origins[last], counts),
        counts=counts,
        firsts=ends(counts) - counts,
        last=last,
        shown=list(numbers),
        seen=seen,
        feeds=views,
        origins=origins,
    )


@dataclass(frozen=True, eq=False)
class Readers:
    """Who reads what, in the layers of one reach.

    Attributes:
        stretches: what is read.
        counts: [stretches] by how many rows each.
        rows: [R, 4] of each row the token, how far its query turns, and the first and the last
            entry of the block that it sees.
    """

    stretches: Sequence[Range]
    counts: Ints
    rows: Ints

    def each(self) -> Iterator[tuple[Range, Ints]]:
        """Yield every stretch with its rows."""
        last = ends(self.counts)
        for stretch, start, stop in zip(self.stretches, last - self.counts, last, strict=True):
            yield stretch, self.rows[start:stop]


def readers(packed: Packed, reach: Reach) -> Readers:
    """Return who reads the cache, but for the new tokens of its own feed if these are several."""
    starts, stops = _parts(packed)
    # The parts of each view entry, those that are nothing left out. Of its own block a feed sees
    # the new part causally, from this tick's own keys.
    parts = 2 * packed.seen[:, None] + np.arange(2)
    wanted = starts[parts] < stops[parts]
    wanted[packed.last, 1] = False
    entries, new = wanted.nonzero()
    parts, feeds = parts[entries, new], packed.feeds[entries]
    offsets = packed.origins[packed.last][feeds] - packed.origins[entries]
    # One row for each token of the feed, as far as it sees so far back.
    counts = packed.counts[feeds]
    tokens = ranges(packed.firsts[feeds], counts)
    parts, entries, offsets = (np.repeat(one, counts) for one in (parts, entries, offsets))
    firsts = reach.lowests(packed.view_positions)[tokens] - packed.origins[entries]
    rows = np.empty((len(tokens), 4), np.int64)
    rows[:, 0], rows[:, 1], rows[:, 3] = tokens, offsets, stops[parts] - 1
    np.maximum(starts[parts], firsts, out=rows[:, 2])
    sees = rows[:, 2] <= rows[:, 3]
    if not sees.all():
        parts, rows = parts[sees], rows[sees]
    return _grouped(packed, parts, rows, starts, stops)


def own_readers(packed: Packed, reach: Reach) -> Readers:
    """Return who reads the new tokens of its own feed, each up to itself; some are several."""
    lowest = reach.lowests(packed.view_positions)
    stretches: list[Range] = []
    counts: list[int] = []
    rows: list[Ints] = []
    for feed in packed.several:
        entry, tokens = packed.last[feed], np.arange(*packed.tokens(feed))
        block, low, high = packed.shown[packed.seen[entry]]
        count = len(tokens)
        cut = max(low, high - count)
        firsts = np.maximum(cut, lowest[tokens] - packed.origins[entry])
        lasts = np.arange(high - count, high)
        stretches.append((block, cut, high))
        counts.append(count)
        rows.append(np.stack([tokens, np.zeros_like(tokens), firsts, lasts], 1))
    return Readers(stretches, ints(counts), np.concatenate(rows))


def _parts(packed: Packed) -> tuple[Ints, Ints]:
    """Return where the old and the new part of each shown range begin, and where they end.

    Ranges are cut where several new tokens begin, so that all feeds share the old part.
    """
    starts: list[int] = []
    stops: list[int] = []
    for block, low, high in packed.shown:
        cut = len(block) if packed.fresh.get(id(block), 0) > 1 else high
        starts += (low, max(low, cut))
        stops += (min(high, cut), high)
    return ints(starts), ints(stops)


def _grouped(packed: Packed, parts: Ints, rows: Ints, starts: Ints, stops: Ints) -> Readers:
    """Put the rows of one part together, parts in the order in which they are first seen.

    Args:
        packed: the feeds.
        parts: [R] what each row reads.
        rows: [R, 4] as in :class:`Readers`.
        starts: where the parts begin.
        stops: where they end.
    """
    at = np.empty(len(starts), np.int64)
    at[parts[::-1]] = np.arange(len(parts))[::-1]  # what is written last stays
    counts = np.bincount(parts, minlength=len(starts))
    found = counts.nonzero()[0]
    found = found[at[found].argsort()]
    edges = zip(found.tolist(), starts[found].tolist(), stops[found].tolist(), strict=True)
    return Readers(
        stretches=[(packed.shown[part // 2][0], low, high) for part, low, high in edges],
        counts=counts[found],
        rows=rows[at[parts].argsort(kind="stable")],
    )
