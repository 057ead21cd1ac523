"""Shards: how transformers splits a model over the processes of torchrun, or why it cannot.

transformers brings a plan for most families: which projections are split by their outputs (and so
by heads), which by their inputs. Where it has none for the layers, nothing would be split, and the
model is refused; for gpt-oss the plan is given here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

from hogwild_agents.errors import ModelError, UnsupportedModelError

_GPT_OSS = {
    "model.layers.*.self_attn.q_proj": "colwise",
    "model.layers.*.self_attn.k_proj": "colwise",
    "model.layers.*.self_attn.v_proj": "colwise",
    "model.layers.*.self_attn.o_proj": "rowwise",
    "model.layers.*.self_attn.sinks": "colwise",
    "model.layers.*.self_attn": "local_params",
}
"""Its attention by heads, each with its sink; its experts are shared out by transformers' plan."""

_HEADS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "q_b_proj", "kv_b_proj")
_PLACING = ("device_map", "device_mesh", "distributed_config", "tp_plan", "tp_size")
_ELSEWHERE = "place it on several devices with device_map='auto' instead"
_OTHER_COUNT = f"start another number of them, or {_ELSEWHERE.removesuffix(' instead')}"


@dataclass(frozen=True)
class Launch:
    """What torchrun tells a process about itself.

    Attributes:
        rank: which process this is; 0 leads.
        processes: how many there are.
    """

    rank: int
    processes: int


def find_launch() -> Launch | None:
    """Return how torchrun started this process, or None if it is alone."""
    try:
        launch = Launch(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    except (KeyError, ValueError):
        return None
    return launch if launch.processes > 1 else None


def split_options(
    config: Any, name: str, options: Mapping[str, Any] | None = None, device: Any = "auto"
) -> dict[str, Any]:
    """Return options of ``from_pretrained`` that give each process its share of a model.

    Args:
        config: of the model.
        name: what the user calls it.
        options: what else ``from_pretrained`` is told.
        device: what the user asks for, ``"auto"`` for nothing.

    Raises:
        ModelError: this process is alone, something else says where the model goes, or accelerate
            is missing.
        UnsupportedModelError: the model cannot be split over so many processes.
    """
    from transformers.distributed.configuration_utils import DistributedConfig

    launch = find_launch()
    if launch is None:
        raise ModelError(
            f"{name!r} is to be split over several processes, but this one is alone: start them "
            "with `torchrun --nproc-per-node N`, one for each GPU."
        )
    elsewhere = [f"{key!r} in model_options" for key in _PLACING if key in (options or {})]
    elsewhere += [] if device == "auto" else [f"the device {str(device)!r}"]
    if elsewhere:
        raise ModelError(
            f"{name!r} is to be split over processes, but {elsewhere[0]} says where it goes: leave "
            "one of them out."
        )
    _require_accelerate(name)
    count, text = launch.processes, config.get_text_config(decoder=True)
    if text.model_type == "gpt_oss":
        _check_gpt_oss(text, count, name, {field.name for field in fields(DistributedConfig)})
        more: dict[str, Any] = {"tp_plan": dict(_GPT_OSS), "ep_size": count}
    else:
        _check_plan(text, count, name)
        more = {"tp_plan": "auto"}
    return {**(options or {}), "distributed_config": DistributedConfig(tp_size=count, **more)}


def _require_accelerate(name: str) -> None:
    if find_spec("accelerate") is None:
        raise ModelError(
            f"To split {name!r} over processes, transformers needs the package accelerate: install "
            'it with `pip install -e ".[large]"` or `pip install accelerate`.'
        )


def _check_plan(text: Any, count: int, name: str) -> None:
    plan: Mapping[str, str] = getattr(text, "base_model_tp_plan", None) or {}
    if not any(rule.startswith("layers.") for rule in plan):
        reason = "transformers has no tensor-parallel plan for its layers"
        raise _refusal(text, count, name, reason, _ELSEWHERE)
    if any(getattr(text, "activation_sparsity_pattern", None) or ()):
        reason = "its MLPs pick the largest of all their activations, which no share of them tells"
        raise _refusal(text, count, name, reason, _ELSEWHERE)
    by_heads = any(
        rule.rpartition(".")[2] in _HEADS and style == "colwise" for rule, style in plan.items()
    )
    if by_heads:
        _check_heads(text, count, name)


def _check_gpt_oss(text: Any, count: int, name: str, known: Iterable[str]) -> None:
    if "ep_size" not in known:
        from transformers import __version__ as version

        reason = f"transformers {version} cannot share out its experts"
        raise _refusal(text, count, name, reason, "upgrade transformers")
    _check_heads(text, count, name)
    if text.num_local_experts % count:
        reason = f"its {text.num_local_experts} experts cannot be shared out evenly"
        raise _refusal(text, count, name, reason)


def _check_heads(text: Any, count: int, name: str) -> None:
    for layer in getattr(text, "per_layer_config", None) or [text]:
        heads = int(layer.num_attention_heads)
        stored = int(getattr(layer, "num_key_value_heads", None) or heads)
        for number, what in ((heads, "attention heads"), (stored, "key-value heads")):
            if number % count:
                reason = f"its {number} {what} cannot be shared out evenly"
                raise _refusal(text, count, name, reason)


def _refusal(
    text: Any, count: int, name: str, reason: str, advice: str = _OTHER_COUNT
) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{name!r} (model type {text.model_type!r}) cannot be split over {count} processes, "
        f"because {reason}: {advice}."
    )
