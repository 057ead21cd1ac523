"""Replays the commits of a run through the naive oracle, and compares what was sampled."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from hogwild_agents.engine import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.events import TokensWritten
from tests.engine.oracle import Oracle, OracleBlock, OracleFeed, Part
from tests.runtime.book import by_tick
from tests.runtime.rig import JOINED, Play, family

TOLERANCE = 1e-4


@cache
def oracle_of(kind: str = JOINED, name: str = "qwen3") -> Oracle:
    """The oracle with the weights of ``language_model(kind, name)``."""
    return Oracle(family(kind, name, 4096))


def replay(record: Play, oracle: Oracle) -> dict[tuple[str, int], Tensor]:
    """Return the logits after each worker's n-th fed token, by (worker, n), for the last of a feed.

    All feeds and moves of the commits are made anew, by the oracle.
    """
    found: dict[tuple[str, int], Tensor] = {}
    blocks: dict[CacheBlock, OracleBlock] = {}
    fed = dict.fromkeys(["", *record.team.names], 0)

    def block(known: CacheBlock) -> OracleBlock:
        return blocks.setdefault(known, oracle.block())

    def part(entry: ViewEntry) -> Part:
        if isinstance(entry, BlockSlice):
            return Part(block(entry.block), entry.start, entry.stop)
        return Part(block(entry))

    for commits in by_tick(record.commits):
        feeds = [(commit.seat, feed) for commit in commits for feed in commit.feeds]
        logits = oracle.forward(
            [
                OracleFeed(block(feed.block), [part(entry) for entry in feed.view], feed.tokens)
                for _, feed in feeds
            ]
        )
        for commit in commits:
            for move in commit.moves:
                oracle.move(block(move.source), block(move.target))
        for (name, feed), rows in zip(feeds, logits, strict=True):
            fed[name] += len(feed.tokens)
            found[name, fed[name]] = rows[-1]
    return found


def written(record: Play) -> dict[tuple[str, int], TokensWritten]:
    """Return the events of what workers wrote, by (worker, how many tokens it had before)."""
    found = {}
    counts = dict.fromkeys(record.team.names, 0)
    for event in record.told(TokensWritten):
        found[event.worker, counts[event.worker]] = event
        counts[event.worker] += len(event.tokens)
    return found


def check_logprobs(record: Play, oracle: Oracle) -> int:
    """Compare the log-probability of every sampled token; return how many there were.

    The workers have to sample with ``logprobs``.
    """
    logits = replay(record, oracle)
    events = {key: event for key, event in written(record).items() if event.logprobs}
    for key, event in events.items():
        expected = logits[key].double().log_softmax(-1)[event.tokens[0]]
        difference = abs(float(expected) - event.logprobs[0])
        assert difference <= TOLERANCE, f"{event} is off by {difference:.1e}"
    return len(events)


def check_greedy(record: Play, oracle: Oracle, worker: str, first: int) -> None:
    """Check that a worker's sampled tokens, from the ``first`` on, are the most likely ones."""
    logits = replay(record, oracle)
    for (name, before), event in written(record).items():
        if name == worker and before >= first and event.source == "sampled":
            assert event.tokens == (int(logits[name, before].argmax()),)
