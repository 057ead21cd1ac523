"""Definitions: what the source says of a name. It is parsed, and nothing of it is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import cleandoc
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "hogwild_agents"
OUTSIDE = ("policies", "prompts")
"""Its packages that stand at the top of the repository."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """What a name stands for.

    Attributes:
        module: dotted.
        name: in the module.
        node: the statement.
        doc: its docstring, or the string that follows an assignment.
    """

    module: str
    name: str
    node: ast.stmt
    doc: str

    @property
    def members(self) -> list[ast.stmt]:
        """The statements of a class."""
        return self.node.body if isinstance(self.node, ast.ClassDef) else []

    @property
    def functions(self) -> dict[str, list[Function]]:
        """A class's functions, or this one; see :func:`functions`."""
        one = functions(statements(self.module)).get(self.name)
        return functions(self.members) if one is None else {self.name: one}

    @property
    def dataclass(self) -> str:
        """The decorator that makes a class a dataclass, or nothing."""
        given = self.node.decorator_list if isinstance(self.node, ast.ClassDef) else []
        return next((text for one in given if (text := source(one)).startswith("dataclass")), "")

    @property
    def bases(self) -> list[Definition | str]:
        """The bases of a class; a name, where one is from elsewhere."""
        given = self.node.bases if isinstance(self.node, ast.ClassDef) else []
        names = [source(one.value if isinstance(one, ast.Subscript) else one) for one in given]
        return [find(self.module, name) or name for name in names]

    @property
    def kinds(self) -> list[str]:
        """The names of the bases that are public, those of private bases among them."""
        found: list[str] = []
        for base in self.bases:
            if isinstance(base, str):
                found.append(base)
            else:
                found += base.kinds if base.name.startswith("_") else [base.name]
        return found

    @property
    def lineage(self) -> list[Definition]:
        """A class and its bases of this package, nearest first."""
        above = [base.lineage for base in self.bases if isinstance(base, Definition)]
        return [self, *(one for line in above for one in line)]

    @property
    def own(self) -> list[Definition]:
        """A class and its private bases."""
        return [one for one in self.lineage if one is self or one.name.startswith("_")]


@dataclass
class Doc:
    """A docstring in its parts.

    Attributes:
        text: what stands before the sections.
        sections: by title, what is said by name; all of it under "" for what is returned.
    """

    text: str = ""
    sections: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, doc: str) -> Doc:
        """Take a docstring apart."""
        parts = re.split(r"^(Args|Attributes|Returns|Raises):\n", doc, flags=re.MULTILINE)
        read = cls(parts[0].strip())
        for title, body in zip(parts[1::2], parts[2::2], strict=True):
            text = cleandoc("\n" + body)
            items = re.findall(r"^(\S.*?):\s(.*(?:\n(?: .*)?)*)", text, re.MULTILINE)
            read.sections[title] = (
                {"": text}
                if title == "Returns"
                else {name: said for names, said in items for name in names.split(", ")}
            )
        return read

    def get(self, title: str) -> Iterable[tuple[str, str]]:
        """Return a section's names and what is said of them."""
        return self.sections.get(title, {}).items()


def file_of(module: str) -> Path:
    """Return a module's file; of a package the one for type checkers, if there is one."""
    parts = module.split(".")
    path = ROOT.joinpath(*(parts[1:] if parts[1:2] and parts[1] in OUTSIDE else parts))
    files = (path / "__init__.pyi", path / "__init__.py", path.with_suffix(".py"))
    return next(file for file in files if file.exists())


@lru_cache
def statements(module: str) -> tuple[ast.stmt, ...]:
    """Return the statements of a module, and those under an ``if``."""
    body = ast.parse(file_of(module).read_text(encoding="utf-8")).body
    return (*body, *(inner for outer in body if isinstance(outer, ast.If) for inner in outer.body))


@lru_cache
def find(module: str, name: str) -> Definition | None:
    """Return what a name of a module stands for; None if it is from elsewhere."""
    body = statements(module)
    if name in (found := functions(body)):
        node = found[name][-1]
        return Definition(module, name, node, doc_of(node))
    for statement, after in pairs(body):
        match statement:
            case ast.ImportFrom(module=str(origin)) if origin.partition(".")[0] == PACKAGE:
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return find(origin, alias.name)
            case ast.ClassDef() if statement.name == name:
                return Definition(module, name, statement, doc_of(statement))
            case ast.Assign() | ast.AnnAssign() if name in targets(statement):
                return Definition(module, name, statement, literal(after))
            case _:
                pass
    return None


def exported(module: str) -> list[str]:
    """Return the names in a module's ``__all__``; without one, those that it imports or classes."""
    found: list[str] = []
    for node in statements(module):
        if isinstance(node, ast.Assign) and "__all__" in targets(node):
            names: list[str] = ast.literal_eval(node.value)
            return names
        if isinstance(node, ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            found += [alias.asname for alias in node.names if alias.asname]
    return found


def functions(body: Iterable[ast.stmt]) -> dict[str, list[Function]]:
    """Return the functions of a body by name; the last of each is no overload."""
    found: dict[str, list[Function]] = {}
    for node in body:
        if isinstance(node, Function) and not any("setter" in one for one in decorators(node)):
            found.setdefault(node.name, []).append(node)
    return found


def kept(found: Definition) -> dict[str, str]:
    """Return the types of the parameters that a class keeps as attributes of the same name."""
    made = found.functions.get("__init__", [])[-1:]
    stored = {
        source(target).removeprefix("self.")
        for function in made
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
    }
    return {
        one.arg: "" if one.annotation is None else source(one.annotation)
        for function in made
        for one in [*function.args.args, *function.args.kwonlyargs]
        if one.arg in stored
    }


def documented(body: Sequence[ast.stmt]) -> Iterator[tuple[ast.AnnAssign, str]]:
    """Yield the annotated public names of a class, each with the string that follows it."""
    for node, after in pairs(body):
        if isinstance(node, ast.AnnAssign) and not source(node.target).startswith("_"):
            yield node, literal(after)


def pairs(body: Sequence[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    """Yield each statement with the one after it."""
    return zip(body, [*body[1:], ast.Pass()], strict=True)


def targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    """Return the names that an assignment binds."""
    bound = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in bound if isinstance(target, ast.Name)]


def decorators(node: Function) -> list[str]:
    """Return a function's decorators."""
    return [source(one) for one in node.decorator_list]


def doc_of(node: Function | ast.ClassDef) -> str:
    """Return a docstring, or nothing."""
    return ast.get_docstring(node) or ""


def literal(node: ast.stmt) -> str:
    """Return the string that a statement consists of, or nothing."""
    value = node.value if isinstance(node, ast.Expr) else None
    text = value.value if isinstance(value, ast.Constant) else None
    return cleandoc(text) if isinstance(text, str) else ""


def source(node: ast.AST) -> str:
    """Return an expression as text, with double quotes."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')
