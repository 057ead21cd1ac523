"""RunConfig: everything that can be said about a run, from a TOML file and the command line.

A file holds the same names as the command's options, without dashes::

    model = "bundled"
    layout = "combined"
    budget = 2048
    workers = ["Alice", {name = "Bob", role = "I check what the others write."}]
    policies = ["stop-on-answer", "finisher"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from hogwild_agents.complaints import Unfit, allowed, sentence, to_the_point
from hogwild_agents.errors import ConfigError
from hogwild_agents.nearest import nearest
from hogwild_agents.rope_scaling import parse_rope_scaling
from hogwild_agents.worker_names import is_name, worker_names

__all__ = ["LayoutName", "RunConfig", "WorkerConfig"]

LayoutName = Literal["combined", "contiguous", "interleaved", "isolated"]

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, strict=True)]  # strict: true is no 1, nor is "1"
Natural = Annotated[int, Field(ge=0, strict=True)]
Threads = Annotated[int, Field(ge=1, le=1024, strict=True)]
TeamSize = Annotated[int, Field(ge=1, le=1000, strict=True)]
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
TopP = Annotated[float, Field(gt=0, le=1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Penalty = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class WorkerConfig(BaseModel):
    """One worker; a name alone stands for one without a role.

    Attributes:
        name: how the others call it.
        role: what it alone is told; empty for nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    role: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping | cls):
            raise Unfit("it should be a name or a table")
        return value

    @field_validator("name")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not is_name(value):
            raise Unfit("it should be one line of text")
        return value


class RunConfig(BaseModel):
    """What a run is made of; None leaves a value to the model's own defaults.

    Attributes:
        problem: what the team works on.
        model: ``bundled``, a hub id or a folder.
        revision: of a hub id.
        device: such as ``cpu`` or ``cuda:1``; ``auto`` takes a GPU if there is one.
        dtype: such as ``float32`` or ``bfloat16``; ``auto`` takes the checkpoint's.
        threads: how many compute on the CPU; None for torch's own number, or 1 for a tiny model.
        cache_tokens: how many tokens the cache may hold; None for no bound.
        max_context: the longest view in tokens; None for what the model was made for.
        rope_scaling: such as ``yarn:4``, or a table of rope parameters, for longer contexts.
        quantization: such as ``bnb-4bit``, or a table with a ``quant_method``.
        kernels: whether the engine's own kernels compute; None for where they help.
        int8_weights: whether layers on the CPU compute with weights rounded to 8 bits.
        graphs: whether forwards are recorded and replayed; None for where it helps.
        compile_layers: whether the model's layers run through ``torch.compile``, for GPUs.
        model_options: more for ``from_pretrained`` of transformers, such as ``device_map``.
        prompt: the name of a prompt, or a file.
        workers: how many, or who.
        layout: what a worker sees of the others.
        budget: how many ticks the team may think.
        seed: of all the workers' random states.
        temperature, top_k, top_p, min_p, repetition_penalty: how tokens are sampled.
        policies: their names; ``module:Class`` for one of your own.
        check_every: how many tokens of a worker lie between two redundancy checks.
        max_answer_tokens: how long the finisher's answer may be.
        save: where the transcript goes; None for nowhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    problem: str | None = None
    model: Name = "bundled"
    revision: str | None = None
    device: Name = "auto"
    dtype: Name = "auto"
    threads: Threads | None = None
    cache_tokens: Count | None = None
    max_context: Count | None = None
    rope_scaling: Name | dict[str, Any] | None = None
    quantization: Name | dict[str, Any] | None = None
    kernels: bool | None = None
    int8_weights: bool = False
    graphs: bool | None = None
    compile_layers: bool = False
    model_options: dict[str, Any] = {}
    prompt: Name = "collaborate"
    workers: TeamSize | tuple[WorkerConfig, ...] = 3
    layout: LayoutName = "combined"
    budget: Count = 4096
    seed: Natural = 0
    temperature: Temperature | None = None
    top_k: Natural | None = None
    top_p: TopP | None = None
    min_p: Share | None = None
    repetition_penalty: Penalty | None = None
    policies: tuple[Name, ...] = ("redundancy-check", "stop-on-answer", "finisher")
    check_every: Count = 1024
    max_answer_tokens: Count = 16
    save: Path | None = None

    @field_validator("rope_scaling")
    @classmethod
    def _scaling(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if value is not None:
            parse_rope_scaling(value)
        return value

    @field_validator("workers", mode="before")
    @classmethod
    def _workers(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"workers is the string {value!r}: give a number, or a list of names.")
        return value

    @field_validator("workers")
    @classmethod
    def _distinct(cls, value: int | tuple[WorkerConfig, ...]) -> int | tuple[WorkerConfig, ...]:
        if isinstance(value, int):
            return value
        if not value:
            raise ValueError("The list of workers is empty: name at least one.")
        names = [worker.name for worker in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"Two workers are called {twice!r}: give each a name of its own.")
        return value

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            ConfigError: the file cannot be read, is no TOML, or holds what no run has.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"The config {path} cannot be read ({error.strerror}): name a TOML file."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"The config {path} is no valid TOML: {error}.") from error
        return cls._check(values, f"the config {path}")

    @classmethod
    def _check(cls, values: Mapping[str, Any], source: str | None) -> Self:
        """Return the config with these values, from a file or, without a source, from options.

        Raises:
            ConfigError: a name is unknown, or a value is out of its range.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_sentence(cls, error, source)) from error

    def override(self, values: Mapping[str, Any]) -> Self:
        """Return a copy in which these values, from the command line, stand instead.

        Raises:
            ConfigError: a name is unknown, or a value is out of its range.
        """
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return self._check({**kept, **values}, None)

    @property
    def team(self) -> tuple[WorkerConfig, ...]:
        """The workers one by one."""
        if isinstance(self.workers, int):
            return tuple(WorkerConfig(name=name) for name in worker_names(self.workers))
        return self.workers

    @property
    def sampling(self) -> dict[str, float]:
        """What is said about sampling, by the names of ``SamplingParams``."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _sentence(config: type[BaseModel], error: ValidationError, source: str | None) -> str:
    """Say one of pydantic's complaints in one sentence."""
    # It names the branch of a union too; only names and indices mean something to the user.
    first = to_the_point(error)
    known = {*config.model_fields, *WorkerConfig.model_fields}
    path = [part for part in first["loc"] if isinstance(part, int) or part in known]
    if first["type"] == "extra_forbidden":
        advice = nearest(str(first["loc"][-1]), known) or f"use {', '.join(config.model_fields)}."
        return f"{first['loc'][-1]!r} is no option{_place(source)}: {advice}"
    said = sentence(first)  # raised above
    if said is not None:
        return said
    name = ".".join(str(part) for part in path)
    if first["type"] == "missing":
        return f"{name} is missing{_place(source)}: add it."
    if source is None:
        name = "--" + name.partition(".")[0].replace("_", "-")
    return f"{name} cannot be {first['input']!r}{_place(source)}: {allowed(error)}."


def _place(source: str | None) -> str:
    return "" if source is None else f" in {source}"
