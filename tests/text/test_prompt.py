"""Prompt files: the package's own, and those of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogwild_agents.errors import ConfigError
from hogwild_agents.prompt import Prompt, available_prompts

NAMES = ["Alice", "Bob", "Carol", "Dave", "Zoë-7"]


def test_the_paper_s_two_strings_are_exact() -> None:
    assert Prompt.load("redundancy_check").render() == (
        "Quick check: am I doing redundant work? (yes/no): "
    )
    assert Prompt.load("finisher").render() == (
        "\n\nWait, given the limited time, I have to give an answer right now. Considering all my "
        "previous attempts, I have to conclude that the final answer is \\boxed{"
    )


def test_every_prompt_of_the_package_says_what_it_is() -> None:
    assert set(available_prompts()) >= {"collaborate", "finisher", "redundancy_check"}
    for name in available_prompts():
        prompt = Prompt.load(name)
        assert prompt.name == name
        assert prompt.description.endswith(".")
        assert prompt.source


@pytest.mark.parametrize("layout", [None, "combined", "contiguous", "interleaved", "isolated"])
@pytest.mark.parametrize("count", range(1, 6))
def test_the_system_prompt_fits_any_team(count: int, layout: str | None) -> None:
    names = NAMES[:count]
    given = {} if layout is None else {"layout": layout}
    text = Prompt.load("collaborate").render(names=names, **given)
    assert text == text.strip()
    assert "\n\n\n" not in text
    assert "\\boxed{...}" in text
    assert ("### Past steps" in text) == (layout not in ("contiguous", "isolated"))
    alone = count == 1 or layout == "isolated"
    seen_live = not alone and layout != "interleaved"
    assert ("### Work in progress (others)" in text) == seen_live
    assert all(name in text for name in names) == (not alone or count == 1)
    if not alone:
        assert f"one of {count} workers" in text
        assert f"{', '.join(names[:-1])} and {names[-1]}" in text
    else:
        assert "workers" not in text


def test_the_system_prompt_needs_the_names() -> None:
    with pytest.raises(ConfigError, match="'names' is undefined"):
        Prompt.load("collaborate").render()


def write(folder: Path, content: str) -> Path:
    path = folder / "mine.md"
    path.write_text(content, encoding="utf-8")
    return path


def test_a_file_without_a_header_is_all_text(tmp_path: Path) -> None:
    prompt = Prompt.load(write(tmp_path, "\nHello {{ name }}.\n\n- one\n"))
    assert (prompt.name, prompt.description) == ("mine", "")
    assert prompt.render(name="Ann") == "Hello Ann.\n\n- one"


def test_a_header_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, "---\nname: x\ndescription: a: b\n---\n\nHello.\n---\nBye.\n")
    prompt = Prompt.load(str(path))
    assert (prompt.name, prompt.description) == ("x", "a: b")
    assert prompt.render() == "Hello.\n---\nBye."


def test_a_quoted_text_keeps_every_blank(tmp_path: Path) -> None:
    path = write(tmp_path, '---\ntext: "\\n {{ a }}\\t\\\\boxed{ \\n"\n---\nNotes.\n')
    assert Prompt.load(path).render(a="ä") == "\n ä\t\\boxed{ \n"


def test_values_are_not_escaped_or_run() -> None:
    prompt = Prompt(name="x", description="", text="{{ a }}")
    assert prompt.render(a="<b> & {{ c }}") == "<b> & {{ c }}"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("---\nname: x\nHello.\n", "not closed"),
        ("---\nauthor: me\n---\n", "author: me"),
        ("---\nname\n---\n", "'name'"),
        ("---\nname: a\nname: b\n---\n", "name: b"),
        ('---\ntext: "a\n---\n', "no JSON string"),
        ('---\ntext: "a" b\n---\n', "no JSON string"),
        ("{% if %}", "no jinja2 template"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        Prompt.load(write(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{{ a }}", "{{ 1 / 0 }}", "{{ ''.__class__.mro() }}", "{{ 1 + '' }}"]
)
def test_a_template_that_fails_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be rendered"):
        Prompt(name="x", description="", text=text).render(b=1)


def test_a_missing_prompt_is_told_with_the_choice() -> None:
    with pytest.raises(ConfigError, match="choose one of agreement, .*collaborate, .*vote_choice"):
        Prompt.load("colaborate")


@pytest.mark.parametrize("path", ["no/such/file", "nothing.md", "../finisher", Path("finisher")])
def test_a_missing_file_is_told(path: str | Path) -> None:
    with pytest.raises(ConfigError, match="no prompt file"):
        Prompt.load(path)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        Prompt.load(path)
