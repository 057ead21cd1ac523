"""The tables of the manual have what the code has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from hogwild_agents import Board, Limits, RunView, SamplingParams
from hogwild_agents.cli.app import app
from hogwild_agents.cli.build import OPTIONS, POLICIES
from hogwild_agents.config import RunConfig
from hogwild_agents.events import NAMES
from hogwild_agents.layouts import LAYOUTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
CODE = re.compile(r"`(\w+)[^`]*`")


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of the table with this head, row by row."""
    _, _, rest = (DOCS / page).read_text(encoding="utf-8").partition(f"{head}\n")
    assert rest, f"{page} has no table {head!r}"
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def first(page: str, head: str) -> set[str]:
    """Return the names in the first column of a table."""
    return {name for row in rows(page, head) for name in CODE.findall(row[0])}


def public(kind: type) -> set[str]:
    """Return the public attributes and methods of a class."""
    return {name for name in vars(kind) if not name.startswith("_")}


def test_policies_have_the_names_of_the_command_line() -> None:
    found = {}
    for policy, name, *_ in rows("policies.md", "| policy | `--policy` | decides | what it does |"):
        if name:
            found[name.strip("`")] = re.match(r"\[`(\w+)\(", policy)
    assert {name: kind and kind[1] for name, kind in found.items()} == POLICIES
    assert tuple(found)[:3] == RunConfig().policies


def test_commands_are_all_listed() -> None:
    told = {
        name
        for command, _ in rows("command-line.md", "| command | what it does |")
        for name in re.findall(r"`hogwild (\w+)", command)
    }
    commands = {str(command.name) for command in app.registered_commands if not command.hidden}
    assert told == commands | {str(group.name) for group in app.registered_groups}


def test_options_of_policies_are_told() -> None:
    page = " ".join((DOCS / "policies.md").read_text(encoding="utf-8").split())
    for name, options in OPTIONS.items():
        for parameter, key in options.items():
            option = f"--{key.replace('_', '-')}"
            assert re.search(rf"`{option}` (is )?the `{parameter}` of `{name}`", page)


def test_events_have_their_handlers_and_fields() -> None:
    found = {
        CODE.findall(handler)[0]: (CODE.findall(event), set(CODE.findall(names)))
        for handler, event, names, _ in rows(
            "policies.md", "| handler | event | its fields | when |"
        )
    }
    assert found == {
        f"on_{name}": ([kind.__name__], {field.name for field in fields(kind)} | public(kind))
        for name, kind in NAMES.items()
    }


def test_run_views_are_told_whole() -> None:
    assert first("policies.md", "| `self.run` | |") == public(RunView)


def test_limits_and_sampling_are_told_whole() -> None:
    assert first("layouts.md", "| `Limits` | ends the thinking after |") == {
        field.name for field in fields(Limits)
    }
    sampling = rows("layouts.md", "| `SamplingParams` | default | |")
    assert {CODE.findall(name)[0]: default for name, default, _ in sampling} == {
        field.name: "none" if value in (frozenset(), {}) else str(value)
        for field in fields(SamplingParams)
        for value in [getattr(SamplingParams(), field.name)]
    }


def test_every_layout_has_its_row() -> None:
    head = "| layout | sees of the others | a finished step | take it when |"
    found = {row[0].strip("`"): row[2] for row in rows("layouts.md", head)}
    assert set(found) == set(LAYOUTS)
    for name, kind in LAYOUTS.items():
        assert found[name].startswith("moves") == kind.steps_move


def test_what_is_told_of_a_board_is_there() -> None:
    cells = " ".join(row[0] for row in rows("layouts.md", "| of the board | |"))
    told = set(re.findall(r"`(?:board\.)?(\w+)", cells))
    assert len(told) > 8
    assert told <= {field.name for field in fields(Board)} | public(Board)
