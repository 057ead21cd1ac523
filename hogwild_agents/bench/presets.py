"""Presets: models in the shapes of known ones, of random weights made where they are used."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.initialization import no_init_weights

from hogwild_agents.bench.settings import DTYPES, Settings
from hogwild_agents.engine.memory import available
from hogwild_agents.errors import ConfigError
from hogwild_agents.nearest import nearest

LONGEST = 1 << 17
"""The context of every preset: it changes no shape."""
SPREAD = 0.02
_TILE = 1_048_573  # a prime, so that no two rows of a matrix are alike


@dataclass(frozen=True)
class Preset:
    """The shape of a model: its kind of config, and the numbers in it."""

    kind: Any
    shape: Mapping[str, Any]

    def config(self) -> Any:
        """Return the config that transformers builds the model from."""
        rope = {"rope_theta": 1e6, "rope_type": "default"}
        return self.kind(max_position_embeddings=LONGEST, rope_parameters=rope, **self.shape)


def _shape(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, *, tied: bool, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": tied,
        "vocab_size": 151936,
        **more,
    }


PRESETS: Mapping[str, Preset] = {
    "qwen2.5-0.5b": Preset(Qwen2Config, _shape(896, 4864, 24, 14, 2, tied=True)),
    "qwen3-1.7b": Preset(Qwen3Config, _shape(2048, 6144, 28, 16, 8, tied=True, head_dim=128)),
    "qwen3-8b": Preset(Qwen3Config, _shape(4096, 12288, 36, 32, 8, tied=False, head_dim=128)),
    "qwen3-32b": Preset(Qwen3Config, _shape(5120, 25600, 64, 64, 8, tied=False, head_dim=128)),
    "qwq-32b": Preset(Qwen2Config, _shape(5120, 27648, 64, 40, 8, tied=False, vocab_size=152064)),
    "qwen3-30b-a3b": Preset(
        Qwen3MoeConfig,
        _shape(
            2048,
            6144,
            48,
            32,
            4,
            tied=False,
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
            norm_topk_prob=True,
        ),
    ),
    "tiny": Preset(Qwen3Config, _shape(64, 160, 2, 4, 2, tied=True, head_dim=16, vocab_size=2048)),
}


def check_preset(settings: Settings, device: torch.device) -> None:
    """See that there is such a preset, and room for its weights, before anything is made.

    Where they do not fit, the system would end this process or another one.

    Raises:
        ConfigError: there is none.
    """
    if settings.preset is None:
        return
    preset = PRESETS.get(settings.preset)
    if preset is None:
        near = nearest(settings.preset, PRESETS)
        advice = f"{near} Take one of" if near else "take one of"
        raise ConfigError(f"There is no preset {settings.preset!r}: {advice} {', '.join(PRESETS)}.")
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"), no_init_weights():
        shape = auto.from_config(preset.config(), dtype=_dtype(settings))
    shape.tie_weights()
    need = sum(one.numel() * one.element_size() for one in shape.parameters())
    free = available(device)
    if free is not None and need > free:
        raise ConfigError(
            f"The weights of {settings.preset} would take {need / 2**30:.3g} GiB, and "
            f"{free / 2**30:.3g} GiB are free: take a smaller preset, or another machine."
        )


def make_model(settings: Settings, device: torch.device) -> Any:
    """Return the model to be measured, in eval mode.

    Raises:
        ModelError: the model is nowhere, or it cannot be loaded.
        UnsupportedModelError: it cannot be run exactly.
    """
    if settings.model is None:
        assert settings.preset is not None
        return random_model(PRESETS[settings.preset].config(), _dtype(settings), device)
    from hogwild_agents.checkpoint import (
        find_checkpoint,
        loading_dtype,
        quiet_transformers,
        read_config,
    )
    from hogwild_agents.weights import bar_for_unpacking

    auto: Any = AutoModelForCausalLM
    checkpoint = find_checkpoint(settings.model, None)
    dtype = loading_dtype(checkpoint, DTYPES.get(settings.dtype, "auto"), device)
    with quiet_transformers(None), bar_for_unpacking(checkpoint):
        read_config(checkpoint)
        try:
            model = auto.from_pretrained(checkpoint.place, dtype=dtype, **checkpoint.options)
        except Exception as error:
            raise checkpoint.error("The weights", error) from error
    return model.to(device).eval()


def _dtype(settings: Settings) -> torch.dtype:
    return DTYPES.get(settings.dtype, torch.bfloat16)


def random_model(config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a model whose weights were made at once in their dtype and place.

    Tied embeddings are one tensor. Nothing is drawn twice: all matrices are cut from one short
    tape of normal numbers, which takes as long as copying.
    """
    auto: Any = AutoModelForCausalLM
    with torch.device(device), no_init_weights():
        model = auto.from_config(config, dtype=dtype)
    model.tie_weights()
    generator = torch.Generator(device).manual_seed(0)
    tape = torch.randn(_TILE, generator=generator, device=device).mul_(SPREAD).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                _fill(parameter, tape)
    return model.eval()


def twin(model: nn.Module) -> Any:
    """Return a model of its own over the same weights, so that an engine may have the other."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, shared)


def _fill(parameter: Tensor, tape: Tensor) -> None:
    flat = parameter.view(-1)
    for start in range(0, len(flat), len(tape)):
        part = flat[start : start + len(tape)]
        part.copy_(tape[: len(part)])
