"""Prompt files: the package's own, and those of others."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from hogwild_agents.errors import ConfigError
from hogwild_agents.prompt import Prompt, available_prompts


def test_the_paper_s_two_strings_are_exact() -> None:
    assert Prompt.load("redundancy_check").render() == (
        "Quick check: am I doing redundant work? (yes/no): "
    )
    assert Prompt.load("finisher").render() == (
        "\n\nWait, given the limited time, I have to give an answer right now. Considering all my "
        "previous attempts, I have to conclude that the final answer is \\boxed{"
    )


def test_every_prompt_of_the_package_says_what_it_is() -> None:
    prompts = available_prompts()
    assert set(prompts) >= {"collaborate", "finisher", "redundancy_check"}
    assert list(prompts) == sorted(prompts)
    for name, description in prompts.items():
        prompt = Prompt.load(name)
        assert prompt.name == name
        assert prompt.description == description
        assert description.endswith(".")
        assert prompt.source
        assert prompt.helps.endswith(".") == name.startswith(("example_", "role_"))


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


def test_a_missing_prompt_is_told_with_the_nearest_and_where_all_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        Prompt.load("colaborate")
    assert str(caught.value) == (
        "There is no prompt 'colaborate' in the package: did you mean 'collaborate'? "
        f"`hogwild prompts` lists all {len(available_prompts())}."
    )


def test_of_a_large_folder_the_command_that_lists_it_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, **{f"rule_{number}": "Go." for number in range(20)})
    with pytest.raises(ConfigError, match=r": `hogwild prompts \S*prompts` lists all 20\.$"):
        Prompt.load("xyz", folder=folder)


@pytest.mark.parametrize("path", ["no/such/file", "nothing.md", "../finisher", Path("finisher")])
def test_a_missing_file_is_told(path: str | Path) -> None:
    with pytest.raises(ConfigError, match="no prompt file"):
        Prompt.load(path)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        Prompt.load(path)


def folder_of(path: Path, **files: str) -> Path:
    folder = path / "prompts"
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.md").write_text(content, encoding="utf-8")
    return folder


def test_a_folder_s_prompts_are_loaded_and_listed_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, skeptic="---\ndescription: Doubts.\n---\nI doubt.", _part="x")
    (folder / "short.txt").write_text("Go.")
    (folder / "data.json").write_text("{}")
    (folder / "below").mkdir()
    (folder / "below" / "deep.md").write_text("Deep.")
    assert available_prompts(folder) == {"short": "", "skeptic": "Doubts."}
    for name in ("skeptic", "skeptic.md"):
        for given in (folder, str(folder)):
            prompt = Prompt.load(name, folder=given)
            assert (prompt.name, prompt.render()) == ("skeptic", "I doubt.")
    assert Prompt.load("short", folder=folder).render() == "Go."


@pytest.mark.parametrize("name", ["collaborate", "below/deep", "../x", "/etc/passwd", "", "data"])
def test_what_a_folder_lacks_is_told_with_the_choice(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, skeptic="I doubt.", planner="I plan.")
    with pytest.raises(ConfigError, match=r"no prompt .* in the folder .*: choose one of planner,"):
        Prompt.load(name, folder=folder)


def test_a_folder_that_is_empty_or_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"and no other: add skeptic\.md"):
        Prompt.load("skeptic", folder=folder_of(tmp_path))
    with pytest.raises(ConfigError, match="There is no folder"):
        Prompt.load("skeptic", folder=tmp_path / "none")
    with pytest.raises(ConfigError, match="There is no folder"):
        available_prompts(tmp_path / "none")


@pytest.mark.parametrize("by_path", [True, False])
def test_prompts_of_one_folder_include_each_other(tmp_path: Path, by_path: bool) -> None:
    folder = folder_of(
        tmp_path,
        rules='{% from "_tools" import shout %}{{ shout(a) }} {% include "end.md" %}|',
        _tools="{% macro shout(text) %}{{ text | upper }}!{% endmacro %}",
        end='---\ntext: "So says {{ who }}. "\n---\nNotes.',
    )
    path = folder / "rules.md"
    prompt = Prompt.load(path) if by_path else Prompt.load("rules", folder=folder)
    assert prompt.render(a="no", who="Ann") == "NO! So says Ann. |"
    assert prompt.variables == ("a", "who")


def test_a_folder_s_prompt_may_build_on_the_package_s_and_replace_parts(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        mine='{% set examples = ["split"] %}{% include "collaborate" %}',
        example_split="Do as I do.",
    )
    text = Prompt.load("mine", folder=folder).render(names=["A", "B"])
    assert text.startswith("You are one of 2 workers")
    assert "Example 1. Do as I do." in text


@pytest.mark.parametrize(
    "name", ["../secret", "../secret.md", "link", "below/deep", "..", ".", "/", "~", "secret"]
)
@pytest.mark.parametrize("tag", ["include", "import", "extends"])
def test_an_include_never_leaves_its_folder(tmp_path: Path, tag: str, name: str) -> None:
    folder = folder_of(tmp_path)
    (tmp_path / "secret.md").write_text("Secret.")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "below").mkdir()
    (folder / "below" / "deep.md").write_text("Deep.")
    ending = " as x" if tag == "import" else ""
    (folder / "mine.md").write_text(f'{{% {tag} "{name}"{ending} %}}')
    with pytest.raises(ConfigError, match=r"cannot be rendered, .*no prompt .*of mine: it was"):
        Prompt.load("mine", folder=folder).render()


def test_an_include_that_fails_names_the_prompt_at_fault(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a='{% include "b" %}', b="{% if %}", c='{% include "c" %}')
    with pytest.raises(ConfigError, match="The prompt 'b' is no jinja2 template"):
        Prompt.load("a", folder=folder).render()
    with pytest.raises(ConfigError, match=r"The prompt 'c' cannot be rendered, .*recursion"):
        Prompt.load("c", folder=folder).render()


@pytest.mark.parametrize(
    "text",
    [
        "{{ a.__class__ }}",
        "{{ a.append.__globals__ }}",
        "{{ f.__code__ }}",
        "{{ f.__globals__ }}",
        "{{ ''['__class__'] }}",
        "{{ '{0.__class__}'.format(a) }}",
        "{{ a | attr('__class__') }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ a.append(1) }}",
        "{{ a.clear() }}",
        "{{ d.update(x=1) }}",
        "{{ open('/etc/passwd') }}",
    ],
)
def test_a_template_reaches_no_python_and_changes_nothing(text: str) -> None:
    items, pairs = [1], {"y": 2}
    with pytest.raises(ConfigError, match="cannot be rendered"):
        Prompt(name="x", description="", text=text).render(a=items, d=pairs, f=write)
    assert (items, pairs) == ([1], {"y": 2})


def test_an_object_that_fails_under_a_template_is_told() -> None:
    class Bad:
        def __str__(self) -> str:
            raise OSError("gone")

    with pytest.raises(ConfigError, match="cannot be rendered, because gone"):
        Prompt(name="x", description="", text="{{ a }}").render(a=Bad())


def test_bound_values_stay_unless_others_are_given() -> None:
    prompt = Prompt(name="x", description="", text="{{ a }}{{ b }}")
    bound = prompt.bind(a=1).bind(b=2)
    assert (bound.render(), bound.render(a=3), bound.name) == ("12", "32", "x")
    assert prompt.values == {}
    assert hash(bound) == hash(prompt)


def test_a_file_that_is_edited_is_read_anew(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a='{% include "b" %}', b="one")
    prompt = Prompt.load("a", folder=folder)
    assert (prompt.render(), prompt.variables) == ("one", ())
    (folder / "b.md").write_text("{{ two }}")
    assert (prompt.render(two=2), prompt.variables) == ("2", ("two",))
    (folder / "b.md").unlink()
    with pytest.raises(ConfigError, match="no prompt 'b'"):
        prompt.render()
    assert prompt.variables == ()


def test_what_may_be_missing_is_passed_over(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a='Yes{% include "no" ignore missing %}.')
    assert Prompt.load("a", folder=folder).render() == "Yes."


def test_a_prompt_is_copied_with_its_policy() -> None:
    prompt = Prompt.load("turn").bind(previous="Bob")
    assert deepcopy(prompt) == prompt
    assert deepcopy(prompt).render() == prompt.render()
