"""Runs of one coordinator beside each other: each writes what it writes alone, and none waits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import CacheCoordinator, Limits, RunView, Say, Team, TickEnded, controller
from hogwild_agents.events import TokensWritten
from hogwild_agents.testing import tiny_model
from tests.runtime.rig import run_on

LIMITS = Limits(ticks=10)


@pytest.mark.anyio
async def test_a_policy_may_solve_another_problem_in_the_same_coordinator() -> None:
    model, asked = tiny_model(), list[Any]()
    expected = await Team(model, limits=LIMITS).solve("And this?")
    async with CacheCoordinator(model.engine) as coordinator:
        others = Team(model, limits=LIMITS, coordinator=coordinator)

        @controller
        async def ask(event: TickEnded) -> Say | None:
            if event.tick != 3:
                return None
            asked.append(await others.solve("And this?"))
            return Say(worker="Bob", text="Asked. ")

        team = Team(model, policies=[ask], limits=LIMITS, coordinator=coordinator)
        with anyio.fail_after(20):
            result = await team.solve("What?")
    assert [one.texts for one in asked] == [expected.texts]
    assert result.texts["Bob"].count("Asked. ") == 1
    assert result.ticks == 10


@pytest.mark.anyio
@pytest.mark.parametrize("ahead", [False, True])
async def test_a_run_whose_policy_waits_holds_up_no_other(ahead: bool) -> None:
    model, over = tiny_model(), anyio.Event()

    @controller
    async def wait(event: TokensWritten) -> None:
        if event.worker == "Alice" and event.tick == 2:
            await over.wait()

    async with CacheCoordinator(model.engine, ahead=ahead) as coordinator:
        slow = Team(model, policies=[wait], limits=LIMITS, coordinator=coordinator)
        quick = Team(model, limits=Limits(ticks=30), coordinator=coordinator)
        results = []
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                run = slow.start("Slow?")
                group.start_soon(run.execute)
                results.append(await quick.solve("Quick?"))
                assert run.result.reason == "running"
                over.set()
        assert [results[0].ticks, run.result.ticks] == [30, 10]


async def beside(waits: Sequence[Sequence[int]], ahead: bool) -> list[Any]:
    """Return what some runs wrote that wait now and then, each for some thousandths of a second."""
    model = tiny_model()
    written: dict[int, Any] = {}
    async with CacheCoordinator(model.engine, ahead=ahead) as coordinator:

        async def solve(number: int) -> None:
            @controller
            async def wait(event: TickEnded, run: RunView) -> Say | None:
                times = waits[number]
                milliseconds = times[event.tick % len(times)]
                if milliseconds:
                    await anyio.sleep(milliseconds / 1000)
                return Say(worker="Bob", text="So. ") if milliseconds == 3 else None

            team = Team(model, policies=[wait], limits=LIMITS, coordinator=coordinator)
            written[number] = (await team.solve(f"Number {number}?")).texts

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for number in range(len(waits)):
                    group.start_soon(solve, number)
    assert not model.engine.used_tokens
    return [written[number] for number in range(len(waits))]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=8)
@given(
    waits=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=2, max_size=4),
    ahead=st.booleans(),
)
def test_whoever_waits_each_run_writes_what_it_writes_alone(
    backend: str, waits: list[list[int]], ahead: bool
) -> None:
    together: Any = run_on(backend, partial(beside, waits, ahead))
    for number, times in enumerate(waits):
        padded = [[0]] * number + [times]
        alone: Any = run_on(backend, partial(beside, padded, False))
        assert together[number] == alone[number]
