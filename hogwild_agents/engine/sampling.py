"""Sampling: the next token of each feed, by its own parameters and its own random state.

The parameters act through transformers' logits processors, in the order of its ``generate``. Rows
that share equal parameters are processed together, and each is what it would be alone. What
is left of a large vocabulary after a top-k, top-p or min-p is a few tokens, and on the CPU the
processors that sort see only these.
"""

from __future__ import annotations

import math
from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import islice
from operator import itemgetter
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hogwild_agents.engine.columns import moved
from hogwild_agents.engine.ranges import is_count, number, require
from hogwild_agents.errors import ConfigError

Context: TypeAlias = Callable[[], Sequence[int]]
"""Gives the token ids that a repetition penalty counts."""

_HEADS = 32, 1024
"""How many of the most likely tokens are looked at for a top-p, before all are sorted."""
_BLOCK = 128
"""Logits of which the largest is found at once, see :func:`_few`."""
_SLACK = 1e-3
"""How far below the bar of a min-p a logit may be and still be looked at: more than rounding."""
_NO_IDS = torch.zeros(1, 1, dtype=torch.int64, device="cpu")
"""What processors get that look at no ids, wherever the logits are."""
_TOGETHER = 1 << 19
"""Logits that are sampled from at a time on the CPU: 2 MiB in float32, 4 as probabilities."""


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
        ConfigError: a value is out of its range, or no number.
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
        for name, (holds, range_) in _RANGES.items():
            require(name, getattr(self, name), holds, range_)
        for token, value in self.bias.items():
            require("bias names a token that", token, is_count, "a whole number from 0")
            require(f"bias of token {token}", value, _is_bias, "a number, or -inf")

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

    def _banning(self, tokens: frozenset[int]) -> SamplingParams:
        """Return a copy with more tokens banned: one object for each set, that rows can share."""
        if tokens not in self._copies:
            self._copies[tokens] = self.replace(banned=self.banned | tokens)
        return self._copies[tokens]

    @cached_property
    def _copies(self) -> dict[frozenset[int], SamplingParams]:
        return {}

    @cached_property
    def _way(self) -> _Way:
        return _Way(self)

    @cached_property
    def _key(self) -> Hashable:
        """What equal parameters have in common."""
        plain = [getattr(self, name) for name in _RANGES if name not in ("banned", "bias")]
        return type(self), *plain, frozenset(self.banned), frozenset(self.bias.items())


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

    Raises:
        ConfigError: params are none, or the seed is no whole number of 64 bits.
    """

    def __init__(self, params: SamplingParams, seed: int = 0) -> None:
        require("params of a sampler", params, _are_params, "SamplingParams")
        require("seed", seed, _is_seed, "a whole number from 0 to 2**64 - 1")
        self._seed = int(seed)
        self._generator: torch.Generator | None = None
        self.params = params

    def generator(self, device: torch.device) -> torch.Generator:
        """Return the random state for logits on a device, made on first use.

        It is on the CPU where the device has no float64, since numbers are drawn there then.
        """
        device = _drawn_on(device)
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
        way = self.params._way
        return _processed(way.shaped(logits, [context]), way.narrowing)

    def choose(self, logits: Tensor, context: Callable[[], Sequence[int]]) -> Tensor:
        """Return a token id, [1], drawn from what :meth:`scores` describes.

        Args:
            logits: [1, vocab], float32.
            context: gives the token ids that a repetition penalty counts.

        Raises:
            ConfigError: all tokens are banned, or a token that does not exist is biased.
        """
        logits = logits.to(_drawn_on(logits.device))
        way = self.params._way
        ((_, token),) = way.choose(way.shaped(logits, [context]), [self])
        return token


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

    Raises:
        ConfigError: all tokens are banned, or a token that does not exist is biased.
    """
    logits = logits.to(_drawn_on(logits.device))
    alike: dict[int, list[int]] = {}  # rows by their parameters
    order: list[int] = []
    chosen: list[Tensor] = []
    for row, sampler in enumerate(samplers):
        if type(sampler).choose is Sampler.choose:
            alike.setdefault(id(sampler.params), []).append(row)
        else:  # it chooses in a way of its own
            order.append(row)
            chosen.append(sampler.choose(logits[row : row + 1], contexts[row]))
    for rows in _apart(_joined(alike.values(), samplers), logits):
        way = samplers[rows[0]].params._way
        scores = way.shaped(_rows(logits, rows), [contexts[row] for row in rows])
        for places, tokens in way.choose(scores, [samplers[row] for row in rows]):
            order += [rows[place] for place in places]
            chosen.append(tokens)
    return _brought(logits, order, torch.cat(chosen), samplers) if chosen else []


