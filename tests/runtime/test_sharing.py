"""Runs of one coordinator share what begins all their views, and differ in nothing by that."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from hogwild_agents import CacheCoordinator, Limits, Prompt, Team, read_transcript
from hogwild_agents.testing import assert_integrity, assert_replays, tiny_model

pytestmark = pytest.mark.anyio
LONG = Prompt(name="long", description="", text="Work together, and look at the others' texts.")
PROBLEMS = ["one and two?", "seven?", "a longer problem, with more to think about?", "b"]


@pytest.mark.parametrize("layout", ["combined", "contiguous"])
async def test_shared_runs_write_what_lone_runs_write(layout: str) -> None:
    model = tiny_model()
    lone = Team(model, layout=layout, prompt=LONG, limits=Limits(ticks=12))
    expected = [(await lone.solve(problem)).texts for problem in PROBLEMS]
    async with CacheCoordinator(model.engine) as coordinator:
        team = Team(
            model, layout=layout, prompt=LONG, limits=Limits(ticks=12), coordinator=coordinator
        )
        async with aclosing(coordinator.map(team.solve, PROBLEMS, limit=3)) as results:
            assert [result.texts async for result in results] == expected
        assert len(coordinator.common) == 0
    assert model.engine.used_tokens == 0


async def test_the_common_part_is_in_the_cache_once() -> None:
    model = tiny_model()
    async with CacheCoordinator(model.engine) as coordinator:
        team = Team(model, prompt=LONG, limits=Limits(ticks=2), coordinator=coordinator)
        used: list[int] = []
        team.policies = ()

        async def solve(problem: str) -> None:
            run = team.start(problem, on_event=lambda _: used.append(model.engine.used_tokens))
            await run.execute()

        async with aclosing(coordinator.map(solve, ["x"] * 4, limit=4)) as results:
            async for _ in results:
                pass
        shared = len(team.opening.common)
        assert shared > 40
        alone = await _peak_alone()
        assert max(used) < 4 * alone - 2 * shared


async def _peak_alone() -> int:
    model = tiny_model()
    used: list[int] = []
    team = Team(model, prompt=LONG, limits=Limits(ticks=2))
    await team.solve("x", on_event=lambda _: used.append(model.engine.used_tokens))
    return max(used)


async def test_every_transcript_is_whole_whoever_has_encoded_the_prompt(tmp_path: Path) -> None:
    model = tiny_model()
    async with CacheCoordinator(model.engine) as coordinator:
        team = Team(model, prompt=LONG, limits=Limits(ticks=6), coordinator=coordinator)

        async def solve(number: int) -> None:
            await team.solve(f"{number}?", transcript=tmp_path / f"{number}.jsonl")

        async with aclosing(coordinator.map(solve, range(3), limit=3)) as results:
            async for _ in results:
                pass
    assert_integrity(model.engine)
    for number in range(3):
        assert_replays(read_transcript(tmp_path / f"{number}.jsonl"), tiny_model())
