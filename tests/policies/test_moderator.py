"""Moderator: whoever is named gets work, the others wait."""

from __future__ import annotations

import pytest

from hogwild_agents import ConfigError, Headings, Prompt, Resume, Say
from hogwild_agents.policies import Moderator, StopOnAnswer
from tests.policies.rig import act, fail, steps, taken, writers

pytestmark = pytest.mark.anyio
TASK = Prompt.load("moderator_task")


def work(task: str) -> str:
    return TASK.render(moderator="Mo", task=task)


async def test_work_is_assigned_and_reported() -> None:
    scripts = {
        "Mo": "Add 1 and 2.\nCy: Add 3 and 4.\n\n@Bob: Add both sums.\n\nSo \\boxed{10}",
        "Bob": "3.\n\n10.\n\n",
        "Cy": "It is 7.\n\n",
    }
    record = await act(scripts, Moderator(), StopOnAnswer())
    opening = Prompt.load("moderator_assign").render(names=["Bob", "Cy"])
    texts = record.result.texts
    assert texts["Mo"].startswith(f"**Mo [1]:** {opening}Add 1 and 2.")
    assert f"**Bob [1]:** {work('Add 1 and 2.')}3." in texts["Bob"]
    assert f"**Bob [2]:** {work('Add both sums.')}10." in texts["Bob"]
    assert f"**Cy [1]:** {work('Add 3 and 4.')}It is 7." in texts["Cy"]
    assert steps(record) == [("Mo", 1), ("Bob", 1), ("Cy", 1), ("Mo", 2), ("Bob", 2)]
    assert record.result.answer == "10"


async def test_the_moderator_waits_for_those_who_work() -> None:
    scripts = {"Mo": "@Bob: x.\n\nDone", "Bob": "." * 20 + "\n\n"}
    for waits in (True, False):
        record = await act(scripts, Moderator(opening=None, waits=waits))
        both = [names for names in writers(record).values() if len(names) == 2]
        assert bool(both) != waits


async def test_without_work_nobody_writes() -> None:
    scripts = {"Mo": "I think.\n\n@Zoe: Do it.\n\n@Mo: You too.\n\n", "Bob": "Me!"}
    record = await act(scripts, Moderator(opening=None))
    assert not taken(record, Say, Resume)
    assert record.result.texts["Bob"] == "**Bob [1]:** "
    assert record.result.reason == "parked"


async def test_several_tasks_come_one_after_the_other() -> None:
    scripts = {"Mo": "@Bob: one. @bob: two.\nBob: three.\n\nOk", "Bob": "1.\n\n2.\n\n3.\n\n"}
    record = await act(scripts, Moderator(opening=None))
    said = [action.text for action in taken(record, Say)]
    assert said == [work("one."), work("two."), work("three.")]
    assert f"**Bob [3]:** {work('three.')}3." in record.result.texts["Bob"]
    assert record.result.texts["Mo"].endswith("Ok")


@pytest.mark.parametrize("headings", [Headings(), Headings(prefix="{name}: ")], ids=["", "own"])
async def test_the_first_words_of_a_step_may_be_an_assignment(headings: Headings) -> None:
    scripts = {
        "Mo": "Bob: one.\nCy: two.\n\n  bob : three.\n\nOk",
        "Bob": "1.\n\n3.\n\n",
        "Cy": "2.\n\n",
    }
    record = await act(scripts, Moderator(opening=None), headings=headings)
    said = [(action.worker, action.text) for action in taken(record, Say)]
    assert said == [("Bob", work("one.")), ("Cy", work("two.")), ("Bob", work("three."))]


async def test_a_task_may_take_several_steps() -> None:
    scripts = {"Mo": "@Bob: one.\n\nOk", "Bob": "1.\n\n2.\n\n3.\n\n"}
    record = await act(scripts, Moderator(opening=None, steps=2))
    assert steps(record) == [("Mo", 1), ("Bob", 1), ("Bob", 2)]


async def test_own_patterns() -> None:
    scripts = {"Mo": "Let Bob (sing). @Bob: no.\n\nOk", "Bob": "La.\n\n"}
    pattern = r"Let (?P<name>\w+) \((?P<task>.+)\)"
    record = await act(scripts, Moderator(opening=None, pattern=pattern))
    assert taken(record, Say) == [Say(worker="Bob", text=work("sing"))]


async def test_it_goes_on_without_who_leaves() -> None:
    scripts = {"Mo": "@Bob: one. @Bob: two.\n\nOk", "Bob": "Bye"}
    record = await act(scripts, Moderator(opening=None))
    assert record.result.texts["Mo"].endswith("Ok")
    assert record.result.reason == "left"


async def test_there_must_be_somebody_to_moderate() -> None:
    assert "The moderator 'A' for A" in await fail({"A": ""}, Moderator())
    assert "'Zoe'" in await fail({"A": "", "B": ""}, Moderator("Zoe"))


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="0 steps"):
        Moderator(steps=0)
    with pytest.raises(ConfigError, match="lacks a group"):
        Moderator(pattern=r"@(?P<name>\w+)")
    with pytest.raises(ConfigError, match="no regular expression"):
        Moderator(pattern="(")
    with pytest.raises(ConfigError, match="no_such_prompt"):
        Moderator(task="no_such_prompt")
