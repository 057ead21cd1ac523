"""A finished step says what stands in it behind its prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hogwild_agents import Headings, Policy, Spawn, Step, StepEnded, TickEnded, Worker
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.testing import Recorder
from tests.policies.rig import scripted

pytestmark = pytest.mark.anyio
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


class Fork(Policy):
    """Has Cy go on from a copy of Ada's unfinished text, and Dan from a copy of Cy's."""

    async def on_tick_ended(self, event: TickEnded) -> Spawn | None:
        if event.tick == 12:
            return Spawn(worker=Worker("Cy"), fork_of="Ada")
        return Spawn(worker=Worker("Dan"), fork_of="Cy") if event.tick == 16 else None


async def bodies(scripts: Mapping[str, object], **options: Any) -> Mapping[str, list[str]]:
    """What stands in everybody's steps, which events and the result tell alike."""
    recorder = Recorder()
    result = await scripted(scripts, **options).solve("What?", on_event=recorder.events.append)
    assert [step.body for step in result.steps] == [e.body for e in recorder.of(StepEnded)]
    found: dict[str, list[str]] = {}
    for step in result.steps:
        found.setdefault(step.worker, []).append(step.body)
    return found


@each_layout
@pytest.mark.parametrize("headings", [Headings(), Headings(prefix="{name}: ")], ids=["", "own"])
async def test_the_body_is_what_the_worker_wrote(layout: str, headings: Headings) -> None:
    scripts = {"Ada": ["Yes: no.\n\n", " **Ada [2]:** x.\n\n"], "Bob": "`a`\n\n  b.\n\n\n"}
    found = await bodies(scripts, layout=layout, headings=headings)
    assert found == {"Ada": ["Yes: no.", "**Ada [2]:** x."], "Bob": ["`a`\n\n  b."]}


@each_layout
async def test_the_body_of_a_fork_holds_the_step_that_it_went_on_with(layout: str) -> None:
    scripts = {"Ada": "One.\n\nIt is 7 or 8.\n\n", "Cy": "6, or so.\n\n", "Dan": "5.\n\n"}
    found = await bodies(scripts, workers=["Ada"], layout=layout, policies=[Fork()])
    assert found["Ada"] == ["One.", "It is 7 or 8."]
    ((cy,), (dan,)) = found["Cy"], found["Dan"]
    assert cy.endswith("6, or so.")
    assert "It is 7 or 8.".startswith(cy.removesuffix("6, or so."))
    assert dan.endswith("5.")
    assert cy.startswith(dan.removesuffix("5."))


def test_a_step_without_a_prefix_is_all_body() -> None:
    assert Step(worker="Ada", number=1, text=" It is 7.\n\n", tick=3).body == "It is 7."
