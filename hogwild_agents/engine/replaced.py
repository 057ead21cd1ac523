"""Replaced: modules of a model that compute otherwise while an engine has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn


class Replaced:
    """Modules that compute otherwise until undone.

    Args:
        forwards: what is called in place of each one's own forward, which nobody has replaced yet.
        size: bytes that this takes besides.

    Attributes:
        bytes: those.
    """

    def __init__(self, forwards: Mapping[nn.Module, Callable[..., Tensor]], size: int = 0) -> None:
        self._modules, self.bytes = list(forwards), size
        for module, forward in forwards.items():
            module.forward = forward

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._modules)

    def undo(self) -> None:
        """Let them compute as they did. Doing it again changes nothing."""
        for module in self._modules:
            del module.forward
        self._modules, self.bytes = [], 0