def _brought(
    logits: Tensor, rows: Sequence[int], tokens: Tensor, samplers: Sequence[Sampler]
) -> list[Sampled]:
    """Return what was chosen, in the order of the rows, by one transfer to the host.

    Args:
        logits: [rows, vocab], float32.
        rows: of which each token is.
        tokens: [rows], int64.
        samplers: one a row.
    """
    vocab = logits.shape[-1]
    counts = [samplers[row].params.logprobs for row in rows]
    wanted = [at for at, count in enumerate(counts) if count is not None]
    most = min(max([counts[at] or 0 for at in wanted], default=0), vocab)
    numbers = [
        _logprobs(_rows(logits, [rows[at] for at in some]), _rows(tokens, some), most)
        for some in _apart([wanted] if wanted else [], logits)
    ]
    found = (torch.cat([tokens, *numbers]) if numbers else tokens).tolist()
    chosen = [Sampled(int(token)) for token in found[: len(rows)]]
    if not logits.is_cpu and any(one.token >= vocab for one in chosen):
        raise _nothing_to_draw()
    rest = iter(found[len(rows) :])
    for at in wanted:
        logprob, *likely = islice(rest, 1 + 2 * most)
        top = zip(map(int, likely[most:]), likely[:most], strict=True)
        chosen[at] = Sampled(chosen[at].token, logprob, tuple(islice(top, counts[at])))
    return [one for _, one in sorted(zip(rows, chosen, strict=True), key=itemgetter(0))]


def _logprobs(logits: Tensor, tokens: Tensor, count: int) -> Tensor:
    """Return log-probabilities of each row: its token's, so many most likely ones', and their ids.

    Args:
        logits: [rows, vocab].
        tokens: [rows], int64; past the last id where nothing could be drawn.
        count: up to vocab.

    Returns:
        [rows * (1 + 2 * count)], float64.
    """
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(count)
    own = logprobs.gather(-1, tokens.clamp(max=logprobs.shape[-1] - 1)[:, None])
    return torch.cat([own.double(), best.values, best.indices], -1).flatten()


def _joined(groups: Collection[list[int]], samplers: Sequence[Sampler]) -> Iterable[list[int]]:
    """Return the same rows, those of equal parameters together, in rising order."""
    if len(groups) == 1:
        return groups
    equal: dict[Hashable, list[int]] = {}
    for rows in groups:
        equal.setdefault(samplers[rows[0]].params._key, []).extend(rows)
    return map(sorted, equal.values())


