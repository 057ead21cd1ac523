"""Compiled layers: a model's decoder layers through ``torch.compile``, around the attention.

It joins the small operations between the products of a layer (norms, rotations, activations,
residuals) into few kernels. The attention over blocks, and products that are the engine's own, are
called as they are. One layer at a time is compiled, so that alike layers share what was built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import nn

from hogwild_agents.errors import ConfigError

_Function = TypeVar("_Function", bound=Callable[..., Any])

BACKEND = "inductor"
"""What of torch.compile builds the code."""


class CompiledLayers:
    """Decoder layers of one model that run compiled until undone.

    Layers that somebody has compiled already are left as they are.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        found = _decoder_layers(model)
        self._layers = [layer for layer in found if layer._compiled_call_impl is None]
        for layer in self._layers:
            layer.compile(backend=BACKEND, dynamic=True)

    @property
    def count(self) -> int:
        """How many layers these are."""
        return len(self._layers)

    def build(self, run: Callable[[int], object]) -> None:
        """Build the code now, not with the first ticks.

        Args:
            run: ``run(tokens)`` runs the model's forward over so many tokens.

        Raises:
            ConfigError: the layers cannot be compiled here.
        """
        if not self._layers:
            raise ConfigError(
                f"compile_layers is on, but {type(self._model).__name__} has no layers that are "
                "not compiled already: leave it out."
            )
        try:
            for tokens in (1, 2):  # torch.compile takes 1 for a number that stays, 2 for any other
                run(tokens)
        except Exception as error:
            cause = getattr(error, "inner_exception", error)
            reason = (str(cause).strip().splitlines() or [repr(cause)])[0].rstrip(".")
            raise ConfigError(
                f"compile_layers is on, but torch.compile fails on {type(self._model).__name__} "
                f"here ({reason}): see whether there is a compiler, or leave it out."
            ) from error

    def undo(self) -> None:
        """Let the layers run as they are again."""
        for layer in self._layers:
            layer._compiled_call_impl = None
        self._layers = []


def uncompiled(function: _Function) -> _Function:
    """Return a function that compiled layers call as it is."""
    disable: Callable[[_Function], Any] = torch.compiler.disable
    return cast("_Function", disable(function))


def _decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the outermost layers of stacks that hold an attention."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for stack in model.modules():
        if isinstance(stack, nn.ModuleList) and id(stack) not in inside:
            layers = [layer for layer in stack if _attends(layer)]
            inside.update(id(part) for layer in layers for part in layer.modules())
            found += layers
    return found


def _attends(layer: nn.Module) -> bool:
    return any(isinstance(getattr(part, "layer_idx", None), int) for part in layer.modules())
