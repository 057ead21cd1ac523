"""The package's prompts: each renders with what the docs say it takes, and is fit to be said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hogwild_agents.errors import ConfigError
from hogwild_agents.layouts import LAYOUTS, Headings
from hogwild_agents.prompt import Prompt, available_prompts
from hogwild_agents.steps import SENTENCE_ENDS, step_end

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([^|\[]*)(?:\[([^|\]]*)\])? *\| [^|]+ \|$", re.MULTILINE)
NAMES = ["Alice", "Bob", "Carol", "Dave", "Zoë-7"]
PREFIX = Headings().opening("Alice", 3)


def words(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`(\w+)`", cell))


TABLE = {row[1]: (words(row[2]), words(row[3] or "")) for row in ROW.finditer(PAGE)}
"""What docs/prompts.md says: each prompt's variables, those it must have and those it may."""

VALUES: dict[str, object] = {
    "answer": "12, 7",
    "author": "Bob",
    "error": "it is no JSON.",
    "examples": True,
    "form": "a whole number.",
    "headings": Headings(past="-- Done --\n\n", prefix="{name}/{step}> ", unfinished=" [...]\n\n"),
    "insults": True,
    "mistake": "a wrong sign",
    "moderator": "Ann",
    "number": 2,
    "opponents": ["Bob", "Carol"],
    "options": ["12", "13", "14"],
    "point": "Count the odd ones. ",
    "points": 4,
    "position": "0.5 is right.",
    "previous": "Bob",
    "step": 3,
    "task": "Check Bob's sum.",
    "tokens": 120,
}
SAID = sorted(set(TABLE) - {name for name in TABLE if name.startswith(("coll", "ex", "role_"))})
ANYWHERE = {name for name in SAID if PAGE.index(f"| `{name}`") > PAGE.index("an empty line of")}


def given(name: str, count: int, layout: str, *, all_of_them: bool) -> dict[str, object]:
    must, may = TABLE[name]
    values = {**VALUES, "names": NAMES[:count], "layout": layout}
    return {key: values[key] for key in (must | may if all_of_them else must)}


def test_the_page_lists_every_prompt_with_its_variables() -> None:
    assert list(TABLE) == list(dict.fromkeys(TABLE))
    assert set(TABLE) == set(available_prompts())
    for name, (must, may) in TABLE.items():
        assert not must & may
        assert set(Prompt.load(name).variables) == must | may, name


@pytest.mark.parametrize("name", TABLE)
def test_every_prompt_renders_for_any_team(name: str) -> None:
    prompt = Prompt.load(name)
    fewest = 2 if name.startswith("example_") else 1  # a trace of collaboration has two workers
    for count in (fewest, 2, 5):
        for layout in [*LAYOUTS, "custom"]:
            for all_of_them in (False, True):
                text = prompt.render(**given(name, count, layout, all_of_them=all_of_them))
                assert text.strip()
                assert "\n\n\n" not in text
                assert not re.search(r"\{%|\{\{|\}\}|\w\.\.|  |undefined|None", text), text


@pytest.mark.parametrize("name", TABLE)
def test_a_prompt_fails_without_what_it_must_have(name: str) -> None:
    values = given(name, 2, "combined", all_of_them=True)
    for variable in TABLE[name][0]:
        with pytest.raises(ConfigError, match=f"'{variable}' is undefined"):
            Prompt.load(name).render(**{k: v for k, v in values.items() if k != variable})


def test_a_trace_of_one_worker_is_an_error() -> None:
    with pytest.raises(ConfigError, match="example_split"):
        Prompt.load("example_split").render(names=["Alice"])


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_leaves_the_step_open(name: str) -> None:
    text = Prompt.load(name).render(**given(name, 3, "combined", all_of_them=True))
    if name == "answer_format":  # appended to a problem
        assert text.endswith(".")
        return
    assert "#" not in text
    assert text.rstrip()[-1] not in SENTENCE_ENDS or text.endswith("1. ")
    assert text.endswith(("\\boxed{", "): ", ":\n", "1. ", "Alice: "))
    assert text.startswith("\n\n") == (name in ANYWHERE)
    assert step_end(PREFIX + text.lstrip("\n")) is None
    assert text.count("\\boxed{") <= 1


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("role_")])
def test_a_role_fits_the_private_and_the_public_block(name: str) -> None:
    text = Prompt.load(name).render()
    assert text.startswith("I ")
    assert "\n" not in text
    assert "#" not in text
    assert text[-1] in SENTENCE_ENDS
    assert Headings().introduction("Bob", text).startswith("### My role\n\nI am Bob. I ")
    assert len(text.split()) <= 130


def test_the_saboteur_s_mistake_and_the_debater_s_manners_can_be_chosen() -> None:
    role = Prompt.load("role_saboteur").render(mistake="a swapped digit")
    assert "might make: a swapped digit. Everything else" in role
    role = Prompt.load("role_debater").render(position="P = NP.", insults=True)
    assert "for one position: P = NP. I make" in role
    assert "an insult is no argument" in role
    assert "insult" not in Prompt.load("role_debater").render()
