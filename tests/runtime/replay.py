"""Replays the commits of a run through the naive oracle, and compares what was sampled."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from hogwild_agents.engine import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.events import TokensWritten
from tests.engine.families import Family
from tests.engine.oracle import Oracle, OracleBlock, OracleFeed, Part
from tests.runtime.book import by_tick
from tests.runtime.rig import JOINED, Play, family

TOLERANCE = 1e-4


@cache
def oracle_of(kind: str = JOINED, name: str = "qwen3") -> Oracle:
    """The oracle with the weights of ``language_model(kind, name)``."""
    made: Family = family(kind, name, 4096)
    return Oracle(made)


def check_logprobs(record: Play, oracle: Oracle) -> int:
    """Compare the log-probability of every sampled token; return how many there were.

    The workers have to sample with ``logprobs``. Each feed's last row of logits gives the worker's
    next sampled token, if there is one.
    """
    expected: dict[str, Tensor] = {}  # log-probabilities after the worker's last feed
    waiting = {
        name: [e for e in record.told(TokensWritten) if e.worker == name and e.logprobs]
        for name in record.team.names
    }
    blocks: dict[CacheBlock, OracleBlock] = {}
    total = {name: 0 for name in waiting}
    compared = 0

    def block(found: CacheBlock) -> OracleBlock:
        return blocks.setdefault(found, oracle.block())

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
        for (name, _), rows in zip(feeds, logits, strict=True):
            expected[name] = rows[-1].double().log_softmax(-1)
        for name in dict.fromkeys(name for name, _ in feeds if name):
            total[name] += sum(len(feed.tokens) for who, feed in feeds if who == name)
            event = next_sampled(record, name, total[name])
            if event is not None:
                (token,) = event.tokens
                difference = abs(float(expected[name][token]) - event.logprobs[0])
                assert difference <= TOLERANCE, f"{name}: {event} is off by {difference:.1e}"
                compared += 1
    return compared


def next_sampled(record: Play, name: str, fed: int) -> TokensWritten | None:
    """The event of the token that was sampled when so many of a worker's tokens were fed."""
    written = 0
    for event in record.told(TokensWritten):
        if event.worker != name:
            continue
        if written == fed:
            return event if event.logprobs else None
        written += len(event.tokens)
    return None


def greedy_choice(logits: Tensor, banned: frozenset[int]) -> int:
    """The most likely token that may be written."""
    masked = logits.clone()
    masked[sorted(banned)] = float("-inf")
    return int(torch.argmax(masked))
