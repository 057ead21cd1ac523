"""A naive oracle: the logits of shared blocks, from the definition, in float64.

It shares no code with the engine. A block is a list of tokens and, for every layer, their values
and their keys as they were *before* rotation. The model's own layers run with all position ids 0,
where the rotation is the identity (times the scale of YaRN and its kin, which is divided out, as
is the temperature of the queries there), so the registered attention function gets plain queries
and keys. For each feed and layer it then lays out the whole view: every key is turned, in float64
and by this module's own arithmetic, to its place in the view; so are the queries; windows, chunks
and temperatures follow from those places; one softmax in float64 runs over everything.

What a layer does is written down in its family, by hand. Slow, with nothing clever in it. That is
the point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from tests.engine.family import Family, Layer

NAME = "naive_oracle"


@dataclass(eq=False)
class OracleBlock:
    """``keys[layer]``: [tokens, kv_heads, key_dim], unrotated, float64; values likewise."""

    tokens: list[int]
    keys: list[Tensor]
    values: list[Tensor]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Part:
    """One entry of a view: the tokens ``start`` to ``stop`` of a block; None: to its end."""

    block: OracleBlock
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class OracleFeed:
    """``view[-1]`` shows the end of ``block``, to which ``tokens`` are appended."""

    block: OracleBlock
    view: Sequence[Part]
    tokens: Sequence[int]


@dataclass
class _Tick:
    """What the attention function needs: the feeds, and the new tokens' rows in the packed row.

    Where a model calls it twice in a layer, each call counts as a layer of its own.
    """

    oracle: Oracle
    feeds: Sequence[OracleFeed]
    rows: list[range]
    new_keys: list[Tensor] = field(default_factory=list)
    new_values: list[Tensor] = field(default_factory=list)


_current: ContextVar[_Tick] = ContextVar("oracle_tick")
"""The tick that runs; not an argument of the forward, as some classes drop those on the way."""


class Oracle:
    """Owns its copy of the family's model; nothing is shared with an engine.

    Args:
        family: whose model is built (with the same seed as the engine's), and taken to float64,
            so that only the engine's own rounding is measured.
        model: the model to take instead, as it is; it is kept.
        shift: moves every key of blocks that are not being written by this many positions: a
            mistake made on purpose, to show that the tests would see one.
        wrong: changes what is known of each layer: another mistake made on purpose.

    Attributes:
        routing_margin: the smallest gap seen between the last expert chosen and the first one
            left out. Where it is about as small as rounding errors, a mixture of experts is not
            continuous, and logits may rightly differ.
    """

    def __init__(
        self,
        family: Family,
        *,
        seed: int = 0,
        model: Any = None,
        shift: int = 0,
        wrong: Callable[[Layer], Layer] = lambda layer: layer,
    ) -> None:
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, _no_mask)
        self.model = model or _in_float64(family.build(seed=seed))
        self.model.set_attn_implementation(NAME)
        self.shift = shift
        self.routing_margin = float("inf")
        self._family = family
        self._wrong = wrong
        self._rotary = self.model.get_submodule(family.rotary)
        self._turns: dict[Layer, _Turn] = {}

    def block(self) -> OracleBlock:
        """A new, empty block."""
        return OracleBlock([], [], [])

    def forward(self, feeds: Sequence[OracleFeed]) -> list[Tensor]:
        """Run one tick; logits [len(tokens), vocab] after every token of each feed."""
        ids: list[int] = []
        rows = []
        for feed in feeds:
            rows.append(range(len(ids), len(ids) + len(feed.tokens)))
            ids += feed.tokens
        tick = _Tick(self, feeds, rows)
        row = torch.tensor([ids])
        token = _current.set(tick)
        try:
            with torch.no_grad(), _watched_routing(self):
                logits: Tensor = self.model(
                    input_ids=row, position_ids=torch.zeros_like(row), use_cache=False
                ).logits[0]
        finally:
            _current.reset(token)
        for feed in feeds:
            states = [_stored(tick, feed.block, layer) for layer in range(len(tick.new_keys))]
            feed.block.keys = [keys for keys, _ in states]
            feed.block.values = [values for _, values in states]
        for feed in feeds:
            feed.block.tokens += feed.tokens
        return [logits[new.start : new.stop] for new in rows]

    def move(self, source: OracleBlock, target: OracleBlock) -> None:
        """Append all of source to target; source is empty afterwards."""
        target.tokens += source.tokens
        target.keys = _joined(target.keys, source.keys)
        target.values = _joined(target.values, source.values)
        self.truncate(source, 0)

    def truncate(self, block: OracleBlock, length: int) -> None:
        """Keep the first ``length`` tokens."""
        block.tokens = block.tokens[:length]
        block.keys = [keys[:length] for keys in block.keys]
        block.values = [values[:length] for values in block.values]

    def fork(self, block: OracleBlock) -> OracleBlock:
        """A copy that goes its own way."""
        return OracleBlock(list(block.tokens), list(block.keys), list(block.values))

    def layer(self, call: int) -> Layer:
        """What is known of a layer, or the mistake that is made of it."""
        return self._wrong(self._family.layer(call))

    def turn_of(self, layer: Layer) -> _Turn:
        """How this layer rotates."""
        if layer not in self._turns:
            self._turns[layer] = _Turn.of(layer, self._rotary)
        return self._turns[layer]

    def seen_positions(self, count: int) -> Tensor:
        """Where the model believes its rows to be, when it sets the temperature of queries."""
        return torch.arange(count) if self._family.counts_rows else torch.zeros(count)


def _in_float64(model: Any) -> Any:
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # others take no float64
    return model.double()


@dataclass(frozen=True)
class _Turn:
    """A rotation of [n, heads, dim] float64 states.

    Attributes:
        frequencies: [pairs] angle of one position.
        scale: what the rotation multiplies by.
        pairs: the dimensions that turn together: one slice of each pair.
    """

    frequencies: Tensor
    scale: float
    pairs: tuple[slice, slice]

    @classmethod
    def of(cls, layer: Layer, rotary: Any) -> _Turn:
        """As the layer says, by the buffers of the model's rotary module."""
        if layer.table is None:
            return cls(torch.zeros(0), 1.0, (slice(0, 0), slice(0, 0)))
        frequencies = getattr(rotary, f"{layer.table}original_inv_freq").double() * layer.direction
        if layer.long:
            rope = rotary.config.rope_parameters
            short, long = (torch.tensor(rope[name]) for name in ("short_factor", "long_factor"))
            frequencies = frequencies * short.double() / long.double()
        count = len(frequencies)
        low, high = (0, 2 * count) if layer.place == "first" else (-2 * count, None)
        if layer.pairing == "neighbours":
            pairs = slice(low, high, 2), slice(low + 1, high, 2)
        else:
            pairs = slice(low, low + count), slice(low + count, high)
        scale = getattr(rotary, f"{layer.table}attention_scaling")
        return cls(frequencies, float(layer.scale or scale), pairs)

    def __call__(self, states: Tensor, positions: Tensor) -> Tensor:
        """Rotate unrotated states to view positions [n]."""
        angles = positions.double()[:, None, None] * self.frequencies  # [n, 1, pairs]
        first, second = self.pairs
        real, imaginary = states[..., first], states[..., second]
        turned = states.clone()
        turned[..., first] = self.scale * (real * angles.cos() - imaginary * angles.sin())
        turned[..., second] = self.scale * (real * angles.sin() + imaginary * angles.cos())
        return turned

    def plain(self, states: Tensor) -> Tensor:
        """Undo the scale that the model applied at position 0; float64."""
        states = states.double()
        for part in self.pairs:
            states[..., part] /= self.scale
        return states


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **options: Any,
) -> tuple[Tensor, None]:
    tick = _current.get()
    oracle, call = tick.oracle, len(tick.new_keys)
    layer = oracle.layer(call)
    assert attention_mask is None
    gains = [_gain(module, name) for name in layer.gains or (None, None)]
    turn = oracle.turn_of(layer)
    queries = turn.plain(query[0].transpose(0, 1) / gains[0])  # [T, heads, key_dim]
    if layer.temperature:
        queries /= layer.temperature(oracle.seen_positions(len(queries)))[:, None, None]
    tick.new_keys.append(turn.plain(key[0].transpose(0, 1) / gains[1]))
    tick.new_values.append(value[0].transpose(0, 1).double())
    softmax = _Softmax(layer, turn, scaling, gains[0], gains[1], _sinks(module, layer))
    outs = [
        _attend(tick, call, feed, queries[rows.start : rows.stop], softmax)
        for feed, rows in zip(tick.feeds, tick.rows, strict=True)
    ]
    return torch.cat(outs).to(query.dtype)[None], None  # [1, T, heads, value_dim]


