"""Store: the results of an experiment, one JSON line each, kept as they come in.

The first line says what all of them have in common; a store of something else is refused. Each
line is written at once and whole, so that an experiment can be broken off at any moment: a last
line that is cut short is dropped when the store is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hogwild_agents.errors import ConfigError

__all__ = ["Key", "Outcome", "Store"]

MARK = b'{"hogwild_experiment":'

Key = tuple[str, str, int]


class Outcome(BaseModel):
    """What one run came to; a line of the store.

    Attributes:
        cell, problem, seed: which run it was, by the keys of cell and problem.
        answer: what stood in the box; None without one.
        correct: whether that is right.
        ticks, tokens, seconds: what it took.
        duplicated: how much work was done twice, by the plan's measure.
        reason: why it ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: str
    problem: str
    seed: int
    answer: str | None
    correct: bool
    ticks: int
    tokens: int
    seconds: float
    duplicated: float
    reason: str

    @property
    def key(self) -> Key:
        """Which run it was."""
        return self.cell, self.problem, self.seed


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hogwild_experiment: Literal[1] = 1
    common: dict[str, Any]


class Store:
    """The results so far, and where more are added. A context manager that closes the file.

    Args:
        path: the file; made, with its folder, if there is none.
        common: what all results have in common, by names that mean something to the user.

    Raises:
        ConfigError: the file cannot be used, is no store, or is one of something else.
    """

    def __init__(self, path: Path, common: Mapping[str, Any]) -> None:
        self.path = path
        self._outcomes: dict[Key, Outcome] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read(json.loads(json.dumps(common)))
            self._file: IO[bytes] = path.open("ab")
            self._file.truncate(whole)
        except OSError as error:
            raise ConfigError(
                f"The store {str(path)!r} cannot be used ({error.strerror}): name another folder."
            ) from error
        if not whole:
            self._append(_Head(common=dict(common)))

    @property
    def outcomes(self) -> Mapping[Key, Outcome]:
        """All results, in the order in which they came in."""
        return self._outcomes

    def add(self, outcome: Outcome) -> None:
        """Keep a result; one that is there already stays as it is.

        Raises:
            ConfigError: it cannot be written.
        """
        if outcome.key in self._outcomes:
            return
        try:
            self._append(outcome)
        except OSError as error:
            raise ConfigError(
                f"The store {str(self.path)!r} cannot be written to ({error.strerror}): make room, "
                "and go on with the same command."
            ) from error
        self._outcomes[outcome.key] = outcome

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, line: BaseModel) -> None:
        self._file.write(line.model_dump_json().encode() + b"\n")
        self._file.flush()

    def _read(self, common: Mapping[str, Any]) -> int:
        """Take up what is in the file; return how much of it is whole lines."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if not lines and not MARK.startswith(content[: len(MARK)]):
            raise self._no_store(1)
        for number, line in enumerate(lines, 1):
            try:
                if number == 1:
                    head = _Head.model_validate_json(line).common
                    if len(lines) == 1 and head != common:
                        return 0  # of a plan that was mended before anything was run
                    self._compare(head, common)
                else:
                    outcome = Outcome.model_validate_json(line)
                    self._outcomes.setdefault(outcome.key, outcome)
            except ValidationError as error:
                raise self._no_store(number) from error
        return whole

    def _no_store(self, line: int) -> ConfigError:
        return ConfigError(
            f"Line {line} of {str(self.path)!r} is no line of an experiment's store: name another "
            "folder."
        )

    def _compare(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        """Raise a ConfigError if the store is one of something else."""
        for name in {**ours, **theirs}:
            there, here = theirs.get(name), ours.get(name)
            if there != here:
                raise ConfigError(
                    f"The store {str(self.path)!r} was made by another plan, whose {name} is "
                    f"{there!r} and not {here!r}: name another folder, or mend the plan."
                )
