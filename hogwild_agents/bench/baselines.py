"""Baselines: what transformers does on the same model, and ticks as the reference does them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import Cache, CacheLayerMixin

from hogwild_agents.bench.contents import Contents, States, Turner, read_block
from hogwild_agents.bench.contestant import first_tokens, most_likely
from hogwild_agents.engine import Engine
from hogwild_agents.engine.rope import Angles, Rope

if TYPE_CHECKING:
    Layer = Any
else:
    Layer = CacheLayerMixin


@dataclass(frozen=True)
class Way:
    """How transformers decodes.

    Attributes:
        cache: ``dynamic`` (it grows by concatenation) or ``static`` (it is written in place).
        attention: the name of its attention.
        compiled: whether the forward goes through ``torch.compile``.
    """

    cache: str
    attention: str
    compiled: bool = False

    def __str__(self) -> str:
        kind = "StaticCache" if self.cache == "static" else "DynamicCache"
        return f"{kind}, {self.attention}{', compiled' if self.compiled else ''}"


PLAIN = Way("dynamic", "sdpa")
"""As transformers comes: what ``generate`` does unless told otherwise."""


class Sequences:
    """Independent sequences in one batch, each with the whole of its context.

    Args:
        model: a model that no engine has.
        way: how to decode.
        contexts: keys and values of each sequence, layer by layer.
        room: how many tokens are written before a reset, at most.
        forward: the compiled model, where the way is a compiled one.
    """

    def __init__(
        self,
        model: Any,
        way: Way,
        contexts: Sequence[Sequence[States]],
        room: int,
        forward: Any = None,
    ) -> None:
        self._model, self._forward = model, model if forward is None else forward
        self._way = way
        self.tokens = len(contexts)
        self._length = contexts[0][0][0].shape[1]
        self._written = 0
        self._cache = self._new_cache(room)
        _put(self._cache, contexts)
        self.fed = first_tokens(self.tokens)

    def _new_cache(self, room: int) -> Cache:
        config = self._model.config
        if self._way.cache == "dynamic":
            return DynamicCache(config=config)
        return StaticCache(config=config, max_cache_len=self._length + room)

    def reset(self) -> None:
        """See :class:`Contestant`. Sliding layers keep what they have; their size is the same."""
        self.fed = first_tokens(self.tokens)
        if any(self._cache.is_sliding):
            return
        layers: list[Any] = list(self._cache.layers)
        for layer in layers:
            if self._way.cache == "static":
                layer.cumulative_length.fill_(self._length)
            elif self._written:
                layer.crop(-self._written)
        self._written = 0

    def logits(self) -> Tensor:
        """See :class:`Contestant`."""
        if self._model.config._attn_implementation != self._way.attention:
            self._model.set_attn_implementation(self._way.attention)
        device = self._model.device
        position = self._length + self._written
        with torch.no_grad():
            output = self._forward(
                input_ids=torch.tensor(self.fed, device=device)[:, None],
                position_ids=torch.full((self.tokens, 1), position, device=device),
                past_key_values=self._cache,
                use_cache=True,
            )
        self._written += 1
        logits: Tensor = output.logits[:, -1]
        return logits

    def tick(self) -> None:
        """See :class:`Contestant`."""
        self.fed = most_likely(self.logits())


def _put(cache: Cache, contexts: Sequence[Sequence[States]]) -> None:
    """Write contexts of one length into an empty cache."""
    with torch.no_grad():
        for layer in range(len(contexts[0])):
            keys = torch.stack([states[layer][0] for states in contexts])
            values = torch.stack([states[layer][1] for states in contexts])
            cache.update(keys, values, layer)


class Concatenating:
    """The ticks of a team as the reference does them: one row of a batch for each worker.

    In every layer and tick each worker gets a copy of the whole cache in the order of its view,
    its keys turned to their places.

    Args:
        model: a model that no engine has.
        attention: the name of transformers' attention.
        engine: whose contents are copied once, to begin with.
        contents: what the workers have in the cache.
    """

    def __init__(self, model: Any, attention: str, engine: Engine, contents: Contents) -> None:
        self._model, self._attention = model, attention
        self.tokens = len(contents.own)
        self._places = _Places(engine, contents)
        shared = read_block(engine, contents.shared)
        own = [read_block(engine, block) for block in contents.own]
        self._layers = [
            _ViewLayer(number, self._places, states, [one[number] for one in own])
            for number, states in enumerate(shared)
        ]
        self._cache = Cache(layers=list(self._layers))
        self.fed = first_tokens(self.tokens)

    def reset(self) -> None:
        """See :class:`Contestant`."""
        self._places.reset()
        for layer in self._layers:
            layer.reset()
        self.fed = first_tokens(self.tokens)

    def logits(self) -> Tensor:
        """See :class:`Contestant`."""
        if self._model.config._attn_implementation != self._attention:
            self._model.set_attn_implementation(self._attention)
        device = self._model.device
        with torch.no_grad():
            self._places.begin_tick()
            position = self._places.total - 1
            output = self._model(
                input_ids=torch.tensor(self.fed, device=device)[:, None],
                position_ids=torch.full((self.tokens, 1), position, device=device),
                past_key_values=self._cache,
                use_cache=True,
            )
        logits: Tensor = output.logits[:, -1]
        return logits

    def tick(self) -> None:
        """See :class:`Contestant`."""
        self.fed = most_likely(self.logits())


class _Places:
    """Where the entries of own blocks stand in each worker's view, in one tick.

    Attributes:
        total: tokens in a view, those of this tick included; equal for all.
        orders: of each worker, the own blocks in the order of its view.
    """

    def __init__(self, engine: Engine, contents: Contents) -> None:
        self._turner = Turner(engine)
        self._shared = len(contents.shared)
        self._start = [len(block) for block in contents.own]
        count = len(self._start)
        self.orders = [
            [*(other for other in range(count) if other != worker), worker]
            for worker in range(count)
        ]
        self.reset()

    def reset(self) -> None:
        """Forget the tokens of all ticks."""
        self._lengths = list(self._start)
        self._angles: dict[tuple[Rope, bool, int], Angles] = {}

    def begin_tick(self) -> None:
        """Count one more token in each own block."""
        self._lengths = [length + 1 for length in self._lengths]
        self._angles.clear()

    @property
    def total(self) -> int:
        return self._shared + sum(self._lengths)

    def turn(self, layer: int, worker: int, keys: Tensor) -> Tensor:
        """Turn keys [kv_heads, entries, dim] of all own blocks to a worker's view positions."""
        return self._turned(layer, keys, back=False, worker=worker)

    def turn_back(self, layer: int, worker: int, keys: Tensor) -> Tensor:
        """Turn keys of a worker's new token from view positions to block-local ones."""
        return self._turned(layer, keys, back=True, worker=worker)

    def _turned(self, layer: int, keys: Tensor, *, back: bool, worker: int) -> Tensor:
        rope = self._turner.rope(layer)
        if rope is None:
            return keys
        key = (rope, back, worker)
        if key not in self._angles:  # once a tick, for all layers
            origins = self._origins(worker)
            offsets = [-origins[-1]] if back else self._spread(worker, origins)
            self._angles[key] = self._turner.angles(rope, offsets)
        return rope.turn(keys, self._angles[key])

    def _origins(self, worker: int) -> list[int]:
        """Return the view position at which each own block begins, in the order of the view."""
        origins, place = [], self._shared
        for block in self.orders[worker]:
            origins.append(place)
            place += self._lengths[block]
        return origins

    def _spread(self, worker: int, origins: Sequence[int]) -> list[int]:
        """Return one offset for each entry."""
        blocks = zip(self.orders[worker], origins, strict=True)
        return [origin for block, origin in blocks for _ in range(self._lengths[block])]


