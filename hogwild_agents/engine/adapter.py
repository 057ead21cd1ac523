"""Adapter: what the engine must know of a model's layers, written down.

A :class:`LayerAdapter` declares one layer: what it stores, what turns, how far it sees, and what
enters its softmax. All of it is found by :mod:`hogwild_agents.engine.survey`, but for what no
short look can tell: the scale of queries that only far positions have. Those are declared in
``_SCALES``, by what the config has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.reach import Reach
from hogwild_agents.engine.rope import Rope

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class QueryScale:
    """A factor on queries that grows with their position (temperature tuning).

    At view position p it is ``1 + gain * log(1 + floor((p + shift) / step))``.

    Attributes:
        gain, step, shift: the numbers of the formula.
        by_row: the model takes a token's place in the row of the tick for its position, and does
            not look at ``position_ids``.
    """

    gain: float
    step: float
    shift: int = 0
    by_row: bool = False

    def factors(self, positions: Tensor) -> Tensor:
        """Return the factor at each position, [rows] float32."""
        steps = torch.floor((positions.float() + self.shift) / self.step)
        return 1 + self.gain * torch.log1p(steps)

    def correction(self, positions: Tensor, applied: Tensor) -> Tensor:
        """Return what turns the factors that the model applied into the right ones.

        Args:
            positions: [T] view positions.
            applied: [T] block-local positions.
        """
        rows = torch.arange(len(applied), device=applied.device)
        return self.factors(positions) / self.factors(rows if self.by_row else applied)


@dataclass(frozen=True, kw_only=True)
class LayerAdapter:
    """How one layer attends.

    Attributes:
        heads: how many there are of queries.
        shape: what it stores per token.
        rope: how queries and keys turn; None for a layer without RoPE.
        reach: how far back a query sees, in view positions.
        sinks: a logit per head that takes part in the softmax and gives nothing, [heads].
        softcap: scores are bent to stay within plus and minus this.
        scale: a factor on the queries by position.
    """

    heads: int
    shape: LayerShape
    rope: Rope | None
    reach: Reach
    sinks: Tensor | None = None
    softcap: float | None = None
    scale: QueryScale | None = None

    def describe(self) -> list[str]:
        """Return what the layer does, in words: its reach, its rotation, what else there is."""
        special = {
            "attention sinks": self.sinks is not None,
            "soft-capped scores": self.softcap is not None,
            "queries scaled by position": self.scale is not None,
        }
        return [str(self.reach), self._turning(), *(what for what, has in special.items() if has)]

    def _turning(self) -> str:
        if self.rope is None:
            return "no rotary embedding"
        turning, whole = self.rope.table.dimensions, self.shape.key_dim
        part = "" if turning == whole else f" of {turning} of {whole} dimensions"
        return f"rotary embedding{part} in {self.rope.pairing}"


@dataclass(frozen=True)
class Adapter:
    """The layers of one model, in order."""

    layers: tuple[LayerAdapter, ...]

    @property
    def shapes(self) -> list[LayerShape]:
        """What each layer stores per token."""
        return [layer.shape for layer in self.layers]

    @cached_property
    def reaches(self) -> tuple[Reach, ...]:
        """The different reaches of the layers."""
        return tuple(dict.fromkeys(layer.reach for layer in self.layers))

    @cached_property
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """The indices of layers of one reach, shape and number of heads, together."""
        found = self._grouped(lambda layer: (layer.reach, layer.shape, layer.heads))
        return tuple(found.values())

    @cached_property
    def turning(self) -> dict[tuple[Rope, LayerShape], tuple[int, ...]]:
        """The indices of layers whose keys turn, by how they do and what the layers store."""
        found = self._grouped(lambda layer: (layer.rope, layer.shape))
        return {(rope, shape): layers for (rope, shape), layers in found.items() if rope}

    @cached_property
    def readings(self) -> tuple[tuple[Reach, Rope | None], ...]:
        """The different reaches with their different rotations."""
        return tuple(dict.fromkeys((layer.reach, layer.rope) for layer in self.layers))

    @cached_property
    def scales(self) -> tuple[QueryScale, ...]:
        """The different scales of queries."""
        return tuple(dict.fromkeys(layer.scale for layer in self.layers if layer.scale))

    def _grouped(self, key: Callable[[LayerAdapter], K]) -> dict[K, tuple[int, ...]]:
        """Return the indices of the layers by something about them."""
        found: dict[K, list[int]] = {}
        for index, layer in enumerate(self.layers):
            found.setdefault(key(layer), []).append(index)
        return {kind: tuple(indices) for kind, indices in found.items()}

    def describe(self) -> list[str]:
        """Return what the layers do, one line for each thing, with how many do it.

        Reaches come first, then rotations, then what else there is.
        """
        found = [layer.describe() for layer in self.layers]
        parts = (slice(0, 1), slice(1, 2), slice(2, None))  # of a layer's lines
        kinds = Counter(kind for part in parts for lines in found for kind in lines[part])
        count = len(self.layers)
        return [
            f"{kind} in {'all layers' if number == count else f'{number} of {count} layers'}"
            for kind, number in kinds.items()
        ]


def query_scale(text: Any, layer: nn.Module) -> QueryScale | None:
    """Return the scale that a layer gives its queries by position, from its config.

    Args:
        text: the config of the text model.
        layer: the attention module.
    """
    return next((found for find in _SCALES if (found := find(text, layer)) is not None), None)


def _llama4(text: Any, layer: nn.Module) -> QueryScale | None:
    """Llama 4 scales the queries of its layers without RoPE (arXiv 2501.19399)."""
    if not getattr(text, "attn_temperature_tuning", None) or getattr(layer, "use_rope", True):
        return None
    return QueryScale(
        gain=float(text.attn_scale), step=float(text.floor_scale), shift=1, by_row=True
    )


def _ministral3(text: Any, layer: nn.Module) -> QueryScale | None:
    """Ministral 3 and its kin scale the queries of all layers, past the trained length."""
    rope = getattr(text, "rope_parameters", None) or {}
    gain = rope.get("llama_4_scaling_beta")
    if gain is None:
        return None
    return QueryScale(gain=float(gain), step=float(rope["original_max_position_embeddings"]))


_SCALES = (_llama4, _ministral3)
