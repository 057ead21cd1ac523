"""Loan: a model while an engine has it: how it is called, and how it becomes what it was."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.engine.attention import AloneAttention, AttentionPlan, Carried
from hogwild_agents.engine.bridge import Bridge
from hogwild_agents.engine.compiled_layers import CompiledLayers
from hogwild_agents.engine.context import Context
from hogwild_agents.engine.refusals import refusal
from hogwild_agents.engine.replaced import Replaced
from hogwild_agents.errors import LentModelError


class Loan:
    """A model that is lent to an engine. It knows nothing of the engine.

    Args:
        model: the model.
        context: what it keeps of the model's tables.

    Attributes:
        model: the model.
        device: where it takes token ids.
        vocab_size: number of token ids.
        scattered: whether its weights lie on several devices.
        replaced: modules that compute otherwise meanwhile, by a name for them.
    """

    def __init__(self, model: Any, context: Context) -> None:
        self.model = model
        self.device = _input_device(model)
        self.vocab_size = int(model.get_input_embeddings().weight.shape[0])
        self._context = context
        self.scattered = _is_scattered(model)
        self._attention = implementations(model.config)
        self._attending = (model.config, model.config.get_text_config(decoder=True))
        # With tuples of outputs transformers' own forward fails: its parts ask each other by name.
        self._tuples = [part for part in _parts(model.config).values() if _asks_for_tuples(part)]
        self._modes = [(module, module.training) for module in model.modules()]
        self._bridge: Bridge | None = None
        self.replaced: dict[str, Replaced] = {}
        self._compiled: CompiledLayers | None = None
        self._returned = False
        self._attached: str | None = None
        try:
            model.eval()
            for part in self._tuples:
                part.return_dict = True
            context.pin()
        except BaseException:
            self.give_back()
            raise

    def attach(self, attention: str) -> None:
        """Let the model use an attention of this name.

        Raises:
            UnsupportedModelError: it does not take it.
        """
        self.model.set_attn_implementation(attention)
        if any(part._attn_implementation != attention for part in self._attending):
            raise refusal(self.model, "its attention is not built on AttentionInterface")
        self._attached = attention

    def bridge(self) -> None:
        """From now on, hand plans to the attention modules themselves."""
        self._bridge = Bridge(self.model)

    def replace(self, name: str, replaced: Replaced) -> None:
        """Take care that modules compute as they did when the model is given back."""
        self.replaced[name] = replaced

    def compile(self) -> None:
        """Compile the model's layers, once it has the engine's attention, and build them now.

        Raises:
            ConfigError: that cannot be done here.
        """
        self._compiled = CompiledLayers(self.model)
        self._compiled.build(self._run)

    @property
    def compiled_layers(self) -> int:
        """How many layers run compiled."""
        return self._compiled.count if self._compiled else 0

    @property
    def hooks(self) -> list[int]:
        """The ids of the engine's own hooks on the model."""
        return self._bridge.hooks if self._bridge else []

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, plan: AttentionPlan, keep: int | Tensor
    ) -> Tensor:
        """Call the model once.

        Args:
            input_ids: [texts, T].
            position_ids: [texts, T].
            plan: what the layers' attention asks.
            keep: which tokens get logits: the last so many of them (0: all), or their indices.

        Returns:
            [kept, vocab] of the first text, in the model's dtype.

        Raises:
            LentModelError: somebody has given the model another attention.
        """
        for part in self._attending:
            if self._attached and part._attn_implementation != self._attached:
                raise LentModelError(
                    f"{type(self.model).__name__} is lent to an Engine, but its attention was set "
                    f"to {part._attn_implementation!r} meanwhile: close the engine before "
                    "set_attn_implementation()."
                )
        if self._compiled:
            plan = Carried(plan)
        with self._bridge.carrying(plan) if self._bridge else nullcontext():
            output = self.model(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                logits_to_keep=self._kept(keep),
                plan=plan,
            )
        logits: Tensor = output.logits[0]
        return logits

    def give_back(self) -> None:
        """Leave the model as it was. Doing it again changes nothing: another engine may have it."""
        if self._returned:
            return
        self._returned = True
        if self.model.config._attn_implementation != self._attention[""]:
            known = {name: one for name, one in self._attention.items() if one}
            self.model.set_attn_implementation(known)
            self.model.config._attn_implementation = self._attention  # of parts without any, too
        if self._bridge:
            self._bridge.remove()
        for replaced in self.replaced.values():
            replaced.undo()
        if self._compiled:
            self._compiled.undo()
        self._context.unpin()
        for part in self._tuples:
            part.return_dict = False
        for module, training in self._modes:
            module.training = training

    def _run(self, tokens: int) -> None:
        """Call the model for nothing, over so many tokens."""
        ids = torch.arange(tokens, device=self.device)[None] % self.vocab_size
        with torch.no_grad():
            self.forward(ids, ids, AloneAttention(), 0)

    def _kept(self, keep: int | Tensor) -> int | list[int] | Tensor:
        """Return which tokens get logits, as a model takes it whose last layer lies elsewhere."""
        return keep.tolist() if self.scattered and isinstance(keep, Tensor) else keep


def implementations(config: Any) -> dict[str, Any]:
    """Return the attention implementations of a config and of its parts, in transformers' form.

    Some parts have none (DBRX), until one is set for the whole.
    """
    return {name: part._attn_implementation for name, part in _parts(config).items()}


def _parts(config: Any) -> dict[str, Any]:
    """Return a config, by no name, and its parts by theirs."""
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    return {"": config, **{name: part for name, part in parts.items() if part is not None}}


def _asks_for_tuples(config: Any) -> bool:
    return getattr(config, "return_dict", None) is False


def _input_device(model: Any) -> torch.device:
    """Return where a model takes token ids.

    That is where its embeddings are, or where accelerate brings them when they are needed.
    """
    embeddings = model.get_input_embeddings()
    place: torch.device = embeddings.weight.device
    if place.type == "meta":
        place = torch.device(embeddings._hf_hook.execution_device)
    return place


def _is_scattered(model: Any) -> bool:
    return len({tensor.device for tensor in model.parameters()}) > 1
