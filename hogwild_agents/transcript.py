"""Transcript: the record of a run in JSON lines, written as it goes, read back, and rebuilt.

It holds every event, and for every token who wrote it, when, in which view, and whether it was
sampled or forced. docs/transcript.md describes the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from hogwild_agents.errors import FeedError, TranscriptError
from hogwild_agents.transcript_lines import BlockLine, FeedEntry, TickLine, TranscriptHeader
from hogwild_agents.transcript_reader import Transcript, read_transcript
from hogwild_agents.transcript_writer import TranscriptWriter

if TYPE_CHECKING:
    from hogwild_agents.engine import CacheBlock, Engine, Feed, ViewEntry

__all__ = ["Transcript", "TranscriptHeader", "TranscriptWriter", "read_transcript", "rebuild"]


def rebuild(transcript: Transcript, engine: Engine) -> dict[int, CacheBlock]:
    """Feed a transcript's tokens through an engine: the same ticks give the same cache.

    It computes as many tokens as the run did, so async code calls it in a thread. What ran on the
    same coordinator besides this run is not in the transcript, and makes no difference to it.

    Args:
        transcript: of a run of the engine's model; nothing in it can tell that the weights are
            others, only that the vocabulary is.
        engine: gets new blocks, which stay; all of them are freed again if an error is raised.

    Returns:
        the blocks by their ids in the transcript, as they were after its last tick.

    Raises:
        TranscriptError: the model has another vocabulary, or a tick cannot be fed.
        CacheFullError: the engine's budget has no room.
        ContextLengthError: a view is longer than the model's context.
        TickError: the forward pass failed.
    """
    size = transcript.header.vocab_size
    if size != engine.vocab_size:
        raise TranscriptError(
            f"The transcript is of a model with {size} token ids, {transcript.header.model!r}, but "
            f"the engine's model has {engine.vocab_size}: rebuild it with the model that wrote it."
        )
    blocks: dict[int, CacheBlock] = {}
    try:
        for line in transcript.lines:
            if isinstance(line, BlockLine):
                blocks[line.id] = engine.block(line.name)
        ticks = (line for line in transcript.lines if isinstance(line, TickLine))
        for number, lines in groupby(ticks, key=lambda line: line.tick):
            _run_tick(number, list(lines), blocks, engine)
    except BaseException:
        for block in blocks.values():
            engine.free(block)
        raise
    return blocks


def _run_tick(
    number: int, lines: Sequence[TickLine], blocks: dict[int, CacheBlock], engine: Engine
) -> None:
    """Run what the lines of one tick hold: one forward, then all the moves and forks."""
    try:
        feeds = [_feed(feed, blocks) for line in lines for feed in line.feeds]
        if feeds:
            engine.forward(feeds)
        for line in lines:
            _make_ops(line, blocks, engine)
    except FeedError as error:
        raise TranscriptError(
            f"Tick {number} of the transcript cannot be fed ({error}): use the file as "
            "hogwild-agents wrote it."
        ) from error


def _make_ops(line: TickLine, blocks: dict[int, CacheBlock], engine: Engine) -> None:
    """Make a line's moves and forks, in their order."""
    for made in range(len(line.moves) + 1):
        for fork in line.forks:
            if fork.after == made:
                copy = engine.fork(blocks[fork.source], blocks[fork.target].name)
                engine.free(blocks[fork.target])
                blocks[fork.target] = copy
                engine.truncate(copy, fork.length)
        if made < len(line.moves):
            source, target = line.moves[made]
            engine.move(blocks[source], blocks[target])


def _feed(feed: FeedEntry, blocks: Mapping[int, CacheBlock]) -> Feed:
    from hogwild_agents.engine import BlockSlice, Feed  # whoever only reads needs no torch

    view: list[ViewEntry] = [
        blocks[item] if isinstance(item, int) else BlockSlice(blocks[item[0]], item[1], item[2])
        for item in feed.view
    ]
    return Feed(blocks[feed.block], view, feed.tokens)
