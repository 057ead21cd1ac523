"""A naive oracle: the logits of shared blocks, from the definition, in fp32.

It shares no code with the engine. A block is a list of tokens and, for every layer, their values
and their keys as they were *before* rotation. The model's own layers run with all position ids 0,
where the rotation is the identity (times the scale of YaRN and its kin, which is divided out), so
the registered attention function gets plain queries and keys. For each feed and layer it then lays
out the whole view: every key is turned, in float64 and by this module's own arithmetic, to its
place in the view; so are the queries; one softmax in float64 runs over everything.

Slow, with nothing clever in it. That is the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from tests.engine.families import Family, Pairing

NAME = "naive_oracle"


@dataclass(eq=False)
class OracleBlock:
    """``keys[layer][i]``: [kv_heads, head_dim] of token i, unrotated; values likewise."""

    tokens: list[int]
    keys: list[list[Tensor]]
    values: list[list[Tensor]]

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
    """What the attention function needs: the feeds, and the new tokens' rows in the packed row."""

    oracle: Oracle
    feeds: Sequence[OracleFeed]
    rows: list[range]
    new_keys: list[list[Tensor]] = field(default_factory=list)
    new_values: list[list[Tensor]] = field(default_factory=list)


class Oracle:
    """Owns its copy of the family's model; nothing is shared with an engine.

    Args:
        family: whose model is built (with the same seed as the engine's).
        shift: moves every key of blocks that are not being written by this many positions: a
            mistake made on purpose, to show that the tests would see one.

    Attributes:
        routing_margin: the smallest gap seen between the last expert chosen and the first one
            left out. Where it is about as small as rounding errors, a mixture of experts is not
            continuous, and logits may rightly differ.
    """

    def __init__(self, family: Family, *, seed: int = 0, shift: int = 0) -> None:
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, _no_mask)
        self.model = family.build(seed=seed)
        self.model.set_attn_implementation(NAME)
        self.layers = int(self.model.config.num_hidden_layers)
        self.shift = shift
        self.routing_margin = float("inf")
        for module in self.model.modules():
            if type(module).__name__.endswith("TopKRouter"):
                module.register_forward_hook(self._watch_routing)
        self._pairing: Pairing = family.pairing
        table: Any = self.model.get_submodule("model.rotary_emb")
        self._frequencies = table.inv_freq.double()  # [pairs]
        zero = torch.zeros(1, 1, dtype=torch.int64)
        self._scale = float(table(torch.zeros(1), zero)[0][0, 0, 0])  # cos 0, scaled

    def block(self) -> OracleBlock:
        """A new, empty block."""
        return OracleBlock([], [[] for _ in range(self.layers)], [[] for _ in range(self.layers)])

    def forward(self, feeds: Sequence[OracleFeed]) -> list[Tensor]:
        """Run one tick; logits [len(tokens), vocab] after every token of each feed."""
        ids: list[int] = []
        rows = []
        for feed in feeds:
            rows.append(range(len(ids), len(ids) + len(feed.tokens)))
            ids += feed.tokens
        tick = _Tick(self, feeds, rows)
        row = torch.tensor([ids])
        with torch.no_grad():
            logits: Tensor = self.model(
                input_ids=row,
                position_ids=torch.zeros_like(row),
                use_cache=False,
                oracle_tick=tick,
            ).logits[0]
        for feed, new in zip(feeds, rows, strict=True):
            feed.block.tokens += feed.tokens
            for layer in range(self.layers):
                feed.block.keys[layer] += [tick.new_keys[layer][i] for i in new]
                feed.block.values[layer] += [tick.new_values[layer][i] for i in new]
        return [logits[new.start : new.stop] for new in rows]

    def move(self, source: OracleBlock, target: OracleBlock) -> None:
        """Append all of source to target; source is empty afterwards."""
        target.tokens += source.tokens
        for layer in range(self.layers):
            target.keys[layer] += source.keys[layer]
            target.values[layer] += source.values[layer]
        self.truncate(source, 0)

    def truncate(self, block: OracleBlock, length: int) -> None:
        """Keep the first ``length`` tokens."""
        block.tokens = block.tokens[:length]
        block.keys = [keys[:length] for keys in block.keys]
        block.values = [values[:length] for values in block.values]

    def fork(self, block: OracleBlock) -> OracleBlock:
        """A copy that goes its own way."""
        keys = [list(keys) for keys in block.keys]
        return OracleBlock(list(block.tokens), keys, [list(values) for values in block.values])

    def _watch_routing(self, router: Any, _args: Any, output: Any) -> None:
        ranked = output[0].sort(descending=True).values  # [T, experts]
        gaps = ranked[:, router.top_k - 1] - ranked[:, router.top_k]
        self.routing_margin = min(self.routing_margin, float(gaps.min()))

    def turn(self, states: Tensor, positions: Tensor) -> Tensor:
        """Rotate [n, heads, dim] unrotated float64 states to view positions [n]."""
        pairs = self._frequencies.shape[0]
        angles = positions.double()[:, None, None] * self._frequencies  # [n, 1, pairs]
        turned = states.clone()
        if self._pairing == "halves":
            first, second = slice(0, pairs), slice(pairs, 2 * pairs)
        else:
            first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        real, imaginary = states[..., first], states[..., second]
        turned[..., first] = self._scale * (real * angles.cos() - imaginary * angles.sin())
        turned[..., second] = self._scale * (real * angles.sin() + imaginary * angles.cos())
        return turned

    def plain(self, states: Tensor) -> Tensor:
        """Undo the scale that the model applied at position 0; float64."""
        states = states.double()
        rotary = 2 * self._frequencies.shape[0]
        states[..., :rotary] /= self._scale
        return states


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    oracle_tick: _Tick,
    **options: Any,
) -> tuple[Tensor, None]:
    oracle, layer = oracle_tick.oracle, len(oracle_tick.new_keys)
    assert attention_mask is None
    assert module.layer_idx == layer
    queries = oracle.plain(query[0].transpose(0, 1))  # [T, heads, head_dim]
    oracle_tick.new_keys.append(list(oracle.plain(key[0].transpose(0, 1))))
    oracle_tick.new_values.append(list(value[0].transpose(0, 1).double()))
    outs = []
    for feed, rows in zip(oracle_tick.feeds, oracle_tick.rows, strict=True):
        outs.append(_attend(oracle_tick, layer, feed, queries[rows.start : rows.stop], scaling))
    return torch.cat(outs).to(query.dtype)[None], None  # [1, T, heads, head_dim]


