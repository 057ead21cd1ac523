"""Settings: what a benchmark is to measure, checked before any model is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from hogwild_agents.errors import ConfigError

WORKERS = (1, 2, 4, 8, 16)
CONTEXTS = (1024, 4096, 8192)
OWN_TOKENS = 100
"""Tokens of each worker's own block; fewer where the context has no room for so many."""
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

_NUMBER = re.compile(r"(\d+)(k?)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        preset: the shape of a known model with random weights, or None for ``model``.
        model: ``bundled``, a folder or a Hugging Face id, or None for ``preset``.
        workers: how many workers think at once; one row of the table for each, in every context.
        contexts: how many tokens each worker sees.
        dtype: of weights and cache; ``auto`` is bfloat16, or that of the checkpoint.
        device: ``auto`` takes a GPU if there is one.
        threads: of torch on the CPU; None for torch's own number.
        rounds: how often all contestants are measured in turn.
        ticks: timed ticks in each turn, after one that is not timed.
        kernels: whether the engine's own kernels compute; None for where they help.
        int8_weights: whether the engine computes with weights rounded to 8 bits.
        graphs: whether the engine records forwards and replays them; None for where it helps.
        compile_layers: whether the engine runs the model's layers through ``torch.compile``.
        compiling: whether transformers' single sequence is also tried compiled.
        json: a file for all numbers.
        plot: a file for an SVG.

    Raises:
        ConfigError: a value is out of range.
    """

    preset: str | None = "qwen2.5-0.5b"
    model: str | None = None
    workers: tuple[int, ...] = WORKERS
    contexts: tuple[int, ...] = CONTEXTS
    dtype: str = "auto"
    device: str = "auto"
    threads: int | None = None
    rounds: int = 7
    ticks: int = 4
    kernels: bool | None = None
    int8_weights: bool = False
    graphs: bool | None = None
    compile_layers: bool = False
    compiling: bool = True
    json: Path | None = None
    plot: Path | None = None

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.model is None):
            raise ConfigError("A benchmark takes a preset or a model: name one of them.")
        _require_least("rounds", self.rounds, 1)
        _require_least("ticks", self.ticks, 1)
        if self.threads is not None:
            _require_least("threads", self.threads, 1)
            if self.threads > 1024:
                raise ConfigError(f"--threads cannot be {self.threads}: it should be at most 1024.")
        for context in self.contexts:
            _require_least("context", context, 2 * max(self.workers))
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise ConfigError(
                f"There is no dtype {self.dtype!r}: take auto, float32, bfloat16 or float16."
            )
        if self.plot is not None and self.plot.suffix != ".svg":
            raise ConfigError(f"The plot is an SVG, not {self.plot.name!r}: name a file.svg.")
        for file in (self.json, self.plot):
            if file is not None and not file.parent.is_dir():
                raise ConfigError(f"There is no folder {str(file.parent)!r}: make it first.")
            if file is not None and file.is_dir():
                raise ConfigError(f"{str(file)!r} is a folder: name a file in it.")

    @property
    def turn(self) -> int:
        """Ticks of one turn of one contestant, the one that is not timed included."""
        return self.ticks + 1

    def own_tokens(self, context: int, workers: int) -> int:
        """Return how many tokens stand in each worker's own block."""
        return min(OWN_TOKENS, context // (2 * workers))


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``1,2,4`` or ``1k,4k``; k is 1024.

    Raises:
        ConfigError: it is none.
    """
    found = [_NUMBER.fullmatch(part.strip()) for part in text.split(",")]
    numbers = [int(one[1]) * (1024 if one[2] else 1) for one in found if one is not None]
    if len(numbers) < len(found) or not all(numbers):
        raise ConfigError(f"{option} cannot be {text!r}: write numbers from 1 on, such as 1,2,4k.")
    return tuple(dict.fromkeys(numbers))


def find_device(name: str) -> torch.device:
    """Return the device of this name.

    Raises:
        ConfigError: there is none here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"There is no device {name!r} here: take cpu, or auto.") from error
    return device


def _require_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"--{name} cannot be {value}: it should be at least {least}.")
