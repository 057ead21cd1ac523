"""Replaced: modules of a model that compute otherwise while an engine has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from hogwild_agents.engine.compiled_layers import uncompiled


class Replaced:
    """Modules that compute otherwise until undone.

    Args:
        forwards: what is called in place of each one's own forward, which nobody has replaced yet.
        size: bytes that this takes besides.

    Attributes:
        bytes: those.
    """

    def __init__(self, forwards: Mapping[nn.Module, Callable[..., Tensor]], size: int = 0) -> None:
        self._forwards, self.bytes = [_Forward(*one) for one in forwards.items()], size

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._forwards)

    def undo(self) -> None:
        """Let them compute as they did. Doing it again changes nothing.

        What others have put in the place of a forward meanwhile stays there.
        """
        for forward in self._forwards:
            forward.undo()
        self._forwards, self.bytes = [], 0


class _Forward:
    """What stands in a module's own place for its forward.

    Where gradients are asked for, which kernels do not have, and once it is undone, it computes
    as the module does: others may have kept it, to put it back later.
    """

    def __init__(self, module: nn.Module, compute: Callable[..., Tensor]) -> None:
        self._module = module
        self._compute: Callable[..., Tensor] | None = compute
        module.forward = self

    @uncompiled
    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute what the module does."""
        compute = self._compute
        if compute is None or torch.is_grad_enabled():
            return _own_forward(self._module)(*args, **options)
        return compute(*args, **options)

    def undo(self) -> None:
        self._compute = None
        if vars(self._module).get("forward") is self:
            del self._module.forward

    def __reduce__(self) -> tuple[Any, ...]:
        """Let copies of the module compute as the module does."""
        return _own_forward, (self._module,)


def _own_forward(module: nn.Module) -> Callable[..., Any]:
    return MethodType(type(module).forward, module)
