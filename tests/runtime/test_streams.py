"""Team.stream: left half-way, in whatever way and task, it leaves nothing running."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hogwild_agents import (
    CacheCoordinator,
    ClosedError,
    Event,
    Limits,
    RunEnded,
    RunStarted,
    Team,
    TickEnded,
    read_transcript,
)
from tests.runtime.rig import PROBLEM, language_model, make_team, run_on, until

pytestmark = pytest.mark.anyio
each_host = pytest.mark.parametrize("shared", [True, False], ids=["coordinator", "alone"])


@asynccontextmanager
async def streaming(shared: bool, limits: Limits = Limits()) -> AsyncIterator[Team]:  # noqa: B008
    """A team, alone or with a coordinator; at the end its runs have left nothing behind."""
    model = language_model()
    before = model.engine.used_tokens
    if shared:
        async with CacheCoordinator(model.engine) as coordinator:
            yield make_team(model, limits=limits, coordinator=coordinator)
            assert coordinator.statistics().seats == 0
    else:
        yield make_team(model, limits=limits)
    assert model.engine.used_tokens == before
    model.engine.check_integrity()


async def read(events: AsyncGenerator[Event, None], ticks: int = 3) -> None:
    """Read a part of a stream."""
    async for event in events:
        if isinstance(event, TickEnded) and event.tick == ticks:
            return


@each_host
async def test_a_stream_ends_with_its_run(shared: bool) -> None:
    async with streaming(shared, Limits(ticks=4)) as team:
        seen = [event async for event in team.stream(PROBLEM)]
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunEnded)
    assert seen[-1].result.reason == "ticks"


@each_host
async def test_it_may_be_closed_in_another_task(shared: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with streaming(shared) as team:
        events = team.stream(PROBLEM, transcript=path)
        async with anyio.create_task_group() as group:
            group.start_soon(read, events)
        async with anyio.create_task_group() as group:
            group.start_soon(events.aclose)
        result = read_transcript(path).result
        assert result is not None
        assert result.reason == "cancelled"


@each_host
async def test_it_may_be_read_by_several_tasks_in_turn(shared: bool) -> None:
    async with streaming(shared) as team:
        events = team.stream(PROBLEM)
        for ticks in (2, 4, 6):
            async with anyio.create_task_group() as group:
                group.start_soon(read, events, ticks)
        await events.aclose()


@each_host
@pytest.mark.filterwarnings("ignore:Async generator.*was garbage collected:ResourceWarning")
async def test_one_that_is_dropped_is_closed_by_the_event_loop(shared: bool) -> None:
    used = language_model().engine.used_tokens
    async with streaming(shared) as team:
        with anyio.CancelScope() as scope:
            await read(team.stream(PROBLEM))
            gc.collect()
            await until(lambda: team.model.engine.used_tokens == used)
        assert not scope.cancel_called


@each_host
@pytest.mark.filterwarnings("ignore:Async generator.*was garbage collected:ResourceWarning")
def test_one_that_is_open_when_the_event_loop_ends_is_closed(
    anyio_backend: str, shared: bool
) -> None:
    kept: list[AsyncGenerator[Event, None]] = []

    async def main() -> None:
        model = language_model()
        async with CacheCoordinator(model.engine) as coordinator:
            team = make_team(model, limits=Limits(), coordinator=coordinator if shared else None)
            kept.append(team.stream(PROBLEM))
            await read(kept[0])

    used = language_model().engine.used_tokens
    run_on(anyio_backend, main)
    assert language_model().engine.used_tokens == used


async def test_a_coordinator_that_closes_ends_the_loop() -> None:
    seen: list[Event] = []

    async def loop(team: Team) -> None:
        async for event in team.stream(PROBLEM):
            seen.append(event)

    async def refused(team: Team) -> None:
        with pytest.raises(ClosedError, match="before the run of this stream was over"):
            await loop(team)

    engine = language_model().engine
    async with anyio.create_task_group() as group, CacheCoordinator(engine) as coordinator:
        team = make_team(limits=Limits(), coordinator=coordinator)
        group.start_soon(refused, team)
        await until(lambda: len(seen) > 8)
    assert isinstance(seen[-1], RunEnded)
    with pytest.raises(ClosedError, match="is closed"):
        await loop(team)
