"""Reach: how far back a layer's queries see, counted in view positions.

transformers states it as a function of two positions, and that function is what is read here, so
a layer kind needs no name: whether it slides, is cut into chunks, or sees everything follows from
which keys the function allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hogwild_agents.engine.columns import Ints


@dataclass(frozen=True)
class Reach:
    """What a query sees of its view: its own position and a stretch before it, without gaps.

    Attributes:
        kind: ``"full"``, all before it; ``"sliding"``, the last ``size`` positions, its own
            included; ``"chunked"``, its own chunk, where the view is cut every ``size`` positions.
        size: in tokens; 0 for ``"full"``.
    """

    kind: Literal["full", "sliding", "chunked"] = "full"
    size: int = 0

    def lowest(self, position: int) -> int:
        """Return the first view position that a query at ``position`` sees."""
        if self.kind == "sliding":
            return max(0, position - self.size + 1)
        if self.kind == "chunked":
            return position // self.size * self.size
        return 0

    def lowests(self, positions: Ints) -> Ints:
        """Return :meth:`lowest` of each position."""
        if self.kind == "sliding":
            return np.maximum(0, positions - self.size + 1)
        if self.kind == "chunked":
            return positions // self.size * self.size
        return np.zeros_like(positions)

    def __str__(self) -> str:
        return {
            "full": "full attention",
            "sliding": f"a sliding window of {self.size} tokens",
            "chunked": f"chunks of {self.size} tokens",
        }[self.kind]


FULL = Reach()


@dataclass(frozen=True, eq=False)
class MaskRule:
    """What transformers hands to a mask function instead of a mask.

    Attributes:
        allowed: ``allowed(batch, head, query, key) -> bool tensor``, over view positions.
    """

    allowed: Callable[..., Any]

    def reach(self, length: int, device: torch.device) -> Reach | None:
        """Return the reach that allows the same keys in views of up to ``length`` tokens.

        None if there is no such reach: the layer sees later tokens, or leaves gaps.

        Args:
            length: of the longest view.
            device: where the function is to be called.
        """

        def row(query: int) -> Tensor:  # which keys are seen; the last one is later than the query
            zero, at = torch.tensor(0, device=device), torch.tensor(query, device=device)
            keys = torch.arange(query + 2, device=device)
            return torch.as_tensor(self.allowed(zero, zero, at, keys)).expand(query + 2).bool()

        size = _first_blind(row, length)
        found = FULL
        if size is not None:
            found = Reach("sliding" if bool(row(size)[1]) else "chunked", size)
        fits = all(_equals(found, query, row(query)) for query in _queries(size, length))
        return found if fits else None


def _first_blind(row: Callable[[int], Tensor], length: int) -> int | None:
    """Return the first query position that does not see position 0; no later one does."""
    if bool(row(length - 1)[0]):
        return None
    low, high = 0, length - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bool(row(middle)[0]) else (low, middle)
    return high


def _equals(reach: Reach, query: int, row: Tensor) -> bool:
    keys = torch.arange(len(row), device=row.device)
    return bool(torch.equal(row, (keys >= reach.lowest(query)) & (keys <= query)))


def _queries(size: int | None, length: int) -> list[int]:
    """Return query positions that tell the reaches of one size apart, and from all others."""
    edges = [0, 1, 2, length // 2, length - 1]
    if size is not None:
        edges += [size * times + shift for times in (1, 2, 3) for shift in (-1, 0, 1)]
    return sorted({query for query in edges if 0 <= query < length})
