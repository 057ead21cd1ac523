"""Loan: what a model was like when an engine took it, and how it gets that back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn

from hogwild_agents.engine.bridge import Bridge
from hogwild_agents.engine.context import Context
from hogwild_agents.engine.packing import Packing


class Loan:
    """A model that is lent to an engine. It knows nothing of the engine.

    Args:
        model: the model.
        context: what it keeps of the model's tables.
    """

    def __init__(self, model: Any, context: Context) -> None:
        self._model, self._context = model, context
        self._attention = _implementations(model.config)
        self._modes = [(module, module.training) for module in model.modules()]
        self._bridge: Bridge | None = None
        self._packing: Packing | None = None
        self._returned = False
        try:
            model.eval()
            context.pin()
        except BaseException:
            self.give_back()
            raise

    def bridge(self) -> None:
        """From now on, hand plans to the attention modules themselves."""
        self._bridge = Bridge(self._model)

    def pack(self, layers: list[nn.Linear]) -> None:
        """Let these of its layers compute with packed weights."""
        self._packing = Packing(layers)

    @property
    def packed_bytes(self) -> int:
        """What the packed weights take."""
        return self._packing.bytes if self._packing else 0

    @contextmanager
    def carrying(self, plan: Any) -> Iterator[None]:
        """Hand the plan over, if there is a bridge."""
        with self._bridge.carrying(plan) if self._bridge else nullcontext():
            yield

    def give_back(self) -> None:
        """Leave the model as it was. Doing it again changes nothing: another engine may have it."""
        if self._returned:
            return
        self._returned = True
        if self._model.config._attn_implementation != self._attention[""]:
            self._model.set_attn_implementation(self._attention)
        if self._bridge:
            self._bridge.remove()
        if self._packing:
            self._packing.undo()
        self._context.unpin()
        for module, training in self._modes:
            module.training = training


def _implementations(config: Any) -> dict[str, Any]:
    """Return the attention implementations of a config and of its parts, in transformers' form."""
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    own = {"": config, **{name: part for name, part in parts.items() if part is not None}}
    found = {name: part._attn_implementation for name, part in own.items()}
    return {name: implementation for name, implementation in found.items() if implementation}
