"""Bridge: carries a tick's plan to attention modules whose layers drop extra arguments.

Most models pass unknown keyword arguments on to the attention function. In some (StableLM, for
one) the layer in between does not; there a hook hands the plan to the attention module itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Bridge:
    """Hooks on the attention modules of one model. They do nothing outside of :meth:`carrying`."""

    def __init__(self, model: nn.Module) -> None:
        self._plan: Any = None
        self._hooks = [
            part.register_forward_pre_hook(self._add, with_kwargs=True)
            for part in model.modules()
            if _is_attention(part)
        ]

    @property
    def hooks(self) -> list[int]:
        """Their ids."""
        return [hook.id for hook in self._hooks]

    @contextmanager
    def carrying(self, plan: Any) -> Iterator[None]:
        """Hand the plan to every attention module that is called inside of this context."""
        self._plan = plan
        try:
            yield
        finally:
            self._plan = None

    def remove(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def _add(
        self, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        return None if self._plan is None else (args, {**options, "plan": self._plan})


def _is_attention(part: nn.Module) -> bool:
    named = type(part).__name__.endswith("Attention")
    return named and isinstance(getattr(part, "layer_idx", None), int)
