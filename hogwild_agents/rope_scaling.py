"""Rope scaling: a rotary table stretched for texts longer than the model was trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from hogwild_agents.errors import ConfigError
from hogwild_agents.whole import is_above_zero

__all__ = ["RopeScaling", "parse_rope_scaling", "scale_rope"]

RopeScaling = str | Mapping[str, Any]
"""``"yarn:4"``, ``"linear:2"``, or rope parameters as a config of transformers has them."""

_KINDS = ("yarn", "linear")
_REPLACEABLE = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
_ADVICE = "write yarn:4, linear:2, or a JSON object of rope parameters"
_SCALED = {
    "rope_type", "type", "factor", "original_max_position_embeddings", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
    "short_factor", "long_factor", "low_freq_factor", "high_freq_factor",
}  # fmt: skip
"""What describes a scaling; the other parameters (the base, the share that turns) stay."""


def parse_rope_scaling(given: RopeScaling) -> dict[str, Any]:
    """Return rope parameters for what was asked for.

    Raises:
        ConfigError: it cannot be read, or changes with the length of the text.
    """
    if not isinstance(given, str | Mapping):
        raise ConfigError(f"The rope scaling is {given!r}: {_ADVICE}.")
    found = dict(given) if isinstance(given, Mapping) else _read(given.strip())
    kind = found.get("rope_type", found.get("type"))
    if not isinstance(kind, str):
        raise ConfigError(f"The rope scaling {given!r} names no rope_type: {_ADVICE}.")
    if kind == "dynamic":
        raise ConfigError(
            "The rope scaling 'dynamic' changes the table with the length of the text, and cached "
            "keys with it, so it cannot be run exactly: take yarn."
        )
    factor = found.get("factor")
    if factor is not None and not _is_factor(factor):
        raise ConfigError(
            f"The rope scaling's factor is {factor!r}, but must be 1 or more, and finite."
        )
    if factor is None and kind in _KINDS:
        raise ConfigError(f"The rope scaling {given!r} has no factor: {_ADVICE}.")
    return {"rope_type": kind, **{name: found[name] for name in found if name != "type"}}


def _is_factor(value: Any) -> bool:
    return is_above_zero(value) and 1 <= float(value) < math.inf


def _read(text: str) -> dict[str, Any]:
    if text.startswith("{"):
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"The rope scaling {text!r} is no JSON ({error}): {_ADVICE}."
            ) from error
        return found
    kind, _, factor = text.partition(":")
    try:
        number = float(factor)
    except ValueError:
        raise ConfigError(f"The rope scaling {text!r} cannot be read: {_ADVICE}.") from None
    if kind not in (*_KINDS, "dynamic"):
        raise ConfigError(f"There is no rope scaling {kind!r} by name: {_ADVICE}.")
    return {"rope_type": kind, "factor": number}


def scale_rope(config: Any, scaling: Mapping[str, Any]) -> None:
    """Change a config so that its model turns by a scaled table, over a context as much longer.

    A table per layer type is scaled in the layers of full attention; the others see no further
    than their window. The factor counts from the length that the model was trained for, whatever
    scaling its config had.

    Args:
        config: a transformers config with rope parameters; of a multimodal one, its text model's
            changes.
        scaling: as :func:`parse_rope_scaling` gives it.

    Raises:
        ConfigError: it does not fit the model.
    """
    text = config.get_text_config(decoder=True)
    tables = _tables(text)
    unknown = sorted(set(scaling) - _SCALED - _known_parameters().union(*tables))
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is no rope parameter: use {', '.join(sorted(_SCALED))}.")
    length = getattr(text, "max_position_embeddings", None)
    original = scaling.get("original_max_position_embeddings") or _original(tables[0], length)
    if original is None:
        raise ConfigError(
            f"The model (type {text.model_type!r}) does not tell how long its texts were in "
            "training: give original_max_position_embeddings in a JSON object."
        )
    longer = int(original * scaling.get("factor", 1))
    if length is not None and longer < length:
        raise ConfigError(
            f"The rope scaling gives a context of {longer} tokens, but the model has {length} "
            f"already: its factor counts from {original}, so give one above {length / original:g}."
        )
    for table in tables:
        _fill(table, scaling, int(original))
    text.max_position_embeddings = longer
    _validate(text)


def _fill(table: dict[str, Any], scaling: Mapping[str, Any], original: int) -> None:
    """Put a scaling into rope parameters; of one of the same kind, details stay."""
    same = table.get("rope_type") == scaling["rope_type"]
    for name in {"attention_factor"} if same else _SCALED:
        table.pop(name, None)
    table.update(scaling)
    if scaling["rope_type"] not in ("linear", "default"):  # these know no such parameter
        table["original_max_position_embeddings"] = original


def _tables(text: Any) -> list[dict[str, Any]]:
    """Return the rope parameters that are scaled, to be changed in place."""
    rope: dict[str, Any] = text.rope_parameters
    by_layer = {name: table for name, table in rope.items() if isinstance(table, dict)}
    if by_layer and "full_attention" not in by_layer:
        raise ConfigError(
            f"The model (type {text.model_type!r}) has rotary tables for {', '.join(by_layer)}, "
            "and none for full attention: a rope scaling does not fit it."
        )
    tables = [by_layer["full_attention"]] if by_layer else [rope]
    kind = tables[0].get("rope_type", "default")
    if kind not in _REPLACEABLE:
        raise ConfigError(
            f"The model (type {text.model_type!r}) has a rotary table of the kind {kind!r}, for "
            "which there is no scaling: leave it out."
        )
    return tables


def _original(table: Mapping[str, Any], length: int | None) -> int | None:
    """Return the length before any scaling that the config has already."""
    original: int | None = table.get("original_max_position_embeddings")
    if original or length is None:
        return original
    if table.get("rope_type") == "linear" and table.get("factor"):
        return int(length / table["factor"])
    return length


def _known_parameters() -> set[str]:
    from transformers.modeling_rope_utils import RopeParameters

    return set(RopeParameters.__annotations__)


def _validate(text: Any) -> None:
    """Let transformers check what it will build tables from."""
    try:
        text.validate_rope()
    except (KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split()).rstrip(".")
        raise ConfigError(
            f"The rope scaling does not fit the model (type {text.model_type!r}): {reason}."
        ) from error
