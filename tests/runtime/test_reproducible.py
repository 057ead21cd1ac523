"""The same seed gives the same run, on any event loop; nobody's draws depend on the others'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents.actions import Action, Say
from hogwild_agents.engine import SamplingParams
from hogwild_agents.errors import RunError
from hogwild_agents.events import TickEnded, TokensWritten
from hogwild_agents.limits import Limits
from hogwild_agents.policies import RedundancyCheck
from hogwild_agents.policy import Observer, Policy
from hogwild_agents.transcript import read_transcript
from hogwild_agents.worker import Worker
from tests.runtime.book import by_tick
from tests.runtime.rig import (
    GREEDY,
    LONGER,
    PROBLEM,
    Play,
    Typist,
    Watched,
    drop_time,
    language_model,
    make_team,
    run_on,
    solve,
    steps_of,
    talkative,
)


class Slow(Observer):
    """Lets the event loop go round while it is asked."""

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        for _ in range(sum(event.tokens) % 4):
            await checkpoint()
        return ()


class Heckler(Policy):
    """Speaks to whoever did not write last."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
        return [Say(worker="Bob", text=f"{event.tick}! ")] if event.tick in (3, 7) else []


class Listener(Worker):
    """Begins with what it knows of the others, and parks now and then."""

    async def run(self) -> None:
        await self.write(f"I know {sum(map(len, self.others.values()))} characters. ")
        for turn in range(8):
            if turn == 3:
                with self.parked():
                    for _ in range(2):  # within the quiet turns that others wait
                        await checkpoint()
            token = await self.next_token()
            if token.id % 5 == 0:
                await self.write(f"{len(self.others)} ")


def lively_team(**options: Any) -> Any:
    model = language_model(LONGER)
    defaults: dict[str, Any] = {
        "workers": [Listener("Carol"), "Alice", "Bob"],
        "sampling": talkative(model, 4.0),
        "policies": [RedundancyCheck(every=4), Heckler(), Slow()],
        "limits": Limits(ticks=14),
        "seed": 3,
    }
    return make_team(model, **{**defaults, **options})


def run_of(backend: str, **options: Any) -> Play:
    record: Play = run_on(backend, partial(solve, lively_team(**options)))
    return record


def test_a_seed_gives_one_run_on_both_loops_however_trio_shuffles() -> None:
    runs = [run_of("trio") for _ in range(8)] + [run_of("asyncio") for _ in range(2)]
    first = drop_time(runs[0].events)
    assert all(drop_time(run.events) == first for run in runs)
    assert len(runs[0].result.steps) >= 3


def test_the_transcript_is_the_same_but_for_the_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, backend in zip(paths, ("asyncio", "trio"), strict=True):
        run_on(backend, partial(solve, lively_team(), transcript=path))
    first, second = map(read_transcript, paths)

    def timeless(line: Any) -> str:
        plain = line.model_dump(exclude={"seconds": True, "result": {"seconds"}})
        return repr(plain)

    assert list(map(timeless, first.lines)) == list(map(timeless, second.lines))
    assert first.header.model_dump(exclude={"created"}) == second.header.model_dump(
        exclude={"created"}
    )


def test_another_seed_gives_another_run() -> None:
    texts = [run_of("asyncio", seed=seed).result.texts["Alice"] for seed in range(3)]
    assert len(set(texts)) == 3


def test_a_run_can_be_repeated_with_one_team() -> None:
    team = lively_team()
    first, second = (run_on("asyncio", partial(solve, team)) for _ in range(2))
    assert drop_time(first.events) == drop_time(second.events)


# -- a worker's own random state


FAIR = SamplingParams(temperature=1e6)
"""Sampling that hardly depends on what is seen."""


def isolated_texts(workers: Sequence[Any], **options: Any) -> dict[str, str]:
    team = make_team(
        workers=workers, layout="isolated", sampling=FAIR, limits=Limits(ticks=12), **options
    )
    texts: dict[str, str] = run_on("trio", partial(solve, team)).result.texts
    return texts


def test_a_workers_draws_do_not_depend_on_the_others() -> None:
    alone = isolated_texts(["Alice"])["Alice"]
    for workers in (["Alice", "Bob"], ["Bob", "Carol", "Alice"]):
        assert isolated_texts(workers)["Alice"] == alone

    async def pause(worker: Typist) -> None:
        with worker.parked():
            await anyio.sleep(0.002)

    restless = Typist("Bob", 2, pause, 3, free=FAIR)
    assert isolated_texts([restless, "Alice"])["Alice"] == alone


