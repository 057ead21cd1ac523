"""Rope: further rotations of queries and keys by the model's own tables.

A model rotates a query to its block-local position p. Rotations add up, so turning it by a
further ``offset`` makes it the query at position p + offset (Hogwild! Inference, section 3).
Which dimensions of a head turn, and which two of them together, differs between models; the
engine finds it out (:mod:`hogwild_agents.engine.survey`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Pairing = Literal["halves", "neighbours"]
"""Which two dimensions turn together: i and i + n/2 (as in Llama), or 2i and 2i + 1 (as in GLM)."""

Angles = tuple[Tensor, Tensor]
"""Cosines and sines, each [rows, rotary_dim / 2], float32."""


def to_device(angles: Angles, device: torch.device) -> Angles:
    """Return angles on a device; themselves if they are there."""
    cos, sin = angles
    return cos.to(device), sin.to(device)


@dataclass(frozen=True, eq=False)
class Table:
    """A rotary table: the model's own module, with what it is called with besides positions.

    Attributes:
        module: ``module(x, position_ids, ...) -> (cos, sin)``, or complex numbers.
        copies: the leading dimensions that its positions have, such as (3, 1) for M-RoPE, whose
            three sections are equal where there is only text.
        options: further keyword arguments, such as the kind of layer.
        form: how it gives the numbers of a pair: both halves of a row alike, neighbours alike,
            or each pair once.
        dimensions: how many dimensions of a head turn by it.
        scale: the factor that it has on all numbers (YaRN and its kin).
    """

    module: nn.Module
    copies: tuple[int, ...]
    options: Mapping[str, Any]
    form: Literal["halves", "neighbours", "once"]
    dimensions: int
    scale: float

    @classmethod
    def of(
        cls, module: nn.Module, copies: tuple[int, ...], options: Mapping[str, Any], device: Any
    ) -> Table:
        """Read a module's table at a few positions."""
        positions = torch.arange(4, device=device)
        cos, sin = _numbers(module, positions, copies, options)
        pairs = cos.shape[-1] // 2
        form: Literal["halves", "neighbours", "once"] = "once"
        if torch.equal(sin[:, :pairs], sin[:, pairs:]):
            form = "halves"
        elif torch.equal(sin[:, 0::2], sin[:, 1::2]):
            form = "neighbours"
        dimensions = (2 if form == "once" else 1) * cos.shape[-1]
        return cls(module, copies, options, form, dimensions, float(cos[0, 0]))

    def angles(self, offsets: Tensor) -> Angles:
        """Return cosines and sines of the angles by which so many positions turn.

        The scale is divided out: the model has applied it already, and a further rotation must
        not change lengths.

        Args:
            offsets: [rows], int64; negative ones turn back.
        """
        if not len(offsets):  # transformers' modules do not take empty positions
            nothing = torch.empty(0, self.dimensions // 2, device=offsets.device)
            return nothing, nothing
        found = _numbers(self.module, offsets, self.copies, self.options)
        pairs = found[0].shape[-1] // 2
        once = {
            "halves": slice(0, pairs),
            "neighbours": slice(0, None, 2),
            "once": slice(None),
        }[self.form]
        cos, sin = (states[:, once] for states in found)
        return (cos, sin) if self.scale == 1.0 else (cos / self.scale, sin / self.scale)


@dataclass(frozen=True)
class Rope:
    """The rotary embedding of a layer.

    Attributes:
        table: where the angles come from.
        pairing: which two dimensions turn together.
        start: the first dimension of a head that turns; as many turn as the table has angles for.
        backwards: it turns the other way (NanoChat).
    """

    table: Table
    pairing: Pairing = "halves"
    start: int = 0
    backwards: bool = False

    def angles(self, offsets: Tensor, device: torch.device) -> Angles:
        """Return the angles by which so many positions turn, signs and all, in memory of their own.

        Args:
            offsets: [rows], int64, where the table takes them.
            device: where the angles are wanted.
        """
        cos, sin = to_device(self.table.angles(offsets), device)
        own = torch.contiguous_format
        return cos.clone(memory_format=own), (-sin if self.backwards else sin).clone(
            memory_format=own
        )

    def turn(self, rows: Tensor, angles: Angles) -> Tensor:
        """Rotate rows by the given angles, computed in float32 and rounded once.

        Args:
            rows: [heads, rows, head_dim].
            angles: one per row, or one for all.

        Returns:
            [heads, rows, head_dim] in the dtype of ``rows``.
        """
        cos, sin = to_device(angles, rows.device)
        sin = -sin if self.backwards else sin
        pairs = cos.shape[-1]
        turning = rows[..., self.start : self.start + 2 * pairs].float()
        joined = torch.empty_like(turning)
        (first, second), (low, high) = self._parted(turning), self._parted(joined)
        torch.mul(first, cos, out=low).addcmul_(second, sin, value=-1)
        torch.mul(second, cos, out=high).addcmul_(first, sin)
        if joined.shape[-1] == rows.shape[-1]:
            return joined.to(rows.dtype)
        whole = rows.clone()
        whole[..., self.start : self.start + 2 * pairs] = joined.to(rows.dtype)
        return whole

    def _parted(self, turning: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of the first and of the second dimension of each pair."""
        if self.pairing == "halves":
            pairs = turning.shape[-1] // 2
            return turning[..., :pairs], turning[..., pairs:]
        return turning[..., 0::2], turning[..., 1::2]


def _numbers(
    module: nn.Module, positions: Tensor, copies: tuple[int, ...], options: Mapping[str, Any]
) -> Angles:
    """Return the cosines and sines that a module gives for positions, each [rows, width]."""
    like = torch.empty(0, dtype=torch.float32, device=positions.device)
    found = module(like, positions.expand(*copies, -1), **options)
    parts = (found.real, found.imag) if isinstance(found, Tensor) else found
    cos, sin = (states.reshape(-1, *states.shape[-2:])[0].float() for states in parts)
    return cos, sin
