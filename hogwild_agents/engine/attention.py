"""Attention: one softmax over all the blocks of every view, each stretch of cache read once.

Registered with transformers as the attention implementation ``"hogwild"``. A model that uses it
is called with ``plan=...``; the keyword travels through the model's layers to this function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.compiled_layers import uncompiled
from hogwild_agents.engine.plan import Plan
from hogwild_agents.engine.reach import MaskRule
from hogwild_agents.engine.schedule import Schedule
from hogwild_agents.errors import LentModelError

if TYPE_CHECKING:
    from hogwild_agents.engine.cpu_tick import CpuTick
    from hogwild_agents.engine.gpu_tick import GpuTick

NAME = "hogwild"
"""The name under which transformers finds this attention."""
SURVEY = "hogwild-survey"
"""The name of the one that also hands over the rules of the model's masks."""


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


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


class AloneAttention:
    """Lets every token attend to itself alone: for forwards whose logits nobody reads."""

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
        own = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return own.transpose(1, 2).clone(memory_format=torch.contiguous_format)


class Carried:
    """A plan in a wrapping that is the same for all: compiled layers are built for one type."""

    def __init__(self, plan: AttentionPlan) -> None:
        self.attend = plan.attend


def register() -> None:
    """Make the attention known to transformers; doing it again changes nothing.

    For an attention without masks of its own transformers makes none. With one it would look
    first whether the positions are those of several texts, and wait for the answer.
    """
    AttentionInterface.register(NAME, _attention)
    AttentionInterface.register(SURVEY, _surveyed_attention)
    AttentionMaskInterface.register(SURVEY, _mask_rule)


class TickAttention:
    """Runs the attention of one tick, layer by layer, as its plan says."""

    def __init__(self, plan: Plan, adapter: Adapter) -> None:
        self._plan = plan
        self._adapter = adapter
        self._placed = {plan.position_ids.device: plan}  # moved once for each device, not layer
        self._ticks: dict[torch.device, GpuTick | CpuTick] = {}  # likewise

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
        plan = self._plan_on(query.device)
        index = int(layer.layer_idx)  # type: ignore[arg-type]
        how = self._adapter.layers[index]
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        queries, keys, values = query[0], key[0], value[0]  # [heads or kv_heads, T, dim]
        sinks = sinks_of(options)  # as they are now: the model may have been given others
        sinks = how.sinks if sinks is None else sinks
        if how.scale is not None:
            queries = _scaled(queries, plan.corrections[how.scale])
        if plan.schedule is not None and index in plan.schedule.kinds:
            tick = self._tick_on(query.device, plan.schedule)
            return tick.attend(index, queries, keys, values, factor, sinks)[None]
        reading, dtype = plan.readings[how.reach], how.shape.dtype
        queries, keys, values = queries.to(dtype), keys.to(dtype), values.to(dtype)
        for write in plan.writes:
            write.store(index, keys, values)
        rows = queries.index_select(1, reading.query_rows)  # [heads, R, key_dim]
        if how.rope is not None:
            rows = how.rope.turn(rows, plan.angles[how.reach, how.rope])
        rows = fold(rows, len(keys))
        group = len(queries) // len(keys)
        partials = []
        for stretch in reading.stretches:
            first, count = stretch.first_row * group, stretch.rows * group
            partials.append(
                full_attention(
                    rows.narrow(1, first, count),
                    stretch.slab.keys[index].narrow(1, stretch.start, stretch.size),
                    stretch.slab.values[index].narrow(1, stretch.start, stretch.size),
                    factor,
                    mask=stretch.folded_mask(group),
                    softcap=how.softcap,
                )
            )
        for part in reading.own_parts:
            span = slice(part.first, part.last)
            partials.append(
                causal_attention(
                    queries[:, span],
                    keys[:, span],
                    values[:, span],
                    factor,
                    mask=part.mask,
                    softcap=how.softcap,
                )
            )
        sinks = None if sinks is None else sinks.view(len(keys), group)
        if reading.regular:
            merged = merge_regular(partials, len(reading.merge), group, sinks)
        else:
            merged = merge(partials, reading.merge, group, sinks)
        return merged.to(query.dtype).contiguous()[None]

    def settle(self) -> None:
        """Lay out everything now that a layer would lay out when it comes to it.

        Whatever is computed afterwards finds the tick in the same places, for :meth:`refill`.
        """
        plan = self._plan
        if plan.schedule is not None:
            self._tick_on(plan.position_ids.device, plan.schedule)

    def begin(self) -> None:
        """Compute what all layers need of the tick, after :meth:`settle`; it can be recorded."""
        for tick in self._ticks.values():
            tick.compute_angles()

    def refill(self, plan: Plan) -> None:
        """Take over another tick in place, of a schedule that fits, after :meth:`settle`.

        What is computed of it after that begins with :meth:`begin`.
        """
        assert plan.schedule is not None
        (tick,) = self._ticks.values()
        if not tick.refill(plan.schedule):
            raise RuntimeError("a tick was to be replayed that is laid out otherwise")
        self._plan.refill(plan)

    def _plan_on(self, device: torch.device) -> Plan:
        if device not in self._placed:
            self._placed[device] = self._plan.on(device)
        return self._placed[device]

    def _tick_on(self, device: torch.device, schedule: Schedule) -> GpuTick | CpuTick:
        if device not in self._ticks:
            home = self._plan.position_ids.device
            self._ticks[device] = _tick(schedule, self._adapter, device, home)
        return self._ticks[device]


