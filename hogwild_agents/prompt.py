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
readers only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from hogwild_agents.errors import ConfigError

_PACKAGE = "hogwild_agents.prompts"
_HEADER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KEYS = ("name", "description", "source", "text")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Prompt:
    """A text with variables.

    Attributes:
        name: what it is called.
        description: what it is for, in one line.
        text: the jinja2 template.
        source: where the words come from.
    """

    name: str
    description: str
    text: str
    source: str = ""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a prompt: one of the package's by its name, or any file by its path.

        A string is a path if it ends in ``.md`` or ``.txt`` or has a slash in it.

        Raises:
            ConfigError: there is no such prompt, or its file is broken.
        """
        given = str(name_or_path)
        if isinstance(name_or_path, Path) or _is_path(given):
            path = Path(name_or_path).expanduser()
            return cls._parse(_read(path), path.stem, str(path))
        names = available_prompts()
        if given not in names:
            raise ConfigError(
                f"There is no prompt {given!r}: choose one of {', '.join(names)}, or give the path "
                "of a file."
            )
        file = resources.files(_PACKAGE).joinpath(f"{given}.md")
        return cls._parse(file.read_text(encoding="utf-8"), given, f"{given}.md")

    @classmethod
    def _parse(cls, content: str, name: str, where: str) -> Self:
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
        )
        prompt._template()
        return prompt

    def render(self, **variables: object) -> str:
        """Return the text with its variables filled in.

        Raises:
            ConfigError: a variable is missing, or the template fails.
        """
        template = self._template()
        try:
            return template.render(variables)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ConfigError(
                f"The prompt {self.name!r} cannot be rendered, because {_reason(error)}: it was "
                f"given the variables {sorted(variables)}."
            ) from error

    def _template(self) -> Template:
        environment = SandboxedEnvironment(
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )
        try:
            return environment.from_string(self.text)
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"The prompt {self.name!r} is no jinja2 template: {_reason(error)} in line "
                f"{error.lineno} of its text."
            ) from error


def available_prompts() -> tuple[str, ...]:
    """Return the names of the package's prompts, in alphabetical order."""
    files = resources.files(_PACKAGE).iterdir()
    return tuple(sorted(file.name[:-3] for file in files if file.name.endswith(".md")))


def _is_path(given: str) -> bool:
    return given.endswith((".md", ".txt")) or not _NAME.fullmatch(given)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"There is no prompt file {str(path)!r}: give the path of a text file, or one of the "
            f"names {', '.join(available_prompts())}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The prompt file {str(path)!r} cannot be read as UTF-8 text: {_reason(error)}."
        ) from error


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
