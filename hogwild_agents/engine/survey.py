"""Survey: one forward over a single token, which finds out what every layer does.

Nothing is looked up by the name of a model. One token is written four times, alone, at four
positions, the last of them as far as the model goes. What the layers hand to the attention
function then tells all: how the query at one position becomes the one at another (which dimensions
turn, in which pairs, by which table, or not at all), which keys the layer may see, and what else
enters its softmax.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, nn

from hogwild_agents.engine.adapter import Adapter, LayerAdapter, QueryScale, query_scale
from hogwild_agents.engine.attention import AloneAttention, sinks_of
from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.reach import FULL, MaskRule, Reach
from hogwild_agents.engine.refusals import refusal
from hogwild_agents.engine.rope import Pairing, Rope, Table

_NEAR = (0, 3, 57)
_UNBOUNDED = 1 << 15  # how far is looked where a model sets no limit
_SILENT = {
    "is_causal", "position_ids", "cache_position", "output_attentions", "use_cache",
    "output_hidden_states", "output_router_logits", "return_dict", "deterministic",
}  # fmt: skip
"""Options of the attention function from which nothing follows for a decoder's softmax."""
_REASONS = {
    "indices": "its keys are chosen by an indexer (sparse attention)",
    "block_indices": "its keys are chosen by an indexer (sparse attention)",
    "position_bias": "it adds a bias by position to its scores",
}


@dataclass
class _Seen:
    """What one layer handed over: [4, heads, 1, dim] of the four positions."""

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float | None
    mask: Any
    options: dict[str, Any]


@dataclass
class _Recorder(AloneAttention):
    """The attention plan of a survey: it notes what comes."""

    model: Any
    layers: dict[int, _Seen] = field(default_factory=dict)

    def attend(
        self,
        layer: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        options: dict[str, Any],
    ) -> Tensor:
        """Note what came; see :meth:`AttentionPlan.attend`."""
        mask = options.pop("rule", None)
        index = int(layer.layer_idx)  # type: ignore[arg-type]
        if index in self.layers:
            raise refusal(self.model, f"its layer {index} attends more than once")
        self.layers[index] = _Seen(layer, query, key, value, scaling, mask, options)
        return super().attend(layer, query, key, value, scaling, options)


def survey(
    model: Any,
    length: int | None,
    device: torch.device,
    call: Callable[[Tensor, Tensor, Any], object],
) -> Adapter:
    """Find out how the layers of a model attend.

    Args:
        model: the model, its attention set to the survey's.
        length: of the longest view, in tokens.
        device: where it takes token ids.
        call: ``call(input_ids, position_ids, plan)`` runs its forward; both are [4, 1].

    Raises:
        UnsupportedModelError: a layer does what is not computed here.
    """
    recorder = _Recorder(model)
    length = length or _UNBOUNDED
    positions = torch.tensor([[min(p, length - 1)] for p in (*_NEAR, length)], device=device)
    with torch.no_grad():
        with _tables_called(model) as calls:
            call(torch.full_like(positions, 1), positions, recorder)
        tables = [_table(*made, device) for made in calls]
        reaches: dict[Any, Reach] = {}
        found = []
        for index in _all_layers(model, recorder):
            seen = recorder.layers[index]
            if seen.mask not in reaches:
                reaches[seen.mask] = _reach(model, seen, length, device)
            rope = _rope(model, seen, tables, positions[:, 0])
            found.append(_layer(model, seen, rope, reaches[seen.mask]))
    return Adapter(tuple(found))


def _all_layers(model: Any, recorder: _Recorder) -> range:
    text = model.config.get_text_config(decoder=True)
    count = int(getattr(text, "num_hidden_layers", 0) or 0)
    if not count or sorted(recorder.layers) != list(range(count)):
        raise refusal(
            model,
            f"only {len(recorder.layers)} of its {count} layers use transformers' "
            "AttentionInterface",
        )
    return range(count)


def _layer(model: Any, seen: _Seen, rope: Rope | None, reach: Reach) -> LayerAdapter:
    _check_options(model, seen)
    key, value = seen.key, seen.value
    cap = seen.options.get("softcap")
    return LayerAdapter(
        heads=seen.query.shape[1],
        shape=LayerShape(key.shape[1], key.shape[3], value.shape[3], key.dtype, key.device),
        rope=rope,
        reach=reach,
        sinks=sinks_of(seen.options),
        softcap=None if cap is None else float(cap),
        scale=query_scale(model.config.get_text_config(decoder=True), seen.module),
    )


