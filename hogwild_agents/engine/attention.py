"""Attention: one softmax over all the blocks of every view, each stretch of cache read once.

Registered with transformers as the attention implementation ``"hogwild"``. A model that uses it
is called with ``plan=...``; the keyword travels through the model's layers to this function.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from hogwild_agents.engine.plan import Plan
from hogwild_agents.errors import LentModelError

NAME = "hogwild"
"""The name under which transformers finds this attention."""


class AttentionPlan(Protocol):
    """What a forward with this attention is given: it answers for every layer."""

    def attend(
        self,
        layer: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        options: dict[str, Any],
    ) -> Tensor:
        """Store keys and values, and return the attention output [1, T, heads, value_dim].

        Args:
            layer: the attention module; its ``layer_idx`` tells which layer it is.
            query: [1, heads, T, key_dim], rotated to block-local positions.
            key: [1, kv_heads, T, key_dim], likewise.
            value: [1, kv_heads, T, value_dim].
            scaling: factor of the scores; ``None`` for 1/sqrt(key_dim).
            options: what else the model passes (windows, sinks, soft-capping, ...).
        """
        ...


def register() -> None:
    """Make the attention known to transformers; doing it again changes nothing."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


class TickAttention:
    """Runs the attention of one tick, layer by layer, as its plan says."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def attend(
        self,
        layer: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        options: dict[str, Any],
    ) -> Tensor:
        """See :meth:`AttentionPlan.attend`."""
        plan = self._plan
        index = int(layer.layer_idx)  # type: ignore[arg-type]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        queries, keys, values = query[0], key[0], value[0]  # [heads or kv_heads, T, dim]
        self._write(index, keys, values)
        device = queries.device
        rows = queries.index_select(1, plan.query_rows.to(device))  # [heads, R, key_dim]
        rows = plan.rope.turn(rows, plan.angles) if rows.shape[1] else rows
        partials = [
            grouped_attention(
                rows[:, stretch.first_row : stretch.last_row],
                stretch.slab.keys[index][:, stretch.start : stretch.stop],
                stretch.slab.values[index][:, stretch.start : stretch.stop],
                scale,
            )
            for stretch in plan.stretches
        ]
        partials += [
            causal_attention(
                queries[:, part.first : part.last],
                keys[:, part.first : part.last],
                values[:, part.first : part.last],
                scale,
            )
            for part in plan.own_parts
        ]
        return merge(partials, plan.merge.to(device)).to(query.dtype)[None]

    def _write(self, index: int, keys: Tensor, values: Tensor) -> None:
        for write in self._plan.writes:
            slots, tokens = write.slots.to(keys.device), write.tokens.to(keys.device)
            write.slab.keys[index].index_copy_(1, slots, keys.index_select(1, tokens))
            write.slab.values[index].index_copy_(1, slots, values.index_select(1, tokens))


Partial = tuple[Tensor, Tensor]
"""Output [heads, rows, value_dim] of one softmax, and its log-sum-exp [heads, rows] in float32."""


def grouped_attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Partial:
    """Attend to all of the given keys; the heads of a group are folded into rows of one query.

    Args:
        queries: [heads, rows, key_dim].
        keys: [kv_heads, n, key_dim].
        values: [kv_heads, n, value_dim].
        scale: factor of the scores.
    """
    heads, rows, dim = queries.shape
    folded = queries.reshape(keys.shape[0], -1, dim)  # [kv_heads, group * rows, key_dim]
    if _has_flash(queries, values):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            folded[None], keys[None], values[None], 0.0, False, scale=scale
        )
        return out.reshape(heads, rows, -1), lse.reshape(heads, rows)
    scores = torch.matmul(folded, keys.transpose(1, 2)).float() * scale
    return _softmax(scores, values, heads)


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Partial:
    """Attend to the keys of the same tokens, each to itself and those before it.

    Args:
        queries: [heads, n, key_dim].
        keys: [kv_heads, n, key_dim].
        values: [kv_heads, n, value_dim].
        scale: factor of the scores.
    """
    heads, count, _ = queries.shape
    group = heads // keys.shape[0]
    keys, values = (states.repeat_interleave(group, 0) for states in (keys, values))
    if _has_flash(queries, values):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries[None], keys[None], values[None], 0.0, True, scale=scale
        )
        return out[0], lse[0]
    scores = torch.matmul(queries, keys.transpose(1, 2)).float() * scale
    later = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu(1)
    return _softmax(scores.masked_fill(later, float("-inf")), values, heads)


def merge(partials: list[Partial], table: Tensor) -> Tensor:
    """Join partial results into those of one softmax over everything a token sees.

    Args:
        partials: of all stretches, in the order in which ``table`` counts their rows.
        table: [T, S] row numbers of each token; the number after the last row means none.

    Returns:
        [T, heads, value_dim], float32.
    """
    outs = torch.cat([out for out, _ in partials], 1).float()  # [heads, rows, value_dim]
    lses = torch.cat([lse for _, lse in partials], 1)  # [heads, rows]
    outs = nn.functional.pad(outs, (0, 0, 0, 1))
    lses = nn.functional.pad(lses, (0, 1), value=float("-inf"))
    weights = lses[:, table].softmax(-1)  # [heads, T, S]
    return torch.einsum("hts,htsd->thd", weights, outs[:, table])


def _softmax(scores: Tensor, values: Tensor, heads: int) -> Partial:
    lse = scores.logsumexp(-1, keepdim=True)
    out = torch.matmul((scores - lse).exp().to(values.dtype), values)
    return out.reshape(heads, -1, values.shape[-1]), lse.reshape(heads, -1)


def _has_flash(queries: Tensor, values: Tensor) -> bool:
    # The CPU kernel returns the log-sum-exp; it wants keys and values of one size.
    return queries.device.type == "cpu" and queries.shape[-1] == values.shape[-1]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    plan: AttentionPlan | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    if plan is None:
        raise LentModelError(
            "This model is lent to an Engine and cannot be called directly: "
            "call engine.forward(), or engine.close() to get the model back."
        )
    return plan.attend(module, query, key, value, scaling, options), None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Return no mask: who sees whom is in the plan."""
