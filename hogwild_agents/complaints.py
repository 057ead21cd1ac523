"""Complaints: what pydantic finds wrong with a value, in words that a user knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hogwild_agents.nearest import nearest

__all__ = ["Complaint", "Unfit", "allowed", "in_words", "plain", "sentence", "to_the_point"]

Complaint = Mapping[str, Any]
"""What ``ValidationError.errors()`` has for one fault."""

_WORDS = {
    "Input should": "it should",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
    ", unable to interpret input": "",
    ", got a number with a fractional part": "",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid dictionary": "a table",
    "a valid string": "a text",
}
_KINDS = {
    "string_too_short": "it should not be empty",
    "too_short": "it is too short",
    "too_long": "it is too long",
    "path_type": "it should be a text",
    "model_type": "it should be a table",
    "model_attributes_type": "it should be a table",
}
"""What we say of a kind of fault, where pydantic speaks of Python."""
_BE = "it should be "


class Unfit(ValueError):
    """Raised in a validator: ``it should be ...``; any other ValueError there is a sentence."""


def to_the_point(error: ValidationError) -> Complaint:
    """Return the complaint that names most exactly what is wrong."""
    # Of a union pydantic complains about every branch: the deepest complaint is to the point.
    return max(error.errors(include_url=False), key=_depth)


def allowed(error: ValidationError) -> str:
    """Return what may stand there instead, to stand behind a colon.

    Of a union that is all that it takes, or what else is asked of a value of one of its types.
    """
    first = to_the_point(error)
    place = first["loc"][:-1]
    branches = [
        one
        for one in error.errors(include_url=False)
        if one["loc"][:-1] == place and one["input"] is first["input"]
    ]
    mine = [one for one in branches if not one["type"].endswith("_type")] or branches
    words = list(dict.fromkeys(map(in_words, mine)))
    if not all(one.startswith(_BE) for one in words):
        return words[0]
    return _BE + " or ".join(one.removeprefix(_BE) for one in words)


def sentence(complaint: Complaint) -> str | None:
    """Return what a validator of ours has raised, if that says all by itself."""
    raised = complaint["type"] == "value_error" and complaint["ctx"]["error"]
    return str(raised) if raised and not isinstance(raised, Unfit) else None


def in_words(complaint: Complaint) -> str:
    """Return what pydantic says of a value, to stand behind a colon."""
    if complaint["type"] in _KINDS:
        return _KINDS[complaint["type"]]
    if complaint["type"] == "value_error":
        return str(complaint["ctx"]["error"])
    words = plain(str(complaint["msg"]))
    if complaint["type"] == "literal_error":
        names = re.findall(r"'([^']+)'", complaint["ctx"]["expected"])
        near = nearest(str(complaint["input"]), names)
        words = f"{near} {words[:1].upper()}{words[1:]}" if near else words
    return words


def plain(message: str) -> str:
    """Return pydantic's words for a value in ours."""
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _depth(complaint: Complaint) -> int:
    return len(complaint["loc"])
