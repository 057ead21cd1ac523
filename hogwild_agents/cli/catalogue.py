"""``hogwild prompts`` and ``hogwild policies``: what can be named, and what each is for."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hogwild_agents.cli.build import OPTIONS, POLICIES
from hogwild_agents.config import RunConfig


def prompts(folder: Path | None) -> int:
    """Print the prompts of the package, or of a folder; return the exit code.

    Raises:
        ConfigError: there is no such folder, or a file in it is broken.
    """
    from hogwild_agents import available_prompts

    _print(available_prompts(folder).items())
    return 0


def policies() -> int:
    """Print the policies that a config can name; return the exit code."""
    _print(described())
    return 0


def described() -> Iterator[tuple[str, str]]:
    """Yield the policies' names, each with what it is for."""
    from hogwild_agents import policies

    default = RunConfig.model_fields["policies"].default
    for name, kind in POLICIES.items():
        summary = inspect.getdoc(getattr(policies, kind)) or ""
        options = [f"--{key.replace('_', '-')}" for key in OPTIONS.get(name, {}).values()]
        notes = ["by default"] * (name in default) + options
        text = " ".join(summary.partition("\n\n")[0].replace("``", "").split())
        yield name, f"{text} ({', '.join(notes)})" if notes else text


def _print(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table that fits a terminal, or else one line for each name."""
    console = Console(highlight=False)
    found = list(rows)
    if not console.is_terminal:
        width = max((len(name) for name, _ in found), default=0)
        for name, text in found:
            print(f"{name:{width}}  {text}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in found:
        table.add_row(Text(name), Text(text))
    console.print(table)