def test_a_worker_may_bring_its_own_seed() -> None:
    first = isolated_texts([Worker("Alice", seed=5), "Bob"], seed=1)
    second = isolated_texts([Worker("Alice", seed=5), "Bob"], seed=2)
    assert first["Alice"] == second["Alice"]
    assert first["Bob"] != second["Bob"]
    assert isolated_texts([Worker("Alice", seed=6), "Bob"], seed=1)["Alice"] != first["Alice"]


def test_workers_of_one_team_draw_differently() -> None:
    names = ["Alice", "Bobby", "Carol"]
    texts = isolated_texts(names)
    bodies = {text.removeprefix(f"**{name} [1]:** ") for name, text in texts.items()}
    assert len(bodies) == 3


def test_a_worker_may_bring_its_own_sampling() -> None:
    workers = [Worker("Alice", sampling=GREEDY), "Bob"]
    first, second = (isolated_texts(workers, seed=seed) for seed in (1, 2))
    assert first["Alice"] == second["Alice"]
    assert first["Bob"] != second["Bob"]


# -- several teams


@pytest.mark.anyio
async def test_teams_on_one_coordinator_do_what_they_do_alone() -> None:
    model = language_model(LONGER)
    options: dict[str, Any] = {"sampling": talkative(model, 4.0, temperature=0.0)}
    problems = [f"Count to {number}." for number in range(3)]
    sizes = (1, 3, 2)
    names = ["Alice", "Bøb", "Carol"]

    def team(size: int, **more: Any) -> Any:
        workers = [*names[: size - 1], steps_of("Dave", [2, 1, 0, 4], free=options["sampling"])]
        return make_team(model, workers=workers, limits=Limits(ticks=9 + size), **options, **more)

    alone = [await solve(team(size), p) for size, p in zip(sizes, problems, strict=True)]
    together: dict[int, Any] = {}
    before = model.engine.used_tokens
    async with Watched(model.engine) as coordinator, anyio.create_task_group() as group:

        async def run(index: int) -> None:
            shared = team(sizes[index], coordinator=coordinator)
            together[index] = await shared.solve(problems[index])

        for index in range(len(sizes)):
            group.start_soon(run, index)
    for index, record in enumerate(alone):
        assert together[index].texts == record.result.texts
        assert together[index].ticks == record.result.ticks
        assert together[index].steps == record.result.steps
    assert model.engine.used_tokens == before
    assert max(map(len, by_tick(coordinator.commits))) == 6  # they did share ticks


@pytest.mark.anyio
async def test_teams_in_trouble_change_nothing_for_the_others_on_their_coordinator() -> None:
    """One is cancelled, one is stopped, one fails by its policy, one by its workers."""

    class Broken(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            if event.tick == 4:
                raise ValueError("no")
            return []

    async def fail(worker: Typist) -> None:
        raise ValueError("no")

    model = language_model(LONGER)
    sampling = talkative(model, 4.0, temperature=0.0)
    calm: dict[str, Any] = {"workers": ["Alice", "Bøb"], "sampling": sampling}
    alone = await solve(make_team(model, **calm))
    before = model.engine.used_tokens
    found: list[Any] = []
    async with Watched(model.engine) as coordinator, anyio.create_task_group() as group:

        async def run(**options: Any) -> None:
            team = make_team(model, coordinator=coordinator, **{**calm, **options})
            try:
                found.append(await team.solve(PROBLEM))
            except RunError as error:
                found.append(error)

        async def cut_short() -> None:
            with anyio.move_on_after(0.05):
                await run(limits=Limits())

        group.start_soon(run)
        group.start_soon(cut_short)
        group.start_soon(partial(run, policies=[Broken()]))
        group.start_soon(partial(run, workers=[Typist("Alice", 2, fail)]))
        group.start_soon(partial(run, limits=Limits(seconds=0.04)))
    (calm_result,) = [one for one in found if getattr(one, "reason", "") == "ticks"]
    assert calm_result.texts == alone.result.texts
    assert calm_result.ticks == alone.result.ticks
    assert len(found) == 4
    assert model.engine.used_tokens == before
