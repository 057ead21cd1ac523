"""Checks: what must hold after any schedule, whatever was done."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from torch import Tensor

from hogwild_agents import events as ev
from hogwild_agents.coordinator import Commit, Move
from hogwild_agents.engine import BlockSlice, CacheBlock, Engine, ViewEntry
from hogwild_agents.errors import LimitError, PolicyError, RunError, TickError
from hogwild_agents.transcript import rebuild
from tests.engine.oracle import Oracle, OracleBlock, OracleFeed, Part
from tests.reliability.sight import Sight
from tests.reliability.stage import POLICY_FAULTS, Play, undisturbed
from tests.reliability.watch import Change, Committed, Forward, Log, Told
from tests.runtime.replay import oracle_of
from tests.runtime.rig import JOINED, PROBLEM, family

TOLERANCE = 1e-4


def check(play: Play) -> None:
    """Check all that can be checked of one play."""
    check_events(play)
    check_outcome(play)
    sight = Sight(play.team, play.newcomers, PROBLEM, play.log)
    sight.follow()
    check_logits(play, sight)
    check_transcript(play)
    if play.bystander is not None:
        assert play.bystander.texts == undisturbed(play.schedule.cut).texts


# -- what was told


def check_events(play: Play) -> None:
    """The events agree with each other and with the result."""
    events, result = play.events, play.result
    assert result is not None
    assert [type(event) for event in events].count(ev.RunEnded) == 1
    last = events[-1]
    assert isinstance(last, ev.RunEnded)
    assert last.result == result
    for name, text in result.texts.items():
        told = "".join(e.text for e in play.told(ev.TokensWritten) if e.worker == name)
        assert text.endswith(told)
    ticks = [event.tick for event in play.told(ev.TickEnded)]
    assert ticks == sorted(set(ticks))
    steps = [(s.worker, s.number, s.text, s.tick) for s in result.steps]
    assert steps == [(e.worker, e.step, e.text, e.tick) for e in play.told(ev.StepEnded)]
    if play.schedule.cut == 512:  # else one hand-in takes several ticks
        assert result.ticks <= (play.team.limits.ticks or result.ticks)
    sampled = [e for e in play.told(ev.TokensWritten) if e.source == "sampled"]
    assert result.tokens <= len(sampled)
    for event in play.told(ev.ProbeAnswered):
        assert math.isclose(sum(event.probabilities.values()), 1.0, rel_tol=1e-6)
        assert 0.0 <= event.mass <= 1.0 + 1e-6


def check_outcome(play: Play) -> None:
    """Nothing has failed but what was made to fail, and those who were left went on."""
    result, error = play.result, play.error
    assert result is not None
    engine: Any = play.team.model.engine
    for name, failure in result.failures.items():
        assert failure.startswith(("Crash:", "UsageError:", "ClosedError:")), f"{name}: {failure}"
    for event in play.told(ev.PolicyFailed):
        assert event.policy in POLICY_FAULTS or play.broken, event
    if play.cancelled:
        assert result.reason in ("cancelled", "failed")
    if isinstance(error, PolicyError):
        assert play.broken, error
    elif isinstance(error, TickError):
        assert engine.failed, error
    elif isinstance(error, LimitError):
        assert play.schedule.budget or play.schedule.context < 4096, error
    elif isinstance(error, RunError):
        assert len(result.failures) >= len(play.team.workers), error
    elif error is not None:
        raise error
    assert (result.reason == "failed") == (error is not None) or play.cancelled


# -- what was computed


@cache
def _oracle() -> Oracle:
    return oracle_of(JOINED)


def check_logits(play: Play, sight: Sight) -> None:
    """Whatever was computed is what the oracle finds, and what was sampled or answered fits."""
    found = replay(play.log, _oracle())
    for number, (entry, rows) in enumerate(
        zip((e for e in play.log if isinstance(e, Forward)), found, strict=True)
    ):
        for feed, logits, expected in zip(entry.feeds, entry.logits, rows, strict=True):
            off = float((logits - expected).abs().max())
            assert off <= TOLERANCE, f"{feed.block!r} is off by {off:.1e} in forward {number}"
    for event, forward, row in sight.sampled:
        expected = found[forward][row].double().log_softmax(-1)[event.tokens[0]]
        assert abs(float(expected) - event.logprobs[0]) <= TOLERANCE, event
    for answered in sight.answered:
        _check_answer(answered.event, [found[f][r] for f, r in answered.rows], play.team.model)


def _check_answer(event: ev.ProbeAnswered, rows: Sequence[Tensor], model: Any) -> None:
    """Compare the probabilities of answers with those of the oracle."""
    first, *rest = [row.double().log_softmax(-1) for row in rows]
    follow = iter(rest)
    logs = []
    for answer in event.probabilities:
        tokens = model.encode(answer)
        logs.append(
            float(first[tokens[0]]) + sum(float(next(follow)[b]) for _, b in pairwise(tokens))
        )
    weights = [math.exp(log) for log in logs]
    assert math.isclose(event.mass, sum(weights), rel_tol=1e-2, abs_tol=1e-12)
    for weight, probability in zip(weights, event.probabilities.values(), strict=True):
        assert math.isclose(probability, weight / sum(weights), abs_tol=1e-3)


def replay(log: Log, oracle: Oracle) -> list[list[Tensor]]:
    """Make all that a log tells of the cache anew; return the logits [vocab] of each feed."""
    found: list[list[Tensor]] = []
    blocks: dict[CacheBlock, OracleBlock] = {}

    def part(entry: ViewEntry) -> Part:
        if isinstance(entry, BlockSlice):
            return Part(blocks[entry.block], entry.start, entry.stop)
        return Part(blocks[entry])

    for entry in log:
        if isinstance(entry, Forward):
            feeds = [
                OracleFeed(blocks[feed.block], [part(seen) for seen in feed.view], feed.tokens)
                for feed in entry.feeds
            ]
            found.append([rows[-1] for rows in oracle.forward(feeds)])
        elif isinstance(entry, Change):
            _change(entry, blocks, oracle)
    return found


def _change(change: Change, blocks: dict[CacheBlock, OracleBlock], oracle: Oracle) -> None:
    match change.kind:
        case "made":
            blocks[change.block] = oracle.block()
        case "cut":
            oracle.truncate(blocks[change.block], change.length)
        case "freed":
            del blocks[change.block]
        case "moved":
            assert change.other is not None
            oracle.move(blocks[change.block], blocks[change.other])
        case "forked":
            assert change.other is not None
            blocks[change.other] = oracle.fork(blocks[change.block])


# -- what is on record


@cache
def _other_engine() -> Engine:
    return Engine(family(JOINED, "qwen3", 4096).build(), verify=False)


def check_transcript(play: Play) -> None:
    """The transcript rebuilds every block as the run's commits have left it."""
    transcript = play.transcript
    assert transcript is not None
    told = [entry.event for entry in play.log if isinstance(entry, Told)]
    assert len(list(transcript.events())) == len(told)
    engine = _other_engine()
    blocks = rebuild(transcript, engine)
    try:
        found = Counter((block.name, block.tokens) for block in blocks.values() if len(block))
        expected = committed(play)
        if play.bystander is not None:  # whose prompt is none of ours
            found = Counter({key: n for key, n in found.items() if key in expected})
        assert found == expected
    finally:
        for block in blocks.values():
            engine.free(block)
    engine.check_integrity()


def committed(play: Play) -> Counter[tuple[str, tuple[int, ...]]]:
    """Return the blocks with text in them as the run's commits, up to its end, have left them."""
    names = {event.worker for event in play.told(ev.TokensWritten)}
    names |= set(play.team.names) | {worker.name for worker in play.newcomers}
    if not play.schedule.accompanied:
        names.add("")
    tokens: dict[CacheBlock, list[int]] = {}
    for entry in play.log:
        if isinstance(entry, Told) and isinstance(entry.event, ev.RunEnded):
            break
        if isinstance(entry, Committed) and entry.commit.seat in names:
            _book(entry.commit, tokens)
    return Counter((block.name, tuple(ids)) for block, ids in tokens.items() if ids)


def _book(commit: Commit, tokens: dict[CacheBlock, list[int]]) -> None:
    for feed in commit.feeds:
        if feed.block.name not in ("probe", "answer"):
            tokens.setdefault(feed.block, []).extend(feed.tokens)
    for op in commit.ops:
        if isinstance(op, Move):
            tokens.setdefault(op.target, []).extend(tokens.pop(op.source, []))
        else:
            tokens[op.target] = tokens[op.source][: op.length - 1]
