"""Refusals: the models that cannot be computed exactly, most told by their configs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hogwild_agents.errors import HogwildError, LentModelError, UnsupportedModelError

_STATEFUL = ("linear_attention", "mamba", "mamba2", "recurrent", "conv", "hybrid")
_OLD_ROPE = ("rotary_dim", "rotary_pct", "rotary_emb_base")
_ATTENDING = ("full_attention", "attention", "sliding_attention", "chunked_attention")


def unsupported_reason(config: Any) -> str | None:
    """Return why models of this config cannot be run exactly, or None if nothing speaks against.

    Args:
        config: a transformers config (``PreTrainedConfig``); of a multimodal one, what counts is
            the config of its text model.
    """
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    text = config.get_text_config(decoder=True)
    layer_types = set(getattr(text, "layer_types", None) or ())
    block_types = getattr(text, "block_types", None) or ()  # RecurrentGemma's, in transformers 5.17
    if layer_types.union(block_types).intersection(_STATEFUL) or hasattr(text, "state_size"):
        return "it has recurrent or linear-attention layers, which have no keys to share"
    if getattr(text, "alibi", False):
        return "it has ALiBi positions instead of a rotary embedding (RoPE)"
    tables = _tables(text)
    if not tables and any(hasattr(text, name) for name in _OLD_ROPE):
        return "it rotates inside of an older attention class, which no plan reaches"
    if not tables:
        return "it has no rotary position embedding (RoPE)"
    if any(table.get("rope_type") == "dynamic" for table in tables):
        return (
            "its dynamic NTK rotary table changes with the length of the text, and cached keys "
            "with it"
        )
    unknown = sorted(layer_types.difference(_ATTENDING))
    return f"it has layers of a kind that is not known here, {unknown[0]!r}" if unknown else None


def _tables(text: Any) -> list[Mapping[str, Any]]:
    """Return the rope parameters, of each layer type where they differ."""
    rope = getattr(text, "rope_parameters", None)
    if not isinstance(rope, Mapping):
        return []
    return [table for table in rope.values() if isinstance(table, Mapping)] or [rope]


def refusal(model: Any, reason: str) -> UnsupportedModelError:
    """Return the error that refuses a model by name."""
    kind = getattr(getattr(model, "config", None), "model_type", "unknown")
    return UnsupportedModelError(
        f"{type(model).__name__} (model type {kind!r}) cannot be run exactly, because {reason}: "
        "choose another model, such as Llama, Qwen3, Gemma 3, Mistral, GLM-4 or gpt-oss."
    )


@contextmanager
def refusing(model: Any) -> Iterator[None]:
    """Turn whatever a model's code raises inside into a refusal by name."""
    try:
        yield
    except (UnsupportedModelError, LentModelError):
        raise
    except HogwildError as error:
        raise refusal(model, f"a probe failed ({error})") from error
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise refusal(model, f"a probe failed ({first})") from error
