"""Adapter: what the engine must know of a model, and which models it refuses by name.

A model is refused from its config where that tells (before any weights are read), from what its
layers pass to the attention function, and finally by a probe: one worker, its text spread over
several blocks, must give the logits of the model's plain forward.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.rope import Rope
from hogwild_agents.errors import UnsupportedModelError

_KNOWN = ("full_attention", "attention")
_STATEFUL = ("linear_attention", "mamba", "mamba2", "recurrent", "conv", "hybrid")
_WINDOWED = ("sliding_attention", "chunked_attention")


def unsupported_reason(config: Any) -> str | None:
    """Return why models of this config cannot be run exactly, or None if nothing speaks against.

    Args:
        config: a transformers config (``PreTrainedConfig``).
    """
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    if "text_config" in getattr(config, "sub_configs", {}):
        return "it is a multimodal checkpoint, whose language part cannot be loaded alone yet"
    layer_types = set(getattr(config, "layer_types", None) or ())
    if layer_types.intersection(_STATEFUL) or hasattr(config, "state_size"):
        return "it has recurrent or linear-attention layers, which have no keys to share"
    if getattr(config, "kv_lora_rank", None) is not None:
        return "it has multi-head latent attention (MLA)"
    if not isinstance(getattr(config, "rope_parameters", None), Mapping):
        return "it has no rotary position embedding (RoPE)"
    return _rope_reason(config) or _window_reason(config, layer_types)


def _rope_reason(config: Any) -> str | None:
    rope: Mapping[str, Any] = config.rope_parameters
    if getattr(config, "alibi", False):
        return "it has ALiBi positions instead of a rotary embedding (RoPE)"
    if any(isinstance(value, Mapping) for value in rope.values()):
        return "it has a rotary table of its own for each layer type"
    if rope.get("rope_type") in ("dynamic", "longrope"):
        return f"its {rope['rope_type']} rotary table depends on the length of the text"
    if rope.get("mrope_section") is not None:
        return "it has a multimodal rotary embedding (M-RoPE)"
    no_rope = getattr(config, "no_rope_layers", None)
    if no_rope and not all(no_rope):
        return "some of its layers have no rotary embedding (NoPE)"
    if rope.get("llama_4_scaling_beta") is not None or getattr(
        config, "attn_temperature_tuning", None
    ):
        return "its queries are scaled by their absolute position (temperature tuning)"
    return None


def _window_reason(config: Any, layer_types: set[str]) -> str | None:
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "it caps its attention scores (soft-capping)"
    window = getattr(config, "sliding_window", None)
    used = getattr(config, "use_sliding_window", True) and not layer_types
    if layer_types.intersection(_WINDOWED) or (window is not None and used):
        size = window or getattr(config, "attention_chunk_size", None)
        advice = " (if its texts stay shorter, load it with sliding_window=None)"
        return (
            f"it attends within a sliding window or chunk of {size} tokens"
            f"{'' if layer_types else advice}"
        )
    unknown = sorted(layer_types.difference(_KNOWN))
    return f"it has layers of a kind that is not known here, {unknown[0]!r}" if unknown else None


def find_rope(model: nn.Module) -> Rope:
    """Return the model's own rotary table and helper.

    Raises:
        UnsupportedModelError: it has none, or rotates outside of the helper.
    """
    tables = [part for name, part in model.named_modules() if name.split(".")[-1] == "rotary_emb"]
    layer = next((part for part in model.modules() if _is_attention(part)), None)
    helper = getattr(sys.modules[type(layer).__module__], "apply_rotary_pos_emb", None)
    if layer is None or len(tables) != 1 or helper is None:
        raise refusal(model, "its rotary embedding is not one table with apply_rotary_pos_emb")
    rope = Rope(tables[0], helper)
    size = getattr(layer, "head_dim", None)
    if isinstance(size, int) and not _turns_whole_heads(rope, size, model):
        raise refusal(model, "it rotates a part of each head only, outside of its helper")
    return rope


def _is_attention(part: nn.Module) -> bool:
    named = type(part).__name__.endswith("Attention")
    return named and isinstance(getattr(part, "layer_idx", None), int)


def _turns_whole_heads(rope: Rope, size: int, model: nn.Module) -> bool:
    device = next(model.parameters()).device
    try:
        angles = rope.angles(torch.zeros(1, dtype=torch.int64, device=device))
        return rope.turn(torch.zeros(1, 1, size, device=device), angles).shape[-1] == size
    except RuntimeError:  # the tables are narrower than the head
        return False


class ShapeRecorder:
    """An attention plan that computes nothing and notes what every layer would store."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._shapes: dict[int, LayerShape] = {}

    def attend(
        self,
        layer: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        options: dict[str, Any],
    ) -> Tensor:
        """Note the shapes; see :meth:`AttentionPlan.attend`.

        Raises:
            UnsupportedModelError: the layer asks for something that is not computed.
        """
        for option, reason in {
            "sliding_window": "its layers attend within a sliding window",
            "softcap": "it caps its attention scores (soft-capping)",
            "s_aux": "it has attention sinks",
            "sinks": "it has attention sinks",
        }.items():
            if options.get(option) is not None:
                raise refusal(self._model, reason)
        self._shapes[int(layer.layer_idx)] = LayerShape(  # type: ignore[arg-type]
            key.shape[1], key.shape[3], value.shape[3], key.dtype, key.device
        )
        return value.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])

    def shapes(self) -> list[LayerShape]:
        """Return what was noted, in the order of the layers.

        Raises:
            UnsupportedModelError: layers are missing, so not all attention goes through here.
        """
        count = getattr(self._model.config, "num_hidden_layers", None)
        if sorted(self._shapes) != list(range(count or 0)) or not count:
            raise refusal(
                self._model,
                f"only {len(self._shapes)} of its {count} layers use transformers' "
                "AttentionInterface",
            )
        return [self._shapes[index] for index in range(count)]


def refusal(model: nn.Module, reason: str) -> UnsupportedModelError:
    """Return the error that refuses a model by name."""
    kind = getattr(getattr(model, "config", None), "model_type", "unknown")
    return UnsupportedModelError(
        f"{type(model).__name__} (model type {kind!r}) cannot be run exactly, because {reason}: "
        "choose another model, such as Llama, Qwen2, Qwen3, Mistral, OLMo-2, GLM-4 or Granite."
    )


def probe_tokens(vocabulary: int, count: int) -> list[int]:
    """Return token ids for a probe, spread over the vocabulary."""
    return [(7919 * number + 13) % vocabulary for number in range(1, count + 1)]


def probe_error(found: Tensor, expected: Tensor) -> float:
    """Return by how much logits differ, relative to their spread.

    In half precision the median over tokens counts: an expert chosen differently by rounding
    moves single tokens, a wrong rotation moves all of them.

    Args:
        found: [tokens, vocab], float32.
        expected: the same of the plain forward, in the model's dtype.
    """
    reference = expected.float()
    spread = (reference - reference.mean(-1, keepdim=True)).norm(dim=-1).clamp_min(1e-12)
    errors = (found - reference).norm(dim=-1) / spread
    half = expected.dtype in (torch.float16, torch.bfloat16)
    return float(errors.median() if half else errors.max())


def probe_bound(dtype: torch.dtype) -> float:
    """Return the largest error that rounding explains."""
    return 0.05 if dtype in (torch.float16, torch.bfloat16) else 1e-3
