"""Plan: what an experiment measures, from a TOML file.

::

    seeds = [0, 1]
    baseline = { policies = "unchecked" }

    [task]
    kind = "bundled"
    problems = 100

    [run]
    budget = 512

    [policies]
    checked = ["redundancy-check", "stop-on-answer", "finisher"]
    unchecked = ["stop-on-answer", "finisher"]

    [grid]
    layout = ["combined", "interleaved"]
    policies = ["unchecked", "checked"]
    check_every = [16]
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
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from hogwild_agents.complaints import allowed, sentence, to_the_point
from hogwild_agents.config import (
    Count,
    LayoutName,
    Name,
    Natural,
    Penalty,
    Share,
    TeamSize,
    Temperature,
    TopP,
    WorkerConfig,
)
from hogwild_agents.errors import ConfigError
from hogwild_agents.nearest import nearest

__all__ = [
    "AXES",
    "MOST_PROBLEMS",
    "Axes",
    "BundledTask",
    "FileTask",
    "Grid",
    "Plan",
    "RunSettings",
]

MOST_PROBLEMS = 10_000
"""So many are drawn in some ten seconds, and their means are known to a percent."""

Team = TeamSize | Name
Pair = tuple[Name, Name]
AtLeastOne = Field(min_length=1)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundledTask(_Section):
    """Held-out problems of the bundled model's little language.

    Attributes:
        problems: how many, at most :data:`MOST_PROBLEMS`.
        seed: which ones are drawn.
        tasks, terms: from how many to how many tasks a problem has, and terms a task.
        duplicates: how duplicated work is measured.
    """

    kind: Literal["bundled"]
    problems: Annotated[int, Field(ge=1, le=MOST_PROBLEMS, strict=True)] = 50
    seed: Natural = 0
    tasks: tuple[Count, Count] = (8, 12)
    terms: tuple[Count, Count] = (3, 6)
    duplicates: Name = "tasks"

    @field_validator("tasks", "terms")
    @classmethod
    def _bounds(cls, value: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if not value[0] <= value[1] <= 12:
            raise ValueError(
                f"task.{info.field_name} cannot be {list(value)} in {{source}}: write [from, to], "
                "at most 12."
            )
        return value


class FileTask(_Section):
    """Problems of one's own.

    Attributes:
        file: JSON lines of ``{"problem": "...", "answer": "..."}``; a relative path counts from
            the plan's folder.
        problems: how many of them, from the first; None for all.
        scorer: ``boxed-exact``, or ``module:function``, called with the answer and the right one.
        duplicates: how duplicated work is measured: ``steps``, ``tasks`` or ``module:function``.
    """

    kind: Literal["file"]
    file: Path
    problems: Count | None = None
    scorer: Name = "boxed-exact"
    duplicates: Name = "steps"


class Axes(_Section):
    """What may differ from cell to cell; None where nothing is said.

    Attributes:
        layout, budget, prompt, temperature, top_k, top_p, min_p, repetition_penalty, check_every,
            max_answer_tokens: as for ``hogwild run``.
        workers: how many, or the name of a team of the plan.
        policies: the name of a set of the plan, or ``paper``.
        visibility: who sees whom: ``all``, ``none``, ``ring`` (each sees the one before it), or
            the name of a rule of the plan.
    """

    layout: LayoutName | None = None
    workers: Team | None = None
    policies: Name | None = None
    check_every: Count | None = None
    max_answer_tokens: Count | None = None
    visibility: Name | None = None
    budget: Count | None = None
    prompt: Name | None = None
    temperature: Temperature | None = None
    top_k: Natural | None = None
    top_p: TopP | None = None
    min_p: Share | None = None
    repetition_penalty: Penalty | None = None


AXES = tuple(Axes.model_fields)


class RunSettings(Axes):
    """What all cells have in common, and the values of axes that no grid varies.

    Attributes:
        model, revision, device, dtype, cache_tokens: as for ``hogwild run``.
        concurrency: how many runs share the coordinator at a time.
    """

    model: Name = "bundled"
    revision: str | None = None
    device: Name = "auto"
    dtype: Name = "auto"
    cache_tokens: Count | None = None
    concurrency: Count = 16


class Grid(_Section):
    """Lists of values; every combination of them is a cell. Attributes: those of :class:`Axes`."""

    layout: Annotated[tuple[LayoutName, ...], AtLeastOne] | None = None
    workers: Annotated[tuple[Team, ...], AtLeastOne] | None = None
    policies: Annotated[tuple[Name, ...], AtLeastOne] | None = None
    check_every: Annotated[tuple[Count, ...], AtLeastOne] | None = None
    max_answer_tokens: Annotated[tuple[Count, ...], AtLeastOne] | None = None
    visibility: Annotated[tuple[Name, ...], AtLeastOne] | None = None
    budget: Annotated[tuple[Count, ...], AtLeastOne] | None = None
    prompt: Annotated[tuple[Name, ...], AtLeastOne] | None = None
    temperature: Annotated[tuple[Temperature, ...], AtLeastOne] | None = None
    top_k: Annotated[tuple[Natural, ...], AtLeastOne] | None = None
    top_p: Annotated[tuple[TopP, ...], AtLeastOne] | None = None
    min_p: Annotated[tuple[Share, ...], AtLeastOne] | None = None
    repetition_penalty: Annotated[tuple[Penalty, ...], AtLeastOne] | None = None


class Plan(_Section):
    """What an experiment measures.

    Attributes:
        task: the problems.
        run: what all cells have in common.
        grid: the cells are those of all grids together.
        seeds: each cell is run with each of them on every problem.
        baseline: every cell is compared with the one that differs from it in these values only.
        policies: sets of policies by name, each a list as in a run's config.
        teams: teams by name, each a list of workers as in a run's config.
        visibility: rules by name, each a list of pairs: an author, and who does not see it.
    """

    task: BundledTask | FileTask = Field(discriminator="kind")
    run: RunSettings = RunSettings()
    grid: tuple[Grid, ...] = (Grid(),)
    seeds: Annotated[tuple[Natural, ...], AtLeastOne] = (0,)
    baseline: Axes | None = None
    policies: dict[Name, tuple[Name, ...]] = {}
    teams: dict[Name, Annotated[tuple[WorkerConfig, ...], AtLeastOne]] = {}
    visibility: dict[Name, tuple[Pair, ...]] = {}
    _source: str = PrivateAttr("the experiment")

    @field_validator("grid", mode="before")
    @classmethod
    def _grids(cls, value: object) -> object:
        return (value,) if isinstance(value, Mapping) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"seeds cannot be {list(value)} in {{source}}: write different ones.")
        return value

    @field_validator("policies", "teams", "visibility")
    @classmethod
    def _own_names(cls, value: Mapping[str, object], info: ValidationInfo) -> Mapping[str, object]:
        taken = next((name for name in value if name in RESERVED), None)
        if taken is not None:
            raise ValueError(
                f"{info.field_name}.{taken} in {{source}} has a name that means something "
                "already: take another one."
            )
        return value

    @field_validator("teams")
    @classmethod
    def _different(
        cls, value: Mapping[str, tuple[WorkerConfig, ...]]
    ) -> Mapping[str, tuple[WorkerConfig, ...]]:
        for team, workers in value.items():
            names = [worker.name for worker in workers]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"teams.{team} in {{source}} has two workers called {twice!r}: give each a "
                    "name of its own."
                )
        return value

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            ConfigError: the file cannot be read, is no TOML, or holds what no plan has.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"The experiment {path} cannot be read ({error.strerror}): name a TOML file."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"The experiment {path} is no valid TOML: {error}.") from error
        plan = cls.check(values, f"the experiment {path}")
        if isinstance(plan.task, FileTask):
            task = plan.task.model_copy(update={"file": path.parent / plan.task.file})
            plan = plan.model_copy(update={"task": task})
        return plan

    @classmethod
    def check(cls, values: Mapping[str, Any], source: str = "the experiment") -> Self:
        """Return the plan with these values.

        Raises:
            ConfigError: a name is unknown, or a value is out of its range.
        """
        try:
            plan = cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_sentence(error, source)) from error
        plan._source = source
        return plan

    @property
    def source(self) -> str:
        """What errors call it: with the file's name, if it is from a file."""
        return self._source


