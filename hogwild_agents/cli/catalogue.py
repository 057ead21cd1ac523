"""``hogwild prompts`` and ``hogwild policies``: what can be named, and what each is for."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from hogwild_agents.cli.build import OPTIONS, POLICIES
from hogwild_agents.cli.columns import print_columns
from hogwild_agents.config import RunConfig


def prompts(folder: Path | None) -> int:
    """Print the prompts of the package, or of a folder; return the exit code.

    Raises:
        ConfigError: there is no such folder, or a file in it is broken.
    """
    from hogwild_agents import available_prompts

    found = available_prompts(folder)
    if not found:
        where = f"the folder {str(folder)!r}"
        print(
            f"hogwild: there are no prompts in {where}: add NAME.md or NAME.txt.", file=sys.stderr
        )
    print_columns(found.items(), style="bold")
    return 0


def policies() -> int:
    """Print the policies that a config can name; return the exit code."""
    print_columns(described(), style="bold")
    return 0


def described() -> Iterator[tuple[str, str]]:
    """Yield the policies' names, each with what it is for."""
    docstrings = _docstrings()
    default = RunConfig.model_fields["policies"].default
    for name, kind in POLICIES.items():
        options = [f"--{key.replace('_', '-')}" for key in OPTIONS.get(name, {}).values()]
        notes = ["by default"] * (name in default) + options
        text = " ".join(docstrings[kind].partition("\n\n")[0].replace("``", "").split())
        yield name, f"{text} ({', '.join(notes)})" if notes else text


def _docstrings() -> dict[str, str]:
    """Return the docstrings of the policies' classes, read from their source.

    To import the classes would take the engine with them, and so torch: seconds for a few lines.
    """
    package = find_spec("hogwild_agents.policies")
    assert package is not None, "it comes with this package"
    return {
        node.name: ast.get_docstring(node) or ""
        for folder in package.submodule_search_locations or ()
        for file in Path(folder).glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
