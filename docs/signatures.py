"""Signatures: how what is defined is called, as text."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from docs.definitions import Definition, Function, decorators, documented, find, source

WIDTH = 92
"""A longer signature has one line for each parameter."""

EMPTY = {"dict": "{}", "list": "[]"}
KEPT = ("classmethod", "contextmanager", "asynccontextmanager")
"""Decorators that say how something is called."""


def signatures(given: Sequence[Function], module: str, *, bound: bool) -> str:
    """Return the signatures of a function.

    Args:
        given: the function, after its overloads; if there are any, they are what is told.
        module: where it is defined.
        bound: leave out ``self``.
    """
    return "\n".join(_signature(one, module, bound) for one in given[:-1] or given)


def _signature(node: Function, module: str, bound: bool) -> str:
    above = "".join(f"@{one}\n" for one in decorators(node) if one in KEPT)
    before = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returned = "" if node.returns is None else f" -> {source(node.returns)}"
    return above + _written(f"{before} {node.name}", _parameters(node, module)[bound:], returned)


def constructor(found: Definition) -> str:
    """Return how a class is called; nothing, if no class of the package says so."""
    for one in found.lineage:
        if (made := one.functions.get("__init__")) is not None:
            return _written(found.name, _parameters(made[-1], one.module)[1:])
        if one.dataclass:
            fields = [field for base in reversed(found.lineage) for field in _fields(base)]
            keywords = ["*"] if "kw_only=True" in one.dataclass else []
            return _written(found.name, [*keywords, *fields])
    return ""


def value_of(default: ast.expr, module: str) -> str:
    """Return a default: what a constant of the module, or a dataclass's field, stands for."""
    match default:
        case ast.Name(id=name):
            found = find(module, name)
            match None if found is None else found.node:
                case (
                    ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value)
                ):
                    return source(value)
                case _:
                    return name
        case ast.Call(func=ast.Name(id="field" | "Field")):
            made = {one.arg: source(one.value) for one in default.keywords}
            factory = made.get("default_factory", "")
            plain = "..." if factory.startswith("lambda") else EMPTY.get(factory, f"{factory}()")
            return made.get("default") or plain
        case _:
            return source(default)


def _fields(found: Definition) -> list[str]:
    """Return the fields of a dataclass, with their defaults."""
    return [
        source(node.target)
        + ("" if node.value is None else f"={value_of(node.value, found.module)}")
        for node, _ in documented(found.members)
        if found.dataclass and not source(node.annotation).startswith("ClassVar")
    ]


def _parameters(node: Function, module: str) -> list[str]:
    """Return the parameters with their types and defaults."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [*([None] * (len(plain) - len(given.defaults))), *given.defaults]
    parts = [_parameter(*pair, module) for pair in zip(plain, defaults, strict=True)]
    if given.vararg is not None:
        parts.append(f"*{_parameter(given.vararg, None, module)}")
    elif given.kwonlyargs:
        parts.append("*")
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    parts += [_parameter(*pair, module) for pair in named]
    if given.kwarg is not None:
        parts.append(f"**{_parameter(given.kwarg, None, module)}")
    return parts


def _parameter(argument: ast.arg, default: ast.expr | None, module: str) -> str:
    text = argument.arg
    if argument.annotation is not None:
        text += f": {source(argument.annotation)}"
    return text if default is None else f"{text} = {value_of(default, module)}"


def _written(name: str, parts: Sequence[str], returned: str = "") -> str:
    line = f"{name}({', '.join(parts)}){returned}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){returned}"])
