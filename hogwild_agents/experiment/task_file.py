"""Task file: problems with their answers, as JSON lines."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from hogwild_agents.complaints import in_words, to_the_point
from hogwild_agents.errors import ProblemError

__all__ = ["Task", "read_tasks"]


class Task(BaseModel):
    """A problem with its answer; a line of a file of problems.

    Attributes:
        problem: what the team is given.
        answer: what the box must hold, as a string.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    problem: str
    answer: str


def read_tasks(path: Path) -> list[Task]:
    """Return the problems of a file, one of each line.

    Raises:
        ProblemError: it cannot be read, holds none, or a line of it is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ProblemError(
            f"The problems in {str(path)!r} cannot be read ({reason}): name a file of JSON lines."
        ) from error
    if not text:
        raise ProblemError(f"There are no problems in {str(path)!r}: write one on each line.")
    return [
        _parse(row, f"Line {number} of {str(path)!r}")
        for number, row in enumerate(text.split("\n"), 1)
    ]


def _parse(row: str, place: str) -> Task:
    try:
        task = Task.model_validate_json(row)
    except ValidationError as error:
        raise ProblemError(
            f'{place} is no problem ({_fault(error)}): write {{"problem": "...", "answer": "..."}}.'
        ) from error
    if not task.problem.strip():
        raise ProblemError(f"{place} has an empty problem: give the team something to solve.")
    return task


def _fault(error: ValidationError) -> str:
    """Return what is wrong with a row, and with which of its fields."""
    first = to_the_point(error)
    place = ".".join(map(str, first["loc"]))
    match first["type"]:
        case "json_invalid":
            return f"it is not JSON, {first['ctx']['error']}"
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f"{place!r} has no meaning here"
    if not place:
        return f"it is {first['input']!r}, no object"
    return f"{place} cannot be {first['input']!r}, {in_words(first)}"
