"""Sampling: the next token of each feed, by its own parameters and its own random state.

The parameters act through transformers' logits processors, in the order of its ``generate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hogwild_agents.errors import ConfigError


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
        self._processors = _processors(params)

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
        if not self._processors:
            return logits
        _check_vocabulary(self.params, logits.shape[-1])
        penalised = self.params.repetition_penalty != 1.0
        ids = torch.tensor([list(context()) if penalised else [0]], device=logits.device)
        scores: Tensor = self._processors(cast(torch.LongTensor, ids), logits.clone())
        return scores


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
    chosen = []
    for row, (sampler, context) in enumerate(zip(samplers, contexts, strict=True)):
        scores = sampler.scores(logits[row : row + 1], context)
        if sampler.params.temperature == 0:
            chosen.append(scores.argmax(-1))
        else:
            odds = scores.softmax(-1)
            chosen.append(torch.multinomial(odds, 1, generator=sampler.generator(odds.device))[0])
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


def _processors(params: SamplingParams) -> LogitsProcessorList:
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
        processors.append(SuppressTokensLogitsProcessor(sorted(params.banned)))
    if params.temperature not in (0, 1.0):
        processors.append(TemperatureLogitsWarper(float(params.temperature)))
    if params.temperature and params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.temperature and params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.temperature and params.min_p > 0:
        processors.append(MinPLogitsWarper(params.min_p))
    return processors


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