def _attend(tick: _Tick, layer: int, feed: OracleFeed, queries: Tensor, scaling: float) -> Tensor:
    """One feed's softmax over its view, laid out in full; queries [n, heads, head_dim]."""
    keys: list[Tensor] = []
    values: list[Tensor] = []
    shifts: list[int] = []
    for part in feed.view:
        shown = slice(part.start, part.stop)
        entry_keys = _with_new(tick, part.block, part.block.keys[layer], tick.new_keys[layer])
        entry_values = _with_new(tick, part.block, part.block.values[layer], tick.new_values[layer])
        keys += entry_keys[shown]
        values += entry_values[shown]
        foreign = 0 if part.block is feed.block else tick.oracle.shift
        shifts += [foreign] * len(entry_keys[shown])
    total, new = len(keys), len(feed.tokens)
    places = torch.arange(total)
    all_keys = tick.oracle.turn(torch.stack(keys), places + torch.tensor(shifts))
    all_queries = tick.oracle.turn(queries, places[total - new :])
    group = queries.shape[1] // all_keys.shape[1]
    all_keys = all_keys.repeat_interleave(group, dim=1)  # [total, heads, head_dim]
    all_values = torch.stack(values).repeat_interleave(group, dim=1)
    scores = torch.einsum("qhd,khd->hqk", all_queries, all_keys) * scaling
    later = places[None, :] > places[total - new :, None]  # own block only: it stands last
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, all_values)


def _with_new(
    tick: _Tick, block: OracleBlock, stored: list[Tensor], new: list[Tensor]
) -> list[Tensor]:
    """What the block stores, followed by what this tick's feeds append to it."""
    appended = list(stored)
    for feed, rows in zip(tick.feeds, tick.rows, strict=True):
        if feed.block is block:
            appended += new[rows.start : rows.stop]
    return appended


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None
