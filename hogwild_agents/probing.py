"""Probing: a closed question to a worker, as feeds of one tick that leave nothing behind.

The question is written to a block of its own that stands after all that the worker sees, the
tokens it feeds in the same tick included. An answer of several tokens takes a block for each but
its last; every feed is scored after its last token only, so no further forward is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hogwild_agents.actions import Probe
from hogwild_agents.coordinator import TickFeed
from hogwild_agents.engine import CacheBlock, ViewEntry

Encode = Callable[[str], Sequence[int]]
See = Callable[[], Sequence[ViewEntry]]

_BLANK = " "


@dataclass(frozen=True)
class Verdict:
    """What came of a probe.

    Attributes:
        probabilities: of the answers, in their order; their sum is 1.
        mass: of all the answers together.
    """

    probabilities: dict[str, float]
    mass: float


class Asking:
    """One probe in one tick.

    Args:
        probe: what is asked.
        encode: turns text into token ids.
        see: returns the worker's view, its own block last.
        new_block: makes a block.

    Attributes:
        blocks: those that are written; whoever asks gives them back after the tick.
        feeds: to be handed in with the worker's own.
    """

    def __init__(
        self, probe: Probe, encode: Encode, see: See, new_block: Callable[[str], CacheBlock]
    ) -> None:
        self.probe = probe
        asked, self._answers = spell_probe(probe, encode)
        question = new_block("probe")
        first = sorted({answer[0] for answer in self._answers})
        self._first = {token: index for index, token in enumerate(first)}
        self.blocks = [question]
        self.feeds = [_feed([question], asked, see, first)]
        for answer in self._answers:
            path = [question]
            for token, follower in pairwise(answer):
                path = [*path, new_block("answer")]
                self.blocks.append(path[-1])
                self.feeds.append(_feed(path, [token], see, [follower]))

    def verdict(self, scores: Sequence[Sequence[float]]) -> Verdict:
        """Return what came of it, from the scores of the feeds (log-probabilities)."""
        rest = iter(scores[1:])
        logs = [self._log(answer, scores[0], rest) for answer in self._answers]
        highest = max(logs)
        weights = [math.exp(log - highest) for log in logs]  # so that none underflows
        shares = [weight / sum(weights) for weight in weights]
        return Verdict(
            probabilities=dict(zip(self.probe.answers, shares, strict=True)),
            mass=math.fsum(map(math.exp, logs)),
        )

    def _log(
        self, answer: Sequence[int], first: Sequence[float], rest: Iterator[Sequence[float]]
    ) -> float:
        return first[self._first[answer[0]]] + sum(next(rest)[0] for _ in answer[1:])


def spell_probe(probe: Probe, encode: Encode) -> tuple[Sequence[int], list[tuple[int, ...]]]:
    """Return the ids of a question, and those of its answers.

    Most tokenizers write a word and the blank before it as one token. Where that goes for every
    answer, the blank at the end of a question is theirs: a model that was trained on such tokens
    hardly knows a blank alone before a word, and after it expects anything else.
    """
    asked, answers = probe.question.removesuffix(_BLANK), probe.answers
    if asked.strip() and asked != probe.question:
        behind = [tuple(encode(_BLANK + answer)) for answer in answers]
        if all(
            len(ids) <= len(encode(answer)) for ids, answer in zip(behind, answers, strict=True)
        ):
            return encode(asked), behind
    return encode(probe.question), [tuple(encode(answer)) for answer in answers]


def _feed(
    path: Sequence[CacheBlock], tokens: Sequence[int], see: See, scored: Sequence[int]
) -> TickFeed:
    def view() -> Sequence[ViewEntry]:
        return [*see(), *path]

    return TickFeed(block=path[-1], tokens=tokens, view=view, scored=scored)
