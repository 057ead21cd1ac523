"""Model class: which class of transformers writes the text of a config's models, and what of it.

Of a multimodal model the language part is taken: the towers that encode images, video and sound
are left out before any weights are read, so they are never in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

__all__ = ["find_class", "language_class", "outline_of", "precise_parts", "text_class"]


def find_class(config: Any) -> Any:
    """Return the class of transformers that writes text by a config, or None."""
    from transformers.models.auto import modeling_auto

    auto: Any = modeling_auto
    for mapping in (auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_MULTIMODAL_LM_MAPPING):
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple | list) else found
    return None


def language_class(config: Any) -> tuple[Any, Any]:
    """Return the class to load a config's language part by, and the config that it takes.

    Where transformers itself takes a class for the text model alone, it is that. Otherwise it is
    the multimodal class without its towers: what it computes of a text is by definition what the
    multimodal model computes, and its weights are found as transformers finds them.
    """
    config = getattr(config, "thinker_config", config)  # of those that listen, think and talk
    kind = find_class(config)
    parts = getattr(config, "sub_configs", {})
    if kind.config_class is parts.get("text_config"):
        return kind, _text_config(config)
    return (_without_towers(kind) if parts else kind), config


def text_class(config: Any) -> tuple[Any, Any] | None:
    """Return the class for the text model of a multimodal config alone, with its config."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    text = _text_config(config)
    if text is config or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(text)], text


def outline_of(config: Any) -> tuple[Any, Any]:
    """Return the class of a config's language part, and a model of it that has no weights yet.

    Raises:
        Exception: whatever the class makes of the config.
    """
    import torch

    kind, own = language_class(copy.deepcopy(config))
    with torch.device("meta"):
        try:
            return kind, kind(own)
        except ImportError:  # of a tower
            alone = text_class(copy.deepcopy(config))
            if alone is None:
                raise
            return alone[0], alone[0](alone[1])


def precise_parts(model: Any, dtype: Any) -> set[str]:
    """Return parts of the names of what a model keeps in float32, loaded in a dtype."""
    import torch

    kept = set(model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        kept.update(model._keep_in_fp32_modules or ())
    return kept


def _text_config(config: Any) -> Any:
    text = config.get_text_config(decoder=True)
    packing = getattr(config, "quantization_config", None)
    if packing is not None:
        text.quantization_config = packing
    return text


def _without_towers(kind: Any) -> Any:
    """Return a class like ``kind`` whose models have no towers.

    What is missing from a model when its weights are read is not read: the tensors of the towers
    stay in their file. It goes by the name of ``kind``, under which transformers knows how the
    names of a checkpoint's tensors became those of the model.
    """

    def build(self: Any, *args: Any, **options: Any) -> None:
        kind.__init__(self, *args, **options)
        _drop_towers(self)

    def attend(self: Any, how: str | dict[str, str], *args: Any, **options: Any) -> None:
        if isinstance(how, str):  # to a tower that is gone it cannot be told
            parts = [name for name in self.config.sub_configs if name not in self.parts_left_out]
            how = {"": how, **dict.fromkeys(parts, how)}
        kind.set_attn_implementation(self, how, *args, **options)

    names = {
        "__init__": build,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "set_attn_implementation": attend,
    }
    return type(kind.__name__, (kind,), names)


def _drop_towers(model: Any) -> None:
    towers = list(_towers(model, "", model.get_decoder()))
    configs = {id(getattr(parent, name).config) for parent, name, _ in towers}
    parts = ((name, getattr(model.config, name, None)) for name in model.config.sub_configs)
    model.parts_left_out = {name for name, part in parts if id(part) in configs}
    for parent, name, _ in towers:
        setattr(parent, name, None)
    dropped = tuple(f"{path}." for _, _, path in towers)
    tied = model.all_tied_weights_keys
    for key in [key for key in tied if key.startswith(dropped)]:
        del tied[key]


def _towers(module: Any, path: str, decoder: Any) -> Iterator[tuple[Any, str, str]]:
    """Yield the models beside the decoder: what holds each, its name there, its whole path."""
    from transformers import PreTrainedModel

    if decoder is module:
        return
    for name, child in module.named_children():
        whole = f"{path}{name}"
        if any(part is decoder for part in child.modules()):
            yield from _towers(child, f"{whole}.", decoder)
        elif isinstance(child, PreTrainedModel):
            yield module, name, whole