def _apart(groups: Iterable[list[int]], logits: Tensor) -> Iterator[list[int]]:
    """Yield the rows of each group, on the CPU so many at a time that their memory stays small.

    Larger buffers are given back to the system after each tick, and cost page faults in the next.
    """
    many = max(1, _TOGETHER // logits.shape[-1]) if logits.is_cpu else len(logits)
    for rows in groups:
        for first in range(0, len(rows), many):
            yield rows[first : first + many]


def _rows(states: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows of a tensor; no copy if they are neighbours."""
    if [*rows] == [*range(rows[0], rows[0] + len(rows))]:
        return states[rows[0] : rows[-1] + 1]
    if states.is_cpu:
        return states[rows]
    return torch.stack([states[row] for row in rows])  # so that no indices are brought there


class _Way:
    """What parameters come to: made once, for all who sample by the same object."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.shaping, self.narrowing = _shaping(params), _narrowing(params)
        self._writes = bool(params.bias or params.banned)  # to the logits that it is given
        # The nucleus of a top-p alone is settled by the candidates: among them it would be another.
        self._settled = not params.top_k and params.top_p < 1
        self._among = _narrowing(params.replace(top_p=1.0)) if self._settled else self.narrowing

    def shaped(self, logits: Tensor, contexts: Sequence[Context]) -> Tensor:
        """Return the logits [rows, vocab] after what changes those of single tokens.

        Raises:
            ConfigError: all tokens are banned, or a token that does not exist is biased.
        """
        if not self.shaping:
            return logits
        _check_vocabulary(self.params, logits.shape[-1])
        if self.params.repetition_penalty == 1.0:
            return _processed(logits.clone() if self._writes else logits, self.shaping)
        rows = [
            _processed(row[None].clone(), self.shaping, context())
            for row, context in zip(logits, contexts, strict=True)
        ]
        return torch.cat(rows)

    def choose(
        self, scores: Tensor, samplers: Sequence[Sampler]
    ) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield some rows of the shaped scores [rows, vocab], and a token for each of these."""
        if self.params.temperature == 0:
            yield range(len(scores)), _likeliest(scores)
            return
        for rows, ids, left in self.narrowed(scores):
            drawn = _draw(left, [samplers[row] for row in rows])
            yield rows, drawn if ids is None else ids.gather(-1, drawn[:, None])[:, 0]

    def narrowed(self, scores: Tensor) -> Iterator[tuple[Sequence[int], Tensor | None, Tensor]]:
        """Yield some rows of the shaped scores, ids [n, few] or None for all, and these' scores.

        Rows stand together if as many tokens are left of them, so that none is filled up.
        """
        if not self.narrowing or not scores.is_cpu:
            yield range(len(scores)), None, _processed(scores, self.narrowing)
            return
        candidates, counts = _candidates(scores, self.params)
        for count in dict.fromkeys(counts):
            rows = [row for row, number in enumerate(counts) if number == count]
            here = _rows(scores, rows)
            if not count:
                yield rows, None, _processed(here, self.narrowing)
                continue
            ids = _rows(candidates, rows)[:, :count]
            ids = ids if self._settled else ids.sort(-1).values
            yield rows, ids, _processed(here.gather(-1, ids), self._among)


def _draw(scores: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Return which of the scores [rows, n] are drawn, [rows]; each by one number of its own."""
    reached = scores.double().softmax(-1).cumsum(-1)
    if scores.is_cpu and bool(reached[:, -1].isnan().any()):  # a GPU finds the end of the row
        raise _nothing_to_draw()
    device = scores.device
    lots = [
        torch.rand(1, dtype=reached.dtype, device=device, generator=sampler.generator(device))
        for sampler in samplers
    ]
    # The first that is above: one without any odds is never above the one before it.
    bars = torch.cat(lots)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, bars, right=True)[:, 0]


@cache
def _drawn_on(device: torch.device) -> torch.device:
    """Return where tokens are drawn of logits on a device: on the CPU, if it has no float64.

    Apple's GPUs have none, nor do some of Intel's.
    """
    if device.type in ("cpu", "cuda"):
        return device
    try:
        torch.ones(1, device=device).double().cumsum(0)
    except (NotImplementedError, RuntimeError, TypeError):
        return torch.device("cpu")
    return device


def _nothing_to_draw() -> ConfigError:
    return ConfigError(
        "No token can be drawn, since all are ruled out or a logit is infinite: check what is "
        "banned or biased, the temperature, and the model's dtype."
    )


class _Placed:
    """Tensors on whatever device they are asked for, brought there once."""

    def __init__(self, *tensors: Tensor) -> None:
        self._found = {torch.device("cpu"): tensors}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return them on a device."""
        if device not in self._found:
            here = self._found[torch.device("cpu")]
            self._found[device] = tuple(one.to(device) for one in here)
        return self._found[device]


class _Banned(LogitsProcessor):
    """Bans tokens; transformers' own looks up each token of the vocabulary anew, row by row."""

    def __init__(self, banned: frozenset[int]) -> None:
        self._banned = _Placed(torch.tensor(sorted(banned), dtype=torch.int64, device="cpu"))
        self._last = max(banned)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        (tokens,) = self._banned.on(scores.device)
        if self._last >= scores.shape[-1]:
            tokens = tokens[tokens < scores.shape[-1]]
        return scores.index_fill_(-1, tokens, -math.inf)


class _Biased(LogitsProcessor):
    """Adds to the logits of single tokens, whatever dtype and vocabulary others have."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._bias = _Placed(
            torch.tensor(list(bias), dtype=torch.int64, device="cpu"),
            torch.tensor(list(bias.values()), dtype=torch.float32, device="cpu"),
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tokens, values = self._bias.on(scores.device)
        return scores.index_add_(-1, tokens, values.to(scores.dtype).expand(len(scores), -1))


def _shaping(params: SamplingParams) -> list[LogitsProcessor]:
    """Return what changes the logits of single tokens."""
    processors: list[LogitsProcessor] = []
    if params.bias:
        processors.append(_Biased(params.bias))
    if params.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.banned:
        processors.append(_Banned(params.banned))
    if params.temperature not in (0, 1.0):
        processors.append(TemperatureLogitsWarper(float(params.temperature)))
    return processors


def _narrowing(params: SamplingParams) -> list[LogitsProcessor]:
    """Return what leaves only some of the tokens."""
    processors: list[LogitsProcessor] = []
    if params.temperature and params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.temperature and params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.temperature and params.min_p > 0:
        processors.append(MinPLogitsWarper(params.min_p))
    return processors


def _processed(
    scores: Tensor, processors: Sequence[LogitsProcessor], context: Sequence[int] | None = None
) -> Tensor:
    """Return scores after some processors, of which a repetition penalty counts the context."""
    if context is None:
        ids = _NO_IDS
    else:
        ids = moved(torch.tensor([list(context)], dtype=torch.int64, device="cpu"), scores.device)
    for process in processors:
        scores = process(cast(torch.LongTensor, ids), cast(torch.FloatTensor, scores))
    return scores


def _candidates(scores: Tensor, params: SamplingParams) -> tuple[Tensor, list[int]]:
    """Return ids [rows, most], the likeliest first, and how many of each row's count.

    These hold all tokens that the narrowing leaves; 0 where that takes the whole vocabulary. A
    top-p without a top-k is settled here: the ids are its nucleus.
    """
    if params.top_k:
        return _top_k(scores, min(params.top_k, scores.shape[-1]))
    if params.top_p < 1:
        return _nucleus(scores, params.top_p, scores.logsumexp(-1, keepdim=True), _HEADS)
    bar = scores.amax(-1, keepdim=True) + math.log(params.min_p) - _SLACK
    counts = (scores >= bar).sum(-1).tolist()
    return _top(scores, max(counts))[1], counts


def _top_k(scores: Tensor, k: int) -> tuple[Tensor, list[int]]:
    """Return the candidates of a top-k; more where some are equal, as these stay."""
    values, ids = _top(scores, min(k + 1, scores.shape[-1]))
    if bool((values[:, k:] < values[:, k - 1 : k]).all()):
        return ids[:, :k], [k] * len(scores)
    counts = (scores >= values[:, k - 1 : k]).sum(-1).tolist()
    return _top(scores, max(counts))[1], counts


def _nucleus(
    scores: Tensor, p: float, total: Tensor, heads: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Return the candidates of a top-p, looked for among more and more tokens.

    Args:
        scores: [rows, vocab].
        p: what their probabilities reach.
        total: [rows, 1] the log-sum-exp of each row.
        heads: of how many tokens, in turn.
    """
    head, *more = heads
    values, ids = _top(scores, min(head, scores.shape[-1]))
    odds = (values - total).double().exp()
    above = odds.cumsum(-1) - odds
    counts = ((above < p).sum(-1) * (above[:, -1] >= p)).tolist()
    wide = [row for row, count in enumerate(counts) if not count]
    if wide and more:
        found, many = _nucleus(_rows(scores, wide), p, _rows(total, wide), more)
        ids = nn.functional.pad(ids, (0, found.shape[-1] - ids.shape[-1]))
        ids[wide] = found
        for row, count in zip(wide, many, strict=True):
            counts[row] = count
    return ids, counts


def _likeliest(scores: Tensor) -> Tensor:
    """Return which of each row [rows, n] is the largest, the first of equal ones: [rows]."""
    ids = _few(scores, 1)
    if ids is None:
        return scores.argmax(-1)
    return ids.gather(-1, scores.gather(-1, ids).argmax(-1, keepdim=True))[:, 0]


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest of each row [rows, n], the largest first, and which they are.

    Args:
        scores: [rows, n].
        count: how many, up to n.
    """
    ids = _few(scores, count)
    values, places = (scores if ids is None else scores.gather(-1, ids)).topk(count)
    return values, places if ids is None else ids.gather(-1, places)


def _few(scores: Tensor, count: int) -> Tensor | None:
    """Return ids [rows, few] that hold the ``count`` largest of each row; None for nearly all.

    On a CPU torch looks for them number by number, but for the largest of a block with vectors;
    and they are in the blocks whose largest are the largest.
    """
    size = scores.shape[-1]
    blocks = size // _BLOCK
    if not scores.is_cpu or blocks < 4 * count:
        return None
    whole = blocks * _BLOCK
    tops = scores[:, :whole].view(-1, blocks, _BLOCK).amax(-1)  # [rows, blocks]
    best = tops.argmax(-1, keepdim=True) if count == 1 else tops.topk(count).indices
    ids = (best[..., None] * _BLOCK + torch.arange(_BLOCK, device="cpu")).flatten(1)
    rest = torch.arange(whole, size, device="cpu").expand(len(ids), -1)
    return torch.cat([ids, rest], -1)


def _check_vocabulary(params: SamplingParams, size: int) -> None:
    wrong = next((token for token in params.bias if not 0 <= token < size), None)
    if wrong is not None:
        raise ConfigError(
            f"bias names the token {wrong}, but the model has the ids 0 to {size - 1}."
        )
    if len(params.banned) >= size and all(token in params.banned for token in range(size)):
        raise ConfigError(f"All {size} tokens are banned: leave at least one to choose.")


def _is_bias(value: Any) -> bool:
    return number(value) < math.inf


def _are_tokens(value: Any) -> bool:
    if not isinstance(value, Set):
        return False
    if set(map(type, value)) <= {int}:  # soon told, of however many
        return min(value, default=0) >= 0
    return all(map(is_count, value))


def _are_params(value: object) -> bool:
    return isinstance(value, SamplingParams)


def _is_seed(value: Any) -> bool:
    return is_count(value) and value < 1 << 64


_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda x: 0 <= number(x) < math.inf, "at least 0, and finite"),
    "top_k": (is_count, "a whole number from 0 (0 keeps all tokens)"),
    "top_p": (lambda x: 0 < number(x) <= 1, "in (0, 1]"),
    "min_p": (lambda x: 0 <= number(x) <= 1, "in [0, 1]"),
    "repetition_penalty": (
        lambda x: 0 < number(x) < math.inf,
        "above 0, and finite (1 changes nothing)",
    ),
    "logprobs": (lambda x: x is None or is_count(x), "a whole number from 0, or None"),
    "banned": (_are_tokens, "a set of token ids"),
    "bias": (lambda x: isinstance(x, Mapping), "numbers by token ids"),
}
"""Which values the parameters may have, and how that is said."""
