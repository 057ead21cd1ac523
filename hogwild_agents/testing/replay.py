"""assert_replays: a transcript, fed again, gives what is on record."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from hogwild_agents.actions import Ban, Bias, ChangeSampling, Conclude
from hogwild_agents.engine import CacheBlock, Engine, Feed, Sampler, SamplingParams
from hogwild_agents.engine.feed import entry_block, entry_range
from hogwild_agents.errors import HogwildError
from hogwild_agents.events import ActionTaken, TokensWritten
from hogwild_agents.models import LanguageModel
from hogwild_agents.testing.assertions import assert_integrity
from hogwild_agents.transcript import Transcript, read_transcript, rebuild
from hogwild_agents.transcript_entries import SamplingEntry
from hogwild_agents.transcript_events import EventLine
from hogwild_agents.transcript_lines import FeedEntry, TickLine

if TYPE_CHECKING:
    from torch import Tensor

_GREEDY = SamplingParams(temperature=0.0)


def assert_replays(
    transcript: Transcript | str | os.PathLike[str],
    model: LanguageModel,
    *,
    tolerance: float = 1e-3,
) -> None:
    """Assert that a run's transcript, fed again tick by tick, gives what is on record.

    The tokens that the cache was fed are those that the events tell. Each token that was sampled
    greedily is the most likely one again, and each log-probability on record is found again. Not
    compared are tokens that were cut in two at the end of a step, and the choices of a worker
    whose sampling a policy has changed (from then on) or who has joined in mid-run.

    Args:
        transcript: of a run that has ended, or its path.
        model: the one that ran it, or one with the same weights; no run of it is under way. It is
            given back the room that this takes. Functions in scripts are called again.
        tolerance: how far log-probabilities may be off for rounding.
    """
    if not isinstance(transcript, Transcript):
        transcript = read_transcript(transcript)
    examiner = _Examiner(transcript, model, tolerance)
    try:
        rebuild(transcript, cast(Engine, examiner))
    except HogwildError as error:
        raise AssertionError(f"The transcript cannot be fed again: {error}") from error
    finally:
        examiner.give_back()
    assert_integrity(model.engine)


@dataclass(frozen=True)
class _Token:
    """A sampled token as the events tell it; ``whole`` unless it is a part of one."""

    id: int
    logprob: float | None
    whole: bool


@dataclass(frozen=True)
class _Row:
    """What a forward pass gave after a feed, and how a worker would choose from it."""

    logits: Tensor
    params: SamplingParams | None
    context: tuple[int, ...]


class _Examiner:
    """The model's engine, as far as a rebuild needs it, which looks at what it is fed.

    Args:
        transcript: what is fed.
        model: whose engine it is.
        tolerance: of log-probabilities.
    """

    def __init__(self, transcript: Transcript, model: LanguageModel, tolerance: float) -> None:
        self._engine = model.engine
        self._tolerance = tolerance
        self._feeds = _feeds(transcript, model)
        self._told = _told(transcript)
        self._rows: dict[CacheBlock, _Row] = {}
        self._latest: dict[str, _Row] = {}
        self._blocks: list[CacheBlock] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def block(self, name: str = "") -> CacheBlock:
        """See :meth:`Engine.block`."""
        self._blocks.append(self._engine.block(name))
        return self._blocks[-1]

    def fork(self, block: CacheBlock, name: str = "") -> CacheBlock:
        """See :meth:`Engine.fork`."""
        self._blocks.append(self._engine.fork(block, name))
        return self._blocks[-1]

    def give_back(self) -> None:
        """Free all blocks."""
        for block in self._blocks:
            if block.alive:
                self._engine.free(block)

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        """Compare what is fed with what was expected, and run the tick."""
        found = [next(self._feeds) for _ in feeds]
        for feed, (worker, entry, _) in zip(feeds, found, strict=True):
            self._compare(worker, feed, entry)
        logits = self._engine.forward(feeds)
        for feed, (worker, _, params), row in zip(feeds, found, logits, strict=True):
            self._rows[feed.block] = self._latest[worker] = _Row(row, params, _context(feed))
        return logits

    def _compare(self, worker: str, feed: Feed, entry: FeedEntry) -> None:
        fresh = not len(feed.block)
        row = self._rows.get(feed.block) or (self._latest.get(worker) if fresh else None)
        for number, (token, source) in enumerate(zip(feed.tokens, entry.sources, strict=True)):
            if source != "s":
                continue
            told = self._told[worker].popleft() if self._told.get(worker) else None
            if told is None or told.id != token:
                raise AssertionError(
                    f"{worker} was fed the sampled token {token}, but its events tell "
                    f"{'no more' if told is None else told.id}."
                )
            if number == 0 and row is not None and told.whole:
                self._check(worker, told, row)

    def _check(self, worker: str, token: _Token, row: _Row) -> None:
        """Compare a sampled token with the logits that it was sampled from."""
        logprobs = row.logits.log_softmax(-1)
        if token.logprob is not None:
            off = abs(float(logprobs[token.id]) - token.logprob)
            if not off <= self._tolerance:
                raise AssertionError(
                    f"The token {token.id} of {worker} has the log-probability "
                    f"{float(logprobs[token.id]):.4f}, but {token.logprob:.4f} is on record."
                )
        if row.params is None or row.params.temperature != 0:
            return
        scores = Sampler(row.params).scores(row.logits[None], lambda: row.context)[0]
        best = int(scores.argmax())
        if not float(scores[token.id]) >= float(scores[best]) - self._tolerance:
            raise AssertionError(
                f"{worker} took the token {token.id} greedily, but {best} is the most likely one."
            )


def _context(feed: Feed) -> tuple[int, ...]:
    """Return the tokens of a whole view, after the tick."""
    return tuple(
        token
        for entry in feed.view
        for token in entry_block(entry).tokens[slice(*entry_range(entry, 0))]
    )


def _feeds(
    transcript: Transcript, model: LanguageModel
) -> Iterator[tuple[str, FeedEntry, SamplingParams | None]]:
    """Yield all feeds in order: whose, what, and how the token that follows was sampled.

    None stands for ways of sampling that are not on record.
    """
    header = transcript.header
    params: dict[str, SamplingParams | None] = {
        worker.name: _params(worker.sampling or header.sampling, model) for worker in header.workers
    }
    for line in transcript.lines:
        if isinstance(line, TickLine):
            yield from ((line.worker, entry, params.get(line.worker)) for entry in line.feeds)
        elif isinstance(line, EventLine) and isinstance(event := line.restore(), ActionTaken):
            if isinstance(event.action, Conclude):
                params = dict.fromkeys(params, _GREEDY)
            elif isinstance(event.action, Ban | Bias | ChangeSampling):
                params[event.action.worker] = None


def _params(entry: SamplingEntry, model: LanguageModel) -> SamplingParams:
    params = SamplingParams(**dict(entry))
    return params.replace(banned=params.banned | model.reasoning_bans)


def _told(transcript: Transcript) -> Mapping[str, deque[_Token]]:
    """Return the sampled tokens of each worker, as the events tell them.

    Of a worker, two pieces that were sampled in one tick are the parts of one token.
    """
    pieces: dict[str, list[TokensWritten]] = {}
    for event in transcript.events():
        if isinstance(event, TokensWritten) and event.source == "sampled":
            pieces.setdefault(event.worker, []).append(event)
    found: dict[str, deque[_Token]] = {}
    for worker, events in pieces.items():
        pieces_in = Counter(event.tick for event in events)
        for event in events:
            whole = len(event.tokens) == 1 and pieces_in[event.tick] == 1
            logprobs = event.logprobs or (None,) * len(event.tokens)
            found.setdefault(worker, deque()).extend(
                _Token(token, logprob, whole)
                for token, logprob in zip(event.tokens, logprobs, strict=True)
            )
    return found