def _check_options(model: Any, seen: _Seen) -> None:
    known = {*_SILENT, "s_aux", "sinks", "softcap", "sliding_window"}
    for name, value in seen.options.items():
        if value is not None and name not in known:
            reason = _REASONS.get(name, f"it asks its attention for {name!r}, unknown here")
            raise refusal(model, reason)


# -- who sees what


def _reach(model: Any, seen: _Seen, length: int, device: torch.device) -> Reach:
    if isinstance(seen.mask, MaskRule):
        found = seen.mask.reach(length, device)
        if found is not None:
            return found
        raise refusal(model, "a layer sees other keys than the last ones before its query")
    if seen.mask is not None or seen.options.get("sliding_window") is not None:
        raise refusal(model, "it builds its attention masks by itself")
    return FULL


# -- what turns


Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


@contextmanager
def _tables_called(model: nn.Module) -> Iterator[list[Call]]:
    """Note the calls of the model's rotary modules."""
    calls: list[Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        calls.append((module, args, options))

    hooks = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for module in model.modules()
        if "Rotary" in type(module).__name__ or "Rope" in type(module).__name__
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _table(
    module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], device: torch.device
) -> Table:
    given = inspect.signature(module.forward).bind(*args, **options).arguments
    _, positions, *rest = given.items()  # the first says only which dtype and device to give
    copies = (*positions[1].shape[:-2], 1)  # the last but one is the batch
    return Table.of(module, copies, dict(rest), device)


def _rope(model: Any, seen: _Seen, tables: list[Table], positions: Tensor) -> Rope | None:
    """Return the rotation that explains best what the layer did, and explains it well."""
    scale = query_scale(model.config.get_text_config(decoder=True), seen.module)
    states = torch.cat([_unscaled(seen.query, positions, scale), seen.key.float()], 1)[:, :, 0]
    candidates = _candidates(_own(tables, seen.module), states.shape[-1])
    errors = [_turn_error(candidate, states, positions) for candidate in candidates]
    best = min(range(len(errors)), key=errors.__getitem__)
    half = seen.key.dtype in (torch.float16, torch.bfloat16)
    if errors[best] <= (0.01 if half else 1e-3):
        return candidates[best]
    why = "follow the position in a way that is no rotation known here"
    if hasattr(seen.module, "query_layernorm"):  # then scores depend on absolute positions
        why = "are scaled by a norm's weights after the rotation, dimension by dimension"
    raise refusal(model, f"its queries and keys {why} (the nearest misses by {errors[best]:.1e})")


def _candidates(tables: list[Table], size: int) -> list[Rope | None]:
    """Return all rotations of heads of a size that are known, and none."""
    found: list[Rope | None] = [None]
    for table in tables:
        starts = sorted({0, size - table.dimensions})
        if starts[0] < 0:
            continue
        for pairing in get_args(Pairing):
            found += [Rope(table, pairing, start) for start in starts]
            found += [Rope(table, pairing, start, backwards=True) for start in starts]
    return found


def _own(tables: list[Table], layer: nn.Module) -> list[Table]:
    """Return the tables that belong to a layer: its own if it has some, or those of the model."""
    parts = set(map(id, layer.modules()))
    return [table for table in tables if id(table.module) in parts] or tables


def _unscaled(query: Tensor, positions: Tensor, scale: QueryScale | None) -> Tensor:
    if scale is None or scale.by_row:  # every row here is the first one of its text
        return query.float()
    return query.float() / scale.factors(positions)[:, None, None, None]


def _turn_error(rope: Rope | None, states: Tensor, positions: Tensor) -> float:
    """Return by how much a rotation misses, from the first position to the others.

    Args:
        rope: a rotation, or None for none.
        states: [4, heads, dim] float32, of the same token.
        positions: [4].
    """
    start = states[:1].transpose(0, 1).expand(-1, len(states) - 1, -1)
    turned = start if rope is None else rope.turn(start, rope.table.angles(positions[1:]))
    expected = states[1:].transpose(0, 1)
    return float((turned - expected).norm() / expected.norm().clamp_min(1e-12))
