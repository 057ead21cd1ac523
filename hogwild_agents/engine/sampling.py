"""Sampling: the next token of each feed, by its own parameters and its own random state.

The parameters act through transformers' logits processors, in the order of its ``generate``. What
is left of a large vocabulary after a top-k, top-p or min-p is a few tokens, and on the CPU the
processors that sort see only these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hogwild_agents.errors import ConfigError

_HEAD = 1024
"""How many of the most likely tokens are looked at for a top-p, before all are sorted."""
_SLACK = 1e-3
"""How far below the bar of a min-p a logit may be and still be looked at: more than rounding."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the most likely token; otherwise logits are divided by it.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the fewest tokens whose probabilities reach p, in (0, 1].
        min_p: drop tokens less likely than min_p times the most likely one, in [0, 1].
        repetition_penalty: above 1 makes tokens that stand anywhere in the view less likely.
        banned: token ids that are never chosen.
        bias: what is added to the logits of single tokens.
        logprobs: None for none; otherwise the log-probability of the chosen token and of so
            many most likely ones, of the model itself (before any of the above).

    Raises:
        ConfigError: a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    banned: frozenset[int] = frozenset()
    bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, self.temperature >= 0, "at least 0")
        _require("top_k", self.top_k, self.top_k >= 0, "at least 0 (0 keeps all tokens)")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "in (0, 1]")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "in [0, 1]")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, penalty > 0, "above 0 (1 changes nothing)")
        count = self.logprobs
        for token in self.bias:
            _require("bias names a token that", token, token >= 0, "at least 0")
        _require("logprobs", count, count is None or count >= 0, "at least 0, or None")

    @classmethod
    def from_model(cls, model: Any) -> SamplingParams:
        """Return the defaults of the model's ``generation_config``."""
        config = getattr(model, "generation_config", None)
        if config is None:
            return cls()
        penalty = getattr(config, "repetition_penalty", None) or 1.0
        if not getattr(config, "do_sample", None):
            return cls(temperature=0.0, repetition_penalty=penalty)
        given = {
            name: getattr(config, name, None) for name in ("temperature", "top_k", "top_p", "min_p")
        }
        known = {name: value for name, value in given.items() if value is not None}
        return cls(repetition_penalty=penalty, **known)

    def replace(self, **changes: Any) -> SamplingParams:
        """Return a copy with some values changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Sampled:
    """One chosen token.

    Attributes:
        token: its id.
        logprob: its log-probability under the model, if asked for.
        top: the most likely tokens and their log-probabilities, if asked for.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The parameters and the random state of one worker.

    Args:
        params: how to choose; may be replaced at any time.
        seed: of this worker's own generator, so that nobody else's draws matter.
    """

    def __init__(self, params: SamplingParams, seed: int = 0) -> None:
        self._seed = seed
        self._generator: torch.Generator | None = None
        self.params = params

    @property
    def params(self) -> SamplingParams:
        """How the next token is chosen."""
        return self._params

    @params.setter
    def params(self, params: SamplingParams) -> None:
        self._params = params
        self._shaping, self._narrowing = _shaping(params), _narrowing(params)
        # The nucleus of a top-p alone is settled by the candidates: among them it would be another.
        self._among_candidates = (
            self._narrowing if params.top_k else _narrowing(params.replace(top_p=1.0))
        )

    def generator(self, device: torch.device) -> torch.Generator:
        """Return the random state, made on first use."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return self._generator

    def scores(self, logits: Tensor, context: Callable[[], Sequence[int]]) -> Tensor:
        """Return what is sampled from, after all processors.

        Args:
            logits: [1, vocab], float32.
            context: gives the token ids that a repetition penalty counts.

        Raises:
            ConfigError: all tokens are banned, or a token that does not exist is biased.
        """
        return _processed(self._shaped(logits, context), self._narrowing)

    def choose(self, logits: Tensor, context: Callable[[], Sequence[int]]) -> Tensor:
        """Return a token id, [1], drawn from what :meth:`scores` describes.

        Args:
            logits: [1, vocab], float32.
            context: gives the token ids that a repetition penalty counts.

        Raises:
            ConfigError: all tokens are banned, or a token that does not exist is biased.
        """
        scores = self._shaped(logits, context)
        if self.params.temperature == 0:
            return scores.argmax(-1)
        ids, scores = self._narrowed(scores)
        place = self._draw(scores)
        return place if ids is None else ids[place]

    def _narrowed(self, scores: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return ids [n], or None for the whole vocabulary, and what they are drawn by, [1, n]."""
        ids = _candidates(scores[0], self.params) if scores.is_cpu else None
        if ids is None:
            return None, _processed(scores, self._narrowing)
        return ids, _processed(scores[:, ids], self._among_candidates)

    def _shaped(self, logits: Tensor, context: Callable[[], Sequence[int]]) -> Tensor:
        if not self._shaping:
            return logits
        _check_vocabulary(self.params, logits.shape[-1])
        penalised = self.params.repetition_penalty != 1.0
        return _processed(logits.clone(), self._shaping, context() if penalised else [0])

    def _draw(self, scores: Tensor) -> Tensor:
        """Return which of the scores [1, n] is drawn, [1]. One random number is used."""
        reached = scores[0].double().softmax(-1).cumsum(-1)
        generator = self.generator(scores.device)
        lot = torch.rand(1, dtype=reached.dtype, device=reached.device, generator=generator)
        # The first that is above: one without any odds is never above the one before it.
        return torch.searchsorted(reached, lot * reached[-1], right=True)


def sample(
    logits: Tensor,
    samplers: Sequence[Sampler],
    contexts: Sequence[Callable[[], Sequence[int]]],
) -> list[Sampled]:
    """Choose one token for each row; the rows don't influence each other.

    Args:
        logits: [rows, vocab], float32.
        samplers: one a row.
        contexts: one a row: gives the token ids of the whole view, for repetition penalties.
    """
    chosen = [
        sampler.choose(logits[row : row + 1], context)
        for row, (sampler, context) in enumerate(zip(samplers, contexts, strict=True))
    ]
    tokens = torch.cat(chosen).tolist() if chosen else []  # the one transfer to the host
    return [
        _sampled(logits[row], token, samplers[row].params.logprobs)
        for row, token in enumerate(tokens)
    ]


def _sampled(logits: Tensor, token: int, count: int | None) -> Sampled:
    if count is None:
        return Sampled(token)
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(count, logprobs.shape[-1]))
    top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Sampled(token, float(logprobs[token]), top)


class _Banned(LogitsProcessor):
    """Bans tokens; transformers' own looks up each token of the vocabulary anew, row by row."""

    def __init__(self, banned: frozenset[int]) -> None:
        self._banned = torch.tensor(sorted(banned))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._banned.device != scores.device:
            self._banned = self._banned.to(scores.device)
        if self._banned[-1] >= scores.shape[-1]:
            self._banned = self._banned[self._banned < scores.shape[-1]]
        return scores.index_fill_(-1, self._banned, -math.inf)


def _shaping(params: SamplingParams) -> LogitsProcessorList:
    """Return what changes the logits of single tokens."""
    processors = LogitsProcessorList()
    if params.bias:
        processors.append(
            SequenceBiasLogitsProcessor(
                [[[token], float(value)] for token, value in params.bias.items()]
            )
        )
    if params.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.banned:
        processors.append(_Banned(params.banned))
    if params.temperature not in (0, 1.0):
        processors.append(TemperatureLogitsWarper(float(params.temperature)))
    return processors


def _narrowing(params: SamplingParams) -> LogitsProcessorList:
    """Return what leaves only some of the tokens."""
    processors = LogitsProcessorList()
    if params.temperature and params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.temperature and params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.temperature and params.min_p > 0:
        processors.append(MinPLogitsWarper(params.min_p))
    return processors


def _processed(
    scores: Tensor, processors: LogitsProcessorList, context: Sequence[int] = (0,)
) -> Tensor:
    if not processors:
        return scores
    ids = torch.tensor([list(context)], device=scores.device)
    processed: Tensor = processors(cast(torch.LongTensor, ids), scores)
    return processed


def _candidates(scores: Tensor, params: SamplingParams) -> Tensor | None:
    """Return ids that hold all tokens the narrowing leaves; None where that takes all of them.

    A top-p without a top-k is settled here: the ids are its nucleus.
    """
    if params.top_k:
        bar = scores.topk(min(params.top_k, len(scores))).values[-1]
        return (scores >= bar).nonzero()[:, 0]  # equal ones stay, as with transformers
    if params.top_p < 1:
        best, ids = scores.topk(min(_HEAD, len(scores)))
        odds = (best - scores.logsumexp(-1)).double().exp()
        above = odds.cumsum(-1) - odds
        return ids[above < params.top_p] if above[-1] >= params.top_p else None
    if params.min_p:
        bar = scores.max() + math.log(params.min_p) - _SLACK
        return (scores >= bar).nonzero()[:, 0]
    return None


def _check_vocabulary(params: SamplingParams, size: int) -> None:
    wrong = next((token for token in params.bias if not 0 <= token < size), None)
    if wrong is not None:
        raise ConfigError(
            f"bias names the token {wrong}, but the model has the ids 0 to {size - 1}."
        )
    if len(params.banned) >= size and all(token in params.banned for token in range(size)):
        raise ConfigError(f"All {size} tokens are banned: leave at least one to choose.")


def _require(name: str, value: object, holds: bool, range_: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r}, but must be {range_}.")