class _ViewLayer(Layer):  # type: ignore[misc]
    """One layer of the cache, as transformers asks for it: [workers, kv_heads, view, dim]."""

    is_sliding = False

    def __init__(self, number: int, places: _Places, shared: States, own: Sequence[States]) -> None:
        super().__init__()
        self._number, self._places = number, places
        self._shared, self._first = shared, list(own)
        self._own = list(own)

    def reset(self) -> None:
        self._own = list(self._first)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add a token of each worker, [workers, kv_heads, 1, dim]; return everybody's view."""
        for worker, (keys, values) in enumerate(self._own):
            new = self._places.turn_back(self._number, worker, key_states[worker])
            self._own[worker] = (
                torch.cat([keys, new], 1),
                torch.cat([values, value_states[worker]], 1),
            )
        return self._laid_out(key_states, 0), self._laid_out(value_states, 1)

    def _laid_out(self, like: Tensor, which: int) -> Tensor:
        workers, heads, _, dim = like.shape
        laid_out = like.new_empty(workers, heads, self._places.total, dim)
        shared = self._shared[which]
        for worker, order in enumerate(self._places.orders):
            own = torch.cat([self._own[block][which] for block in order], 1)
            if which == 0:
                own = self._places.turn(self._number, worker, own)
            laid_out[worker, :, : shared.shape[1]] = shared
            laid_out[worker, :, shared.shape[1] :] = own
        return laid_out

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._places.total, 0

    def get_seq_length(self) -> int:
        return self._places.total - 1

    def get_max_length(self) -> int:
        return -1
