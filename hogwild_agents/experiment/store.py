"""Store: the results of an experiment, one JSON line each, kept as they come in.

The first line says what all of them have in common; a store of something else is refused. Each
line is written at once and whole, so that an experiment can be broken off at any moment: a last
line that is cut short is dropped when the store is opened again. One experiment at a time adds to
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hogwild_agents.errors import ConfigError
from hogwild_agents.file_lock import take

__all__ = ["Key", "Outcome", "Store", "read_store"]

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
        ConfigError: the file cannot be used, is no store, is one of something else, or another
            experiment adds to it.
    """

    def __init__(self, path: Path, common: Mapping[str, Any]) -> None:
        self.path = path
        with _using(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        try:
            self._begin(common)
        except BaseException:
            self.close()
            raise

    def _begin(self, common: Mapping[str, Any]) -> None:
        """Take up what is in the file, if nobody else adds to it; drop a last line that is cut."""
        if not take(self._file):
            raise ConfigError(
                f"Another experiment adds to the store {str(self.path)!r}: wait for its end, or "
                "name another folder."
            )
        with _using(self.path):
            self._outcomes, whole = _read(self.path, common)
            self._file.truncate(whole)
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


def read_store(path: Path, common: Mapping[str, Any]) -> Mapping[Key, Outcome]:
    """Return the results so far; more may be added meanwhile, and nothing is changed.

    Args:
        path: the file; without one there are no results.
        common: what all results have in common.

    Raises:
        ConfigError: the file cannot be read, is no store, or is one of something else.
    """
    with _using(path):
        return _read(path, common)[0]


@contextmanager
def _using(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"The store {str(path)!r} cannot be used ({error.strerror}): name another folder."
        ) from error


def _read(path: Path, common: Mapping[str, Any]) -> tuple[dict[Key, Outcome], int]:
    """Return what is in a file, and how much of it is whole lines."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    if not lines and not MARK.startswith(content[: len(MARK)]):
        raise _no_store(path, 1)
    found: dict[Key, Outcome] = {}
    for number, line in enumerate(lines, 1):
        try:
            if number == 1:
                head, ours = _Head.model_validate_json(line).common, json.loads(json.dumps(common))
                if len(lines) == 1 and head != ours:
                    return {}, 0  # of a plan that was mended before anything was run
                _compare(path, head, ours)
            else:
                outcome = Outcome.model_validate_json(line)
                found.setdefault(outcome.key, outcome)
        except ValidationError as error:
            raise _no_store(path, number) from error
    return found, whole


def _no_store(path: Path, line: int) -> ConfigError:
    return ConfigError(
        f"Line {line} of {str(path)!r} is no line of an experiment's store: name another folder."
    )


def _compare(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise a ConfigError if the store is one of something else."""
    for name in {**ours, **theirs}:
        there, here = theirs.get(name), ours.get(name)
        if there != here:
            raise ConfigError(
                f"The store {str(path)!r} was made by another plan, whose {name} is {there!r} and "
                f"not {here!r}: name another folder, or mend the plan."
            )
