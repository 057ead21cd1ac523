"""Tool schema: from a function's signature to the JSON schema of its arguments, and back."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from hogwild_agents.errors import ConfigError

_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Examples?):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\w+)(?: \([^)\n]*\))?:[ \t]*(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_FIELD = "argument_"  # a parameter may be called like a method of BaseModel


class Signature:
    """The parameters of a function that is called with arguments as JSON gives them.

    Args:
        function: any callable.
        tool: what it is called in errors.

    Attributes:
        summary: what the docstring says, up to its first section.
        names: of the parameters, in order.
        schema: the JSON schema of the arguments. They are described by the docstring's section
            ``Args:``, or by pydantic's ``Field``.

    Raises:
        ConfigError: the function cannot be called so.
    """

    def __init__(self, function: Callable[..., Any], tool: str) -> None:
        self.summary, described = _read_docstring(function)
        self._parameters = _parameters(function, tool)
        self.names = tuple(parameter.name for parameter in self._parameters)
        self._model = _model(self._parameters, described, tool)
        self.schema = _schema(self._model, tool)

    def bind(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Check arguments; return the positional and the named ones of a call.

        Raises:
            ValidationError: they are wrong.
            ValueError: they are no JSON.
        """
        kinds = self.schema.get("properties", {})
        decoded = {
            name: _decode(value, kinds.get(name, {}), self.schema)
            for name, value in arguments.items()
        }
        given = self._model.model_validate_json(json.dumps(decoded))
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for index, parameter in enumerate(self._parameters):
            key = f"{_FIELD}{index}"
            left_out = key not in given.model_fields_set
            value = parameter.default if left_out else getattr(given, key)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            elif not left_out:  # the function has a default for it
                named[parameter.name] = value
        return positional, named


def _read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of the function, and of its arguments by name."""
    if isinstance(function, partial):
        function = function.func
    parts = _SECTION.split(inspect.getdoc(function) or "")
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    listed = sections.get("Args") or sections.get("Arguments") or ""
    arguments = {
        found[1]: " ".join(found[2].split())
        for found in _ARGUMENT.finditer(inspect.cleandoc(listed))
    }
    return parts[0].strip(), arguments


def _parameters(function: Callable[..., Any], tool: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function, eval_str=True)
    except (TypeError, ValueError, NameError, SyntaxError, AttributeError) as error:
        raise ConfigError(
            f"The signature of the tool {tool} cannot be read ({reason(error)}): give a function "
            "whose types can be resolved where it is defined."
        ) from error
    parameters = list(signature.parameters.values())
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigError(
                f"The tool {tool} takes {parameter}, but all its parameters must be named: write "
                "them out."
            )
        if parameter.annotation is parameter.empty:
            raise ConfigError(f"The parameter {parameter.name} of the tool {tool} has no type.")
    return parameters


def _model(
    parameters: Sequence[inspect.Parameter], described: Mapping[str, str], tool: str
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        default = ... if parameter.default is parameter.empty else parameter.default
        told: dict[str, Any] = {}
        if parameter.name in described:
            told["description"] = described[parameter.name]
        made = Field(default, alias=parameter.name, **told)
        fields[f"{_FIELD}{index}"] = (parameter.annotation, made)
    try:
        return create_model(tool, __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, TypeError, ValueError) as error:
        raise ConfigError(
            f"A parameter of the tool {tool} has a type that pydantic does not know "
            f"({reason(error)})."
        ) from error


def _schema(model: type[BaseModel], tool: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default that is no JSON is left out
            schema: dict[str, Any] = _untitled(model.model_json_schema())
    except PydanticUserError as error:
        raise ConfigError(
            f"A parameter of the tool {tool} has a type without a JSON schema ({reason(error)})."
        ) from error
    schema.pop("additionalProperties", None)  # it goes without saying
    return schema


def _untitled(schema: Any, names: bool = False) -> Any:
    """Leave out the titles that pydantic makes of names; ``names``: the keys are names of ours."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _untitled(part, not names and key in ("properties", "$defs"))
        for key, part in schema.items()
        if names or key != "title" or not isinstance(part, str)
    }


def _decode(value: Any, kind: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return what a text says in JSON, where the schema has no place for a text.

    Some formats write all arguments as text, and some models put quotes around what is none.
    """
    if not isinstance(value, str) or "string" in _kinds(kind, root):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _kinds(schema: Mapping[str, Any], root: Mapping[str, Any]) -> set[str]:
    """Return the JSON types that a schema allows; "string" too if it does not say."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _kinds(root.get("$defs", {}).get(reference.rpartition("/")[2], {}), root)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return set().union(*(_kinds(choice, root) for choice in choices))
    kind = schema.get("type", "string")
    return {kind} if isinstance(kind, str) else set(kind)


def reason(error: BaseException) -> str:
    """Return what an error says first, to be put into a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
