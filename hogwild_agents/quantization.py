"""Quantization: weights in fewer bits, as transformers loads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hogwild_agents.errors import ModelError

__all__ = ["QUANTIZATIONS", "Quantization", "quantization_config", "quantization_of"]

Quantization = str | Mapping[str, Any] | Any
"""One of :data:`QUANTIZATIONS`, a mapping with a ``quant_method``, or a config of transformers."""


def quantization_config(given: Quantization | None, dtype: Any) -> Any:
    """Return the config of transformers for what was asked for, or None for nothing.

    Args:
        given: what was asked for.
        dtype: what the model computes in, a torch dtype or ``"auto"``.

    Raises:
        ModelError: there is no such quantization, or its library is missing.
    """
    if given is None or hasattr(given, "quant_method"):
        return given
    if isinstance(given, str) and given.lstrip().startswith("{"):
        given = _parse(given)
    try:
        if isinstance(given, Mapping):
            from transformers.quantizers.auto import AutoQuantizationConfig

            return AutoQuantizationConfig.from_dict(dict(given))
        if given in _NAMED:
            return _NAMED[given](dtype)
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(f"The quantization {given!r} cannot be had ({reason}).") from error
    raise ModelError(
        f"There is no quantization {given!r}: give {', '.join(_NAMED)}, or a JSON object with a "
        "quant_method and what else a quantization_config of transformers has."
    )


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError(f"The quantization {text!r} is no JSON ({error}).") from error


def quantization_of(config: Any) -> str | None:
    """Return the method by which the weights of a config's checkpoint are quantized, if any."""
    for part in (config, config.get_text_config(decoder=True)):
        found = getattr(part, "quantization_config", None)
        if found is not None:
            known = found if isinstance(found, Mapping) else vars(found)
            method = known.get("quant_method", "unknown")
            return str(getattr(method, "value", method))
    return None


def _bnb_4bit(dtype: Any) -> Any:
    compute = "bfloat16" if dtype == "auto" else dtype
    return _config(
        "BitsAndBytesConfig",
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute,
    )


def _bnb_8bit(_: Any) -> Any:
    return _config("BitsAndBytesConfig", load_in_8bit=True)


def _torchao_int8(_: Any) -> Any:
    if find_spec("torchao") is None:
        raise ImportError("torchao is not installed: pip install torchao")
    kind: Any = import_module("torchao.quantization").Int8WeightOnlyConfig
    return _config("TorchAoConfig", quant_type=kind())


def _config(name: str, **options: Any) -> Any:
    return getattr(import_module("transformers"), name)(**options)


_NAMED: dict[str, Callable[[Any], Any]] = {
    "bnb-4bit": _bnb_4bit,
    "bnb-8bit": _bnb_8bit,
    "torchao-int8": _torchao_int8,
}
QUANTIZATIONS = tuple(_NAMED)
"""Those that can be asked for by name; a mapping asks for any other."""
