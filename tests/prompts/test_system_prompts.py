"""The system prompts: true for any team, in either person, with or without traces."""

from __future__ import annotations

import re

import pytest

from hogwild_agents.errors import ConfigError
from hogwild_agents.layouts import LAYOUTS, Headings
from hogwild_agents.prompt import Prompt, available_prompts

NAMES = ["Alice", "Bob", "Carol", "Dave", "Zoë-7"]
BOTH = ["collaborate", "collaborate_first_person"]
TRACES = [name for name in available_prompts() if name.startswith("example_")]


@pytest.mark.parametrize("layout", [None, *LAYOUTS, "custom"])
@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("name", BOTH)
def test_the_system_prompt_fits_any_team(name: str, count: int, layout: str | None) -> None:
    names = NAMES[:count]
    given = {} if layout is None else {"layout": layout}
    text = Prompt.load(name).render(names=names, **given)
    assert text == text.strip()
    assert "\n\n\n" not in text
    assert "\\boxed{...}" in text
    assert ("### Past steps" in text) == (layout not in ("contiguous", "isolated"))
    alone = count == 1 or layout == "isolated"
    seen_live = not alone and layout != "interleaved"
    assert ("### Work in progress (others)" in text) == seen_live
    assert ('"<...>"' in text) == seen_live
    assert ("**Alice [1]:** " in text) == (not alone or count == 1)
    if not alone:
        assert f"one of {count} workers" in text
        assert f"{', '.join(names[:-1])} and {names[-1]}" in text
    else:
        assert "workers" not in text


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 3])
def test_each_speaks_in_its_person(count: int, layout: str) -> None:
    you, me = (Prompt.load(name).render(names=NAMES[:count], layout=layout) for name in BOTH)
    assert not re.search(r"\b(I|me|my|we|us|our)\b", you)
    assert not re.search(r"\b(you|your|yourself)\b", me, re.IGNORECASE)
    assert len(you.splitlines()) == len(me.splitlines())


@pytest.mark.parametrize("name", BOTH)
def test_the_system_prompt_needs_the_names(name: str) -> None:
    with pytest.raises(ConfigError, match="'names' is undefined"):
        Prompt.load(name).render()


@pytest.mark.parametrize("name", BOTH)
def test_the_system_prompt_speaks_of_the_team_s_own_headings(name: str) -> None:
    own = Headings(
        past="== Done\n\n",
        others="== They\n\n",
        own="== I\n\n",
        unfinished=" (to be continued)\n\n",
        prefix="{name}, no. {step}: ",
    )
    text = Prompt.load(name).render(names=NAMES[:2], headings=own, examples=True)
    for shown in ('"== Done"', '"== They"', '"== I"', '"(to be continued)"', '"Alice, no. 1: "'):
        assert shown in text
    assert "\n\n== Done\n\nAlice, no. 1: I split it." in text
    assert "#" not in text
    assert "**" not in text
    assert "<...>" not in text


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "isolated"])
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("name", BOTH)
def test_traces_are_appended_when_asked_for(name: str, count: int, layout: str) -> None:
    prompt = Prompt.load(name)
    given: dict[str, object] = {"names": NAMES[:count], "layout": layout}
    plain = prompt.render(**given)
    assert "Example" not in plain
    assert prompt.render(**given, examples=False) == plain
    assert prompt.render(**given, examples=[]) == plain
    text = prompt.bind(examples=True).render(**given)
    assert text.startswith(f"{plain}\n\nExamples from other problems\n")
    assert text.endswith("\n\nThe examples end here.")
    assert len(re.findall(r"^Example \d\. ", text, re.MULTILINE)) == len(TRACES)
    for trace in TRACES:
        assert f". {Prompt.load(trace).render(**given)}\n\n" in text
    some = prompt.render(**given, examples=["pivot", "check"])
    assert some.index("Example 1. Turning") < some.index("Example 2. Catching")
    assert "Example 3" not in some
    assert prompt.render(**given, examples="pivot") == prompt.render(**given, examples=["pivot"])


@pytest.mark.parametrize("name", BOTH)
def test_who_works_alone_gets_no_traces(name: str) -> None:
    for names, layout in ((NAMES[:1], "combined"), (NAMES[:3], "isolated")):
        prompt = Prompt.load(name)
        plain = prompt.render(names=names, layout=layout)
        assert prompt.render(names=names, layout=layout, examples=True) == plain


def test_a_trace_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no prompt 'example_splt' in .*mean 'example_split'"):
        Prompt.load("collaborate").render(names=NAMES[:2], examples=["splt"])
