r"""Prompts: files of text with variables.

A prompt file is text for jinja2, after an optional header::

    ---
    name: finisher
    description: What one worker is given at the budget.
    source: where the words come from
    text: "\n\nWait, ..."
    ---
    Notes for the reader.

The header's values are single lines; one in double quotes is read as a JSON string. Without
``text`` the prompt is what follows the header, less the newlines at its two ends. With ``text`` the
prompt is exactly that string, every blank and newline kept, and what follows the header is for
readers only. (In any template, a newline right after a ``%}`` is dropped; ``+%}`` keeps it.)

Templates run in jinja2's sandbox: they reach no Python, change nothing that they are given, and
include only prompts of their own folder and of the package.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from jinja2 import (
    BaseLoader,
    Environment,
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    meta,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hogwild_agents.errors import ConfigError
from hogwild_agents.prompt_folder import ENDINGS, PromptFolder, read_text

_HEADER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KEYS = ("name", "description", "helps", "source", "text")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Prompt:
    """A text with variables.

    Attributes:
        name: what it is called.
        description: what it is for, in one line.
        text: the jinja2 template.
        source: where the words come from.
        helps: when it helps, in one line.
        folder: whose prompts it may include, besides the package's; None for no folder.
        values: what its variables are, unless :meth:`render` is told otherwise.
    """

    name: str
    description: str
    text: str
    source: str = ""
    helps: str = ""
    folder: Path | None = None
    values: Mapping[str, object] = field(default_factory=dict, hash=False)

    @classmethod
    def load(
        cls, name_or_path: str | Path, *, folder: str | os.PathLike[str] | None = None
    ) -> Self:
        """Read a prompt: one of the package's by its name, or any file by its path.

        A string is a path if it ends in ``.md`` or ``.txt`` or has a slash in it.

        Args:
            name_or_path: which one.
            folder: one with prompts of your own; then a name is always one in there.

        Raises:
            ConfigError: there is no such prompt or folder, or the file is broken.
        """
        if not isinstance(name_or_path, str | os.PathLike):
            raise ConfigError(
                f"The prompt {name_or_path!r} cannot be read: give the name of one, or the path "
                "of a file."
            )
        given = str(name_or_path)
        if folder is not None:
            return cls._find(given, PromptFolder(folder), Path(folder).expanduser())
        if isinstance(name_or_path, Path) or _is_path(given):
            path = Path(name_or_path).expanduser()
            return cls._parse(_read(path), path.stem, str(path), path.parent)
        return cls._find(given, PromptFolder(), None)

    @classmethod
    def _find(cls, name: str, shelf: PromptFolder, folder: Path | None) -> Self:
        file = shelf.get(name)
        return cls._parse(read_text(file), _stem(name), str(file), folder)

    @classmethod
    def _parse(cls, content: str, name: str, where: str, folder: Path | None) -> Self:
        header = _HEADER.match(content)
        if header is None and content.startswith("---\n"):
            raise ConfigError(
                f"The header of the prompt file {where} is not closed: end it with a line '---'."
            )
        values = _header(header[1], where) if header else {}
        body = content[header.end() :] if header else content
        prompt = cls(
            name=values.get("name", name),
            description=values.get("description", ""),
            text=values.get("text", body.strip("\n")),
            source=values.get("source", ""),
            helps=values.get("helps", ""),
            folder=folder,
        )
        prompt._template()
        return prompt

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that the text and what it includes ask for, in alphabetical order.

        What is included by a name that is itself worked out, or is not there, is not looked into.
        """
        environment, loader = _environment(self.folder), _Loader(self.folder)
        found: set[str] = set()
        seen: set[str] = set()
        texts = [self.text]
        while texts:
            tree = environment.parse(texts.pop())
            found |= meta.find_undeclared_variables(tree)
            for name in set(meta.find_referenced_templates(tree)) - seen - {None}:
                seen.add(str(name))
                with suppress(TemplateNotFound):
                    texts.append(loader.text(str(name)))
        return tuple(sorted(found))

    def bind(self, **variables: object) -> Self:
        """Return the same prompt with some of its variables filled in."""
        return replace(self, values={**self.values, **variables})

    def render(self, **variables: object) -> str:
        """Return the text with its variables filled in.

        Variables that the text does not ask for are ignored.

        Raises:
            ConfigError: a variable is missing, or the template fails.
        """
        given = {**self.values, **variables}
        template = self._template()
        try:
            return template.render(given)
        except ConfigError:
            raise
        except Exception as error:  # a template is somebody else's program: it may raise anything
            raise ConfigError(
                f"The prompt {self.name!r} cannot be rendered, because {_reason(error)}: it was "
                f"given the variables {sorted(given)}."
            ) from error

    def _template(self) -> Template:
        try:
            return _compile(self.text, self.folder)
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"The prompt {self.name!r} is no jinja2 template: {_reason(error)} in line "
                f"{error.lineno} of its text."
            ) from error


@lru_cache(maxsize=256)
def _compile(text: str, folder: Path | None) -> Template:
    return _environment(folder).from_string(text)


@lru_cache(maxsize=32)
def _environment(folder: Path | None) -> Environment:
    return ImmutableSandboxedEnvironment(
        loader=_Loader(folder),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )


class _Loader(BaseLoader):
    """What ``{% include %}`` and ``{% import %}`` read: prompts of a folder, or the package's."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, None, Callable[[], bool]]:
        text = self.text(template)
        return text, None, lambda: self.text(template) == text

    def text(self, name: str) -> str:
        """Return the text of a prompt as it is at this moment."""
        shelves = [PromptFolder(self._folder)] if self._folder is not None else []
        shelves.append(PromptFolder())
        for shelf in shelves:
            file = shelf.find(name)
            if file is not None:
                content = read_text(file)
                return Prompt._parse(content, _stem(name), str(file), self._folder).text
        raise TemplateNotFound(name, shelves[0].missing(name))


def available_prompts(folder: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Return the prompts that can be loaded by name, in alphabetical order, each with what it is.

    Args:
        folder: one with prompts of your own; None for the package's.

    Raises:
        ConfigError: there is no such folder, or a file in it is broken.
    """
    names = PromptFolder(folder).names()
    return {name: Prompt.load(name, folder=folder).description for name in names}


def _is_path(given: str) -> bool:
    return given.endswith(ENDINGS) or not _NAME.fullmatch(given)


def _stem(name: str) -> str:
    return name.removesuffix(".md").removesuffix(".txt")


def _read(path: Path) -> str:
    if not path.exists():
        raise ConfigError(
            f"There is no prompt file {str(path)!r}: give the path of a text file, or a name that "
            "`hogwild prompts` lists."
        )
    return read_text(path)


def _header(lines: str, where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in filter(str.strip, lines.splitlines()):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or key not in _KEYS or key in values:
            raise ConfigError(
                f"The header of the prompt file {where} has the line {line!r}: write 'key: value', "
                f"once for each of {', '.join(_KEYS)}."
            )
        values[key] = _value(value, key, where)
    return values


def _value(value: str, key: str, where: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError as error:
        raise ConfigError(
            f"The header of the prompt file {where} gives {key} in quotes that are no JSON string "
            f"({_reason(error)}): write newlines as \\n and a backslash as \\\\."
        ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
