"""DevilsAdvocate: so many steps, then somebody attacks the last one of another worker."""

from __future__ import annotations

import pytest

from hogwild_agents import ConfigError, Prompt, Say
from hogwild_agents.policies import DevilsAdvocate
from tests.policies.rig import act, taken

pytestmark = pytest.mark.anyio
ATTACK = Prompt.load("devils_advocate")


async def test_the_last_step_of_another_worker_is_attacked() -> None:
    scripts = {"A": "1.\n\n" + "." * 30, "B": "." * 10 + "\n\n3.\n\n4.\n\n"}
    record = await act(scripts, DevilsAdvocate(every=2))
    attack = ATTACK.render(author="A", step=1)
    assert taken(record)[0] == Say(worker="B", text=attack)
    assert f"**B [2]:** {attack}3." in record.result.texts["B"]


async def test_so_many_steps_lie_between_attacks() -> None:
    scripts = {"A": "a.\n\n" * 6, "B": "b.\n\n" * 6}
    record = await act(scripts, DevilsAdvocate(every=4))
    assert [(action.worker, action.text) for action in taken(record, Say)] == [
        ("B", ATTACK.render(author="A", step=2)),
        ("B", ATTACK.render(author="A", step=4)),
        ("B", ATTACK.render(author="A", step=6)),
    ]


async def test_one_worker_may_always_play_the_part() -> None:
    scripts = {"A": "a.\n\n" * 6, "B": "b.\n\n" * 6}
    record = await act(scripts, DevilsAdvocate(every=3, advocate="A"))
    said = taken(record, Say)
    assert {action.worker for action in said} == {"A"}
    assert said[0].text == ATTACK.render(author="B", step=1)


async def test_nobody_attacks_itself_unless_alone() -> None:
    record = await act({"A": "a.\n\n" * 3, "B": "." * 90}, DevilsAdvocate(every=2))
    assert not taken(record)
    record = await act({"A": "a.\n\n" * 3}, DevilsAdvocate(every=2))
    assert taken(record) == [Say(worker="A", text=ATTACK.render(author="A", step=2))]


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="every 0 steps"):
        DevilsAdvocate(0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        DevilsAdvocate(prompt="no_such_prompt")
