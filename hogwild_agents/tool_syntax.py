r"""Tool syntax: how calls stand in a text, for the models that are known and for all others.

:data:`PLAIN` is ours, for models that have learnt no way of their own: a line such as
``@weather {"city": "Paris"}``. A JSON string has no line breaks, so no empty line can end a step in
the middle of a call; and a ``#``, which no worker can write, is ``\u0023`` there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hogwild_agents.tools import ToolCall

_DEEPEST = 100
"""So many lists and objects may lie in each other in what a model writes."""
_TOO_DEEP = f"its JSON is nested too deeply, over {_DEEPEST} levels"

Read = Callable[[re.Match[str], str], Sequence[ToolCall]]


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """How calls stand in a text.

    Attributes:
        name: what it is called here.
        opening: matches what a call begins with, as soon as its body begins.
        again: matches, in full, whatever behind a call may still become another call of the same
            message.
        read: turns the opening and the body into calls; a ValueError says why it cannot.
        closing: what a body ends before; None for one JSON value, which ends by itself.
        trailing: what may stand behind a JSON body, and shows inside of one that it has no end.
        lenient: whether what cannot be read is no call, rather than a broken one.
    """

    name: str
    opening: re.Pattern[str]
    again: re.Pattern[str]
    read: Read
    closing: re.Pattern[str] | None = None
    trailing: str = ""
    lenient: bool = False


# -- reading


def read_json(opening: re.Match[str], body: str) -> list[ToolCall]:
    """Read one call or a list of them; the name may stand in the opening."""
    value = _load(body)
    name = opening.groupdict().get("name")
    if name:
        return [ToolCall(name=name, arguments=_arguments(value))]
    return [read_call(one) for one in (value if isinstance(value, list) else [value])]


def read_call(value: Any) -> ToolCall:
    """Read ``{"name": ..., "arguments": {...}}``, whatever a model calls the two.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if isinstance(value, Mapping):
        name = value.get("name")
        keys = [key for key in ("arguments", "parameters") if key in value]
        if isinstance(name, str) and keys:
            return ToolCall(name=name, arguments=_arguments(value[keys[0]]))
    raise ValueError('it is not made of a "name" and its "arguments"')


def _arguments(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = _load(value)
        except ValueError:
            raise ValueError("its arguments are a text that is no JSON") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"its arguments are a {type(value).__name__}, not a JSON object")
    return value


def _load(text: str) -> Any:
    """Return what a text says in JSON.

    Raises:
        ValueError: it says nothing, or is nested more deeply than tools have to bear.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:  # how deep that takes differs between versions of Python
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"its JSON is broken ({str(error).partition(': line')[0]})") from None
    if _depth(value) > _DEEPEST:
        raise ValueError(_TOO_DEEP)
    return value


def _depth(value: Any) -> int:
    """Return how many lists and objects lie in each other."""
    depth, level = 0, [value]
    while wholes := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [
            part for one in wholes for part in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _read_tags(pattern: str) -> Read:
    """Return what reads arguments that stand between tags, each of them a text."""
    argument = re.compile(pattern, re.DOTALL)

    def read(opening: re.Match[str], body: str) -> list[ToolCall]:
        found = {
            one["key"].strip(): one["value"].removeprefix("\n").removesuffix("\n")
            for one in argument.finditer(body)
        }
        return [ToolCall(name=opening["name"], arguments=found)]

    return read


# -- the syntaxes

_NAME = r"(?P<name>[A-Za-z_][\w.-]{0,63})"
_LINE = r"(?<![^\n])[ \t]*"  # from the beginning of a line
_BREAK = r"[ \t]*\n?[ \t]*"  # what may stand between two calls of one message
_OPEN = r"[^{]{0,120}"  # an opening that is under way


def behind(opener: str, rest: str, trailing: str = "") -> re.Pattern[str]:
    """Return what matches whatever may still become ``trailing``, or the next opening."""
    opening = rf"(?:{_begun(opener)}|{re.escape(opener)}{rest})"
    if trailing:
        whole = re.escape(trailing)
        opening = rf"(?:{_begun(trailing)}|{whole}{_BREAK}{opening}|{opening})"
    return re.compile(_BREAK + opening)


def _begun(literal: str) -> str:
    """Return a pattern of all beginnings of a literal, from nothing to the whole."""
    return "".join(f"(?:{re.escape(one)}" for one in literal) + ")?" * len(literal)


def _json(name: str, opener: str, rest: str = r"\s*", *, trailing: str = "") -> Syntax:
    """A syntax of JSON behind an opener; ``rest`` is what stands between the two."""
    return Syntax(
        name=name,
        opening=re.compile(rf"{re.escape(opener)}{rest}(?=\{{|\[\s*\{{)"),
        again=behind(opener, _OPEN, trailing),
        read=read_json,
        trailing=trailing,
    )


def _tags(name: str, opening: str, argument: str) -> Syntax:
    """A syntax of tags within ``<tool_call>``."""
    return Syntax(
        name=name,
        opening=re.compile(rf"<tool_call>\s*{opening}"),
        again=behind("<tool_call>", _OPEN),
        read=_read_tags(argument),
        closing=re.compile("</tool_call>"),
    )


PLAIN = Syntax(
    name="plain",
    opening=re.compile(rf"{_LINE}@{_NAME}[ \t]*(?=\{{)"),
    again=behind("@", r"(?:[A-Za-z_][\w.-]{0,63}[ \t]*)?"),
    read=read_json,
)
"""Ours."""

SYNTAXES = (
    _json("Hermes", "<tool_call>", trailing="</tool_call>"),
    _tags(
        "Qwen3-Coder",
        rf"<function={_NAME}>",
        r"<parameter=(?P<key>[^>\n]+)>(?P<value>.*?)</parameter>",
    ),
    _tags(
        "GLM",
        rf"{_NAME}\s*(?=<arg_key>|</tool_call>)",
        r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>",
    ),
    _json("Mistral", "[TOOL_CALLS]", rf"\s*(?:{_NAME}(?:\[CALL_ID\][\w-]*)?(?:\[ARGS\])?\s*)?"),
    _json("Phi", "<|tool_call|>", trailing="<|/tool_call|>"),
    _json(
        "DeepSeek",
        "<｜tool▁call▁begin｜>",
        rf"(?:function<｜tool▁sep｜>)?{_NAME}\s*(?:```json\s*|<｜tool▁sep｜>\s*)",
        trailing="\n```<｜tool▁call▁end｜>",
    ),
    Syntax(
        name="Llama",  # 3.1 to 3.3: a line that is a JSON object
        opening=re.compile(rf"{_LINE}(?:<\|python_tag\|>)?(?=\{{|\[\s*\{{)"),
        again=re.compile(f"{_BREAK};?{_BREAK}"),
        read=read_json,
        lenient=True,
    ),
)
"""Those of models, named after the first that had them, in the order in which they are tried."""
