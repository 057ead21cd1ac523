"""``hogwild prompts`` and ``hogwild policies``: one line for each name, as a run takes them."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from hogwild_agents import Policy, available_prompts, policies
from hogwild_agents.cli.app import call
from hogwild_agents.cli.build import OPTIONS, POLICIES, build_policies
from hogwild_agents.config import RunConfig


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what a command prints: names, and what is said of each."""
    assert call(arguments) == 0
    rows = (line.partition(" ") for line in capsys.readouterr().out.splitlines())
    return {name: text.strip() for name, _, text in rows}


def test_every_prompt_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["prompts"], capsys) == available_prompts()


def test_prompts_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.md").write_text("---\ndescription: For [me] alone.\n---\nGo.")
    assert told(["prompts", str(tmp_path)], capsys) == {"mine": "For [me] alone."}


def test_a_folder_without_prompts_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "_part.md").write_text("for others to include")
    assert call(["prompts", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"hogwild: there are no prompts in the folder {str(tmp_path)!r}: add NAME.md or NAME.txt.\n"
    )


def test_every_policy_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(["policies"], capsys)
    assert list(found) == list(POLICIES)
    assert found["finisher"].endswith("(by default, --max-answer-tokens)")
    assert all(text[-1] in ".)" for text in found.values())


def test_what_is_said_of_a_policy_is_in_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(["policies"], capsys)
    for name, kind in POLICIES.items():
        first = (inspect.getdoc(getattr(policies, kind)) or "").partition("\n\n")[0]
        assert found[name].startswith(" ".join(first.replace("``", "").split()))


def test_every_policy_that_needs_no_arguments_can_be_named() -> None:
    kinds = [kind for kind in vars(policies).values() if isinstance(kind, type)]
    ready = {
        kind.__name__
        for kind in kinds
        if issubclass(kind, Policy)
        and all(
            one.default is not one.empty or one.kind == one.VAR_KEYWORD
            for one in inspect.signature(kind).parameters.values()
        )
    }
    assert set(POLICIES.values()) == ready


def test_all_that_can_be_named_can_be_made() -> None:
    made = build_policies(RunConfig(policies=tuple(POLICIES)))
    assert [type(policy).__name__ for policy in made] == list(POLICIES.values())


def test_options_are_parameters_and_keys_of_a_config() -> None:
    for name, options in OPTIONS.items():
        parameters = inspect.signature(getattr(policies, POLICIES[name])).parameters
        assert options.keys() <= parameters.keys()
        assert set(options.values()) <= RunConfig.model_fields.keys()