def _gain(module: nn.Module, name: str | None) -> Tensor:
    weight = module.get_submodule(name).weight if name else 1.0
    return torch.as_tensor(weight, dtype=torch.float64)


def _sinks(module: nn.Module, layer: Layer) -> Tensor | None:
    return None if layer.sinks is None else module.get_parameter(layer.sinks).double()


@dataclass(frozen=True)
class _Softmax:
    """One layer's softmax over a view that is laid out in full."""

    layer: Layer
    turn: _Turn
    scaling: float
    query_gain: Tensor
    key_gain: Tensor
    sinks: Tensor | None

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, shifts: Tensor) -> Tensor:
        """Attend with the last rows of a view to all of it, each row to those up to itself.

        Args:
            queries: [n, heads, key_dim], unrotated.
            keys: [total, kv_heads, key_dim], unrotated.
            values: [total, kv_heads, value_dim].
            shifts: [total], by how much keys are misplaced on purpose.
        """
        places = torch.arange(len(keys))
        own = places[len(keys) - len(queries) :]
        keys = self.turn(keys, places + shifts) * self.key_gain
        queries = self.turn(queries, own) * self.query_gain
        if self.layer.temperature:
            queries = queries * self.layer.temperature(own)[:, None, None]
        group = queries.shape[1] // keys.shape[1]
        keys, values = (states.repeat_interleave(group, dim=1) for states in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", queries, keys) * self.scaling
        if self.layer.cap is not None:
            scores = self.layer.cap * (scores / self.layer.cap).tanh()
        scores = scores.masked_fill(~self._seen(own[:, None], places[None, :]), float("-inf"))
        if self.sinks is not None:
            sinks = self.sinks[:, None, None].expand(-1, len(queries), 1)
            scores = torch.cat([scores, sinks], dim=-1)
        weights = scores.softmax(-1)[..., : len(keys)]
        return torch.einsum("hqk,khd->qhd", weights, values)

    def _seen(self, query: Tensor, key: Tensor) -> Tensor:
        seen = key <= query
        if self.layer.window is not None:
            seen &= key > query - self.layer.window
        if self.layer.chunk is not None:
            seen &= key // self.layer.chunk == query // self.layer.chunk
        return seen


def _attend(tick: _Tick, call: int, feed: OracleFeed, queries: Tensor, softmax: _Softmax) -> Tensor:
    """One feed's softmax over its view; queries [n, heads, key_dim]."""
    keys: list[Tensor] = []
    values: list[Tensor] = []
    shifts: list[Tensor] = []
    for part in feed.view:
        entry_keys, entry_values = _stored(tick, part.block, call)
        keys.append(entry_keys[part.start : part.stop])
        values.append(entry_values[part.start : part.stop])
        foreign = 0 if part.block is feed.block else tick.oracle.shift
        shifts.append(torch.full((len(keys[-1]),), foreign))
    return softmax(queries, torch.cat(keys), torch.cat(values), torch.cat(shifts))


def _stored(tick: _Tick, block: OracleBlock, call: int) -> tuple[Tensor, Tensor]:
    """Keys and values that the block has, followed by what this tick's feeds append to it."""
    pair = []
    for stored, new in ((block.keys, tick.new_keys), (block.values, tick.new_values)):
        parts = [stored[call]] if stored else []
        for feed, rows in zip(tick.feeds, tick.rows, strict=True):
            if feed.block is block:
                parts.append(new[call][rows.start : rows.stop])
        pair.append(torch.cat([*parts, new[call][:0]]))
    return pair[0], pair[1]


def _joined(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    if not first or not second:
        return list(first or second)
    return [torch.cat(pair) for pair in zip(first, second, strict=True)]


@contextmanager
def _watched_routing(oracle: Oracle) -> Iterator[None]:
    """Note how near the choices of experts are to falling out otherwise."""
    chosen = torch.topk

    def topk(scores: Tensor, k: int, *args: Any, **kwargs: Any) -> Any:
        if k < scores.shape[-1]:
            ranked = scores.sort(descending=True).values
            gap = float((ranked[..., k - 1] - ranked[..., k]).min())
            oracle.routing_margin = min(oracle.routing_margin, gap)
        return chosen(scores, k, *args, **kwargs)

    with patch.object(torch, "topk", topk), patch.object(Tensor, "topk", topk):
        yield


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None