def _tick(
    schedule: Schedule, adapter: Adapter, device: torch.device, home: torch.device
) -> GpuTick | CpuTick:
    if any(tile.tuning.kernel == "cpu" for _, tile in schedule.layouts) and device.type == "cpu":
        from hogwild_agents.engine.cpu_tick import CpuTick  # imports numba

        return CpuTick(schedule, adapter, home)
    from hogwild_agents.engine.gpu_tick import GpuTick  # imports triton

    return GpuTick(schedule, adapter, device, home)


def sinks_of(options: dict[str, Any]) -> Tensor | None:
    """Return the sinks [heads] among what a model passes to its attention, if there are any."""
    given = options.get("s_aux", options.get("sinks"))
    return None if given is None else given.reshape(-1)


def _scaled(queries: Tensor, factors: Tensor) -> Tensor:
    """Scale queries [heads, T, key_dim] token by token, rounded once."""
    return (queries.float() * factors[None, :, None]).to(queries.dtype)


Partial = tuple[Tensor, Tensor]
"""Output [kv_heads, rows * group, value_dim] of one softmax, and its log-sum-exp [kv_heads,
rows * group] in float32. The heads that share keys are neighbours: row 0 of all heads of the
group, row 1 of all heads of the group, ..."""


def fold(states: Tensor, kv_heads: int) -> Tensor:
    """Put the heads that share keys side by side, so that one query reads the keys for all.

    Args:
        states: [heads, rows, dim].
        kv_heads: how many heads have keys of their own.

    Returns:
        [kv_heads, rows * group, dim], where a stretch of rows is a stretch of memory.
    """
    heads, rows, dim = states.shape
    groups = states.view(kv_heads, heads // kv_heads, rows, dim)
    return groups.transpose(1, 2).reshape(kv_heads, -1, dim)


def full_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    *,
    mask: Tensor | None = None,
    softcap: float | None = None,
) -> Partial:
    """Attend to all of the given keys.

    Args:
        queries: [kv_heads, rows * group, key_dim], folded.
        keys: [kv_heads, n, key_dim].
        values: [kv_heads, n, value_dim].
        scale: factor of the scores.
        mask: [rows * group, n] float32, added to the scores; every row sees something.
        softcap: bends the scores to stay within plus and minus this.
    """
    if softcap is None and _has_flash(queries, values):
        return _flash_attention(queries, keys, values, scale, mask=mask)
    scores = torch.matmul(queries, keys.transpose(1, 2)).float() * scale
    return _softmax(_bent(scores, softcap), values, mask)