RESERVED = ("all", "none", "ring", "paper")


# -- what is wrong, in one sentence

SECTIONS: Mapping[str, type[BaseModel]] = {"run": RunSettings, "grid": Grid, "baseline": Axes}
TASKS: Mapping[object, type[BaseModel]] = {"bundled": BundledTask, "file": FileTask}
NAMED = ("policies", "teams", "visibility")


def _sentence(error: ValidationError, source: str) -> str:
    """Say one of pydantic's complaints in one sentence."""
    first = to_the_point(error)
    where, fields = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        last = str(first["loc"][-1])
        advice = nearest(last, fields) or f"use {', '.join(fields)}."
        return f"{last!r} is no option of {where or 'an experiment'} in {source}: {advice}"
    said = sentence(first)  # raised above
    if said is not None:
        return said.replace("{source}", source)
    if first["type"] == "missing" and isinstance(first["loc"][-1], str):
        return f"{where} is missing in {source}: add it."
    if first["type"] == "union_tag_invalid":
        kind = first["input"]["kind"]
        return f"task.kind cannot be {kind!r} in {source}: it should be 'bundled' or 'file'."
    if first["type"] == "union_tag_not_found":
        return f"{where} in {source} needs kind = 'bundled' or kind = 'file': write one of them."
    message = "it is too short" if first["type"] == "missing" else allowed(error)
    return f"{where} cannot be {first['input']!r} in {source}: {message}."


def _place(location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Return what a complaint is about, and what could stand there.

    Pydantic's location names the branches of unions too, which mean nothing to the user.
    """
    section, rest = location[0], location[1:]
    names: list[int | str]
    if section == "task":
        fields = list(TASKS[rest[0]].model_fields) if rest else []
        names = [section, *(part for part in rest[1:] if part in fields)]
    elif section in SECTIONS:
        fields = list(SECTIONS[str(section)].model_fields)
        names = [section, *(part for part in rest if part in fields)]
    elif section in NAMED:
        fields = list(WorkerConfig.model_fields)
        names = [section, *rest[:1], *(part for part in rest[1:] if part in fields)]
    else:
        fields = list(Plan.model_fields)
        names = [part for part in location[:1] if part in fields]
    return ".".join(map(str, names)), fields
