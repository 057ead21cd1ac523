"""Rope: further rotations of queries and keys by the model's own tables and helper.

A model rotates a query to its block-local position p. Rotations add up, so turning it by a
further ``offset`` makes it the query at position p + offset (Hogwild! Inference, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rope:
    """The rotary embedding of one model.

    Attributes:
        table: the model's rotary module, ``table(x, position_ids) -> (cos, sin)``.
        rotate: the helper of its modeling file, ``rotate(q, k, cos, sin) -> (q, k)``.
    """

    table: nn.Module
    rotate: Callable[..., Any]

    def angles(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tables that turn row i by ``offsets[i]`` positions more (or fewer).

        YaRN and its kin scale cos and sin. The model has applied that factor already, so it is
        divided out here: a further rotation must not change lengths.

        Args:
            offsets: [rows], int64.

        Returns:
            cos and sin, each [1, rows, rotary_dim], float32.
        """
        like = torch.empty(0, dtype=torch.float32, device=offsets.device)
        cos, sin = self.table(like, offsets[None])
        scale = float(getattr(self.table, "attention_scaling", 1.0))
        return (cos, sin) if scale == 1.0 else (cos / scale, sin / scale)

    def turn(self, rows: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate rows by the given angles, computed in float32 and rounded once.

        Args:
            rows: [heads, rows, head_dim].
            angles: from :meth:`angles`, one per row.

        Returns:
            [heads, rows, head_dim] in the dtype of ``rows``.
        """
        cos, sin = (table.to(rows.device) for table in angles)
        states = rows[None].float()
        turned, _ = self.rotate(states, states[:, :1], cos, sin)
        return torch.as_tensor(turned[0]).to(rows.dtype)