def causal_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    *,
    mask: Tensor | None = None,
    softcap: float | None = None,
) -> Partial:
    """Attend to the keys of the same tokens, each to itself and those before it.

    Args:
        queries: [heads, n, key_dim].
        keys: [kv_heads, n, key_dim].
        values: [kv_heads, n, value_dim].
        scale: factor of the scores.
        mask: [n, n] float32, added to the scores, where not all before are seen.
        softcap: bends the scores to stay within plus and minus this.
    """
    kv_heads, count, _ = keys.shape
    group = len(queries) // kv_heads
    keys, values = (states.repeat_interleave(group, 0) for states in (keys, values))
    if softcap is None and _has_flash(queries, values):
        out, lse = _flash_attention(queries, keys, values, scale, mask=mask, causal=mask is None)
    else:
        if mask is None:
            later = torch.ones(count, count, dtype=torch.bool, device=queries.device).triu(1)
            mask = torch.zeros(
                count, count, dtype=torch.float32, device=queries.device
            ).masked_fill(later, -torch.inf)
        scores = torch.matmul(queries, keys.transpose(1, 2)).float() * scale
        out, lse = _softmax(_bent(scores, softcap), values, mask)
    return fold(out, kv_heads), fold(lse[..., None], kv_heads)[..., 0]


def merge(
    partials: list[Partial], table: Tensor, group: int, sinks: Tensor | None = None
) -> Tensor:
    """Join partial results into those of one softmax over everything a token sees.

    Args:
        partials: of all stretches, in the order in which ``table`` counts their rows.
        table: [T, S] row numbers of each token; the number after the last row means none.
        group: how many heads share keys.
        sinks: [kv_heads, group] logits that take their share of the softmax and give nothing.

    Returns:
        [T, heads, value_dim], float32.
    """
    outs = torch.cat([out for out, _ in partials], 1).float()
    lses = torch.cat([lse for _, lse in partials], 1)
    outs = outs.view(len(outs), -1, group, outs.shape[-1])  # [kv_heads, rows, group, value_dim]
    lses = lses.view(len(lses), -1, group)  # [kv_heads, rows, group]
    outs = nn.functional.pad(outs, (0, 0, 0, 0, 0, 1))
    lses = nn.functional.pad(lses, (0, 0, 0, 1), value=float("-inf"))
    chosen = lses[:, table]  # [kv_heads, T, S, group]
    if sinks is not None:
        column = sinks.float()[:, None, None].expand(-1, len(table), -1, -1)
        chosen = torch.cat([chosen, column], 2)
    weights = chosen.softmax(2)[:, :, : table.shape[1]]
    merged = torch.einsum("ktsg,ktsgd->tkgd", weights, outs[:, table])
    return merged.flatten(1, 2)


def merge_regular(
    partials: list[Partial], tokens: int, group: int, sinks: Tensor | None = None
) -> Tensor:
    """Do what :func:`merge` does where the partials' rows are those of all tokens, S times over."""
    kv_heads, _, dim = partials[0][0].shape
    outs = torch.cat([out for out, _ in partials], 1).view(kv_heads, -1, tokens * group, dim)
    lses = torch.cat([lse for _, lse in partials], 1).view(kv_heads, -1, tokens * group)
    if sinks is not None:
        lses = torch.cat([lses, sinks.float().repeat(1, tokens)[:, None]], 1)
    weights = lses.softmax(1)[:, : outs.shape[1], :, None]
    merged = (outs * weights).sum(1).view(kv_heads, tokens, group, dim)  # float32 by the weights
    return merged.transpose(0, 1).flatten(1, 2)


def _flash_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    *,
    mask: Tensor | None,
    causal: bool = False,
) -> Partial:
    added = None if mask is None else mask.to(queries.dtype)
    out, lse = _flash(
        queries[None], keys[None], values[None], 0.0, causal, attn_mask=added, scale=scale
    )
    return out[0], lse[0]


def _softmax(scores: Tensor, values: Tensor, mask: Tensor | None) -> Partial:
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1, keepdim=True)
    return torch.matmul((scores - lse).exp().to(values.dtype), values), lse[..., 0]


def _bent(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _has_flash(queries: Tensor, values: Tensor) -> bool:
    # The CPU kernel returns the log-sum-exp; it wants keys and values of one size.
    return queries.is_cpu and queries.shape[-1] == values.shape[-1]


@uncompiled
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
            "This model, or one with the same config object, is lent to an Engine and cannot be "
            "called directly: call engine.forward(), or engine.close() to get the model back."
        )
    return plan.attend(module, query, key, value, scaling, options), None


def _surveyed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    **options: Any,
) -> tuple[Tensor, None]:
    return _attention(module, query, key, value, None, rule=attention_mask, **options)


def _mask_rule(*args: Any, mask_function: Callable[..., Any], **kwargs: Any) -> MaskRule:
    """Return what the model would make a mask of."""
    return MaskRule(mask_function)
