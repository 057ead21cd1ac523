"""Context: how long a view may be, and which of two tables a longrope model uses."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine.block import CacheBlock
from hogwild_agents.engine.refusals import refusal
from hogwild_agents.errors import ContextLengthError


class LongContextWarning(UserWarning):
    """A view is longer than the texts that the model was trained on."""


@dataclass
class Context:
    """How long the views of one model may be.

    Attributes:
        trained: the longest view that the model was made for; None if its config does not tell.
        limit: the longest view that is taken; None without a limit.
        long_tables: longrope modules that are to use their long table throughout.
    """

    trained: int | None
    limit: int | None
    long_tables: list[Any] = field(default_factory=list)
    _short: list[Tensor] = field(default_factory=list)
    _warned: bool = False

    def check(self, length: int, block: CacheBlock) -> None:
        """Warn of a view of this length, or refuse it.

        Raises:
            ContextLengthError: it is longer than the limit.
        """
        if self.limit is not None and length > self.limit:
            raise ContextLengthError(
                f"The view of {block!r} would be {length} tokens long, but the model's context has "
                f"{self.limit}: shorten the prompt, forget steps, or allow more by max_context or "
                "a rope scaling."
            )
        if self.trained is not None and length > self.trained and not self._warned:
            self._warned = True
            warnings.warn(
                f"The view of {block!r} is {length} tokens long, but the model was trained for "
                f"{self.trained}: what it writes beyond may be poor; a rope scaling such as YaRN "
                "is made for that.",
                LongContextWarning,
                stacklevel=4,
            )

    def pin(self) -> None:
        """Let the longrope modules use their long table, whatever the positions are.

        A module takes the long table when a position is beyond the length of the short one. Cache
        blocks count their positions from 0, so it would choose wrongly, and differently from tick
        to tick.
        """
        for module in self.long_tables:
            short = module.original_inv_freq
            far = torch.tensor([[_short_length(module)]], device=short.device)
            with torch.no_grad():
                module(torch.empty(0, device=short.device), far)
            self._short.append(short)
            module.original_inv_freq = module.inv_freq.clone()

    def unpin(self) -> None:
        """Give the modules their short tables back."""
        for module, short in zip(self.long_tables, self._short, strict=False):
            module.original_inv_freq = short
            module.inv_freq = short.clone()
        self._short.clear()


def find_context(model: Any, max_context: int | None) -> Context:
    """Return how long views of a model may be.

    Args:
        model: a loaded model.
        max_context: the limit that the user asks for.

    Raises:
        UnsupportedModelError: its longrope tables differ by layer type.
    """
    text = model.config.get_text_config(decoder=True)
    modules = [
        part for part in model.modules() if "longrope" in str(getattr(part, "rope_type", ""))
    ]
    if any(isinstance(part.rope_type, Mapping) for part in modules):
        raise refusal(model, "its longrope tables differ by layer type")
    trained = _trained_length(text)
    if modules:
        short = min(map(_short_length, modules))
        if max_context is None or max_context <= short:
            return Context(short, max_context or short)
    return Context(trained, max_context or trained, modules)


def _trained_length(text: Any) -> int | None:
    """Return the length that a config promises, extended as its rope parameters say."""
    length = getattr(text, "max_position_embeddings", None)
    if length is None:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    extended = int(factor * original) if factor and original else 0
    return max(int(length), extended)


def _is_longrope(part: nn.Module) -> bool:
    return "longrope" in str(getattr(part, "rope_type", ""))


def _short_length(module: Any) -> int:
    return int(module.config.rope_parameters["original_max_position_embeddings"])
