"""Stand-in: a small copy of a model with random weights, made from its config alone.

It has the attention of the model as it is, heads and tables and windows, and less of everything
else: fewer layers, at least one of each kind; narrower states between them; fewer token ids. So
the engine finds of it what it will find of the model, and its keys and values are of the same size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from hogwild_agents.engine.probe import (
    embeddings_changed,
    probe_bound,
    probe_error,
    probe_tokens,
)
from hogwild_agents.model_class import outline_of

__all__ = ["StandIn", "build_stand_in", "count_parameters", "is_steady"]

MOST_LAYERS = 16
MOST_PARAMETERS = 400_000_000
WIDTH = 64
VOCABULARY = 512


@dataclass(frozen=True)
class StandIn:
    """A small copy of a model.

    Attributes:
        model: the copy, float32 on the CPU.
        likeness: for each layer of the original the number of a layer of the copy that is of its
            kind; None if the copy has not all kinds.
    """

    model: Any
    likeness: list[int] | None


def count_parameters(config: Any) -> int:
    """Return how many parameters the model of a config has; nothing is allocated.

    Raises:
        Exception: whatever the model's class makes of the config.
    """
    return _size(outline_of(config)[1])


def build_stand_in(config: Any) -> StandIn:
    """Return a small copy of a config's model.

    Raises:
        ValueError: the copy would still be large.
        Exception: whatever the model's class makes of the sizes.
    """
    small = _unpacked(config)
    if getattr(small.get_text_config(decoder=True), "is_heterogeneous", False):
        raise ValueError("its layers differ in their sizes")
    likeness = _shrink(small.get_text_config(decoder=True))
    kind, outline = _narrow(small) or outline_of(small)
    if _size(outline) > MOST_PARAMETERS:
        count = small.get_text_config(decoder=True).num_hidden_layers
        raise ValueError(f"{count} layers of its attention alone have {_size(outline):,} weights")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        own = outline.config
        model = kind.from_pretrained(None, config=own, state_dict={}, dtype=torch.float32)
        for tensor in model.parameters():
            if tensor.dim() > 1:  # at transformers' own scale all tokens would be alike
                tensor.normal_(std=tensor.shape[-1] ** -0.5)
    return StandIn(model, likeness)


def is_steady(model: Any) -> bool:
    """Return whether the logits bear a change of the embeddings by one part in ten million."""
    ids = torch.tensor([probe_tokens(len(model.get_input_embeddings().weight), 24)])
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits[0]
        with embeddings_changed(model, steps=1.0):
            after = model(input_ids=ids, use_cache=False).logits[0]
    return probe_error(after, before) <= probe_bound(before.dtype)


def _size(model: Any) -> int:
    return sum(tensor.numel() for tensor in model.parameters())


def _unpacked(config: Any) -> Any:
    """Return a copy that tells of no quantization."""
    plain = copy.deepcopy(config)
    for part in (plain, plain.get_text_config(decoder=True)):
        if getattr(part, "quantization_config", None) is not None:
            del part.quantization_config
    return plain


def _shrink(text: Any) -> list[int] | None:
    """Take layers, inner states and token ids away; return the likeness of the layers left."""
    kinds = list(_kinds(text))
    sharing = getattr(text, "num_kv_shared_layers", 0)  # the last layers use keys of earlier ones
    count = len(kinds) if sharing else _enough(kinds)
    for name, values in list(_per_layer(text)):
        setattr(text, name, values[:count])
    text.num_hidden_layers = count
    for name, value in list(vars(text).items()):
        if name.endswith("intermediate_size"):
            setattr(text, name, _at_most(value, WIDTH))
        elif name.startswith("vocab_size"):
            setattr(text, name, _at_most(value, VOCABULARY))
    text.pad_token_id = None
    found = {kind: number for number, kind in reversed(list(enumerate(kinds[:count])))}
    return [found[kind] for kind in kinds] if found.keys() == set(kinds) else None


def _at_most(value: Any, bound: int) -> Any:
    """Return a size, or those of all layers, within a bound."""
    if isinstance(value, list | tuple):
        return [_at_most(one, bound) for one in value]
    return min(value, bound) if isinstance(value, int) else value


def _narrow(config: Any) -> tuple[Any, Any] | None:
    """Return the outline of a model with small states between its layers.

    None if its heads would shrink too, as their size cannot be said by itself.
    """
    narrow = copy.deepcopy(config)
    text = narrow.get_text_config(decoder=True)
    heads = text.num_attention_heads
    size: int = getattr(text, "head_dim", None) or text.hidden_size // heads
    try:
        text.head_dim = size
    except AttributeError:
        return None
    text.hidden_size = min(text.hidden_size, heads * -(-WIDTH // heads))
    kind, outline = outline_of(narrow)
    sizes = (getattr(part, "head_dim", None) for part in outline.modules())
    return (kind, outline) if {one for one in sizes if isinstance(one, int)} == {size} else None


def _per_layer(text: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield what a config says of every layer."""
    for name, values in vars(text).items():
        if isinstance(values, list | tuple) and len(values) == text.num_hidden_layers:
            yield name, list(values)


def _kinds(text: Any) -> Iterator[str]:
    """Yield what makes a layer different from others, in words."""
    lists = [values for _, values in sorted(_per_layer(text)) if len(set(map(repr, values))) < 9]
    for layer in range(text.num_hidden_layers):
        yield repr([values[layer] for values in lists])


def _enough(kinds: list[str]) -> int:
    """Return how many layers from the first have all kinds among them."""
    last = max(kinds.index(kind) for kind in set(kinds))
    return min(max(last + 1, 2), len(kinds), MOST_LAYERS)
