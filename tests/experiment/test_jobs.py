"""Jobs: however often and wherever an experiment is broken off, it comes to the same."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings, strategies as st

from hogwild_agents.errors import ConfigError, RunError
from hogwild_agents.experiment.cells import cells_of
from hogwild_agents.experiment.jobs import Job, common_of, jobs_of, run_jobs
from hogwild_agents.experiment.report import make_report
from hogwild_agents.experiment.store import Outcome, Store
from tests.experiment.plans import PROBLEMS, outcome, plan

BACKENDS = ["asyncio", "trio"]
PLAN = plan(
    seeds=[0, 1],
    baseline={"policies": "unchecked"},
    grid={"policies": ["unchecked", "checked"], "check_every": [8, 16]},
)
CELLS = cells_of(PLAN)
JOBS = jobs_of(CELLS, PROBLEMS, PLAN.seeds)
COMMON = common_of(PLAN)
KEYS = {job.key for job in JOBS}


def came_to(job: Job) -> Outcome:
    """Return what a scripted run comes to: something that depends on all of the job."""
    place = JOBS.index(job) if job in JOBS else 0
    return outcome(job.cell, job.problem, job.seed, correct=place % 3 > 0, ticks=7 + place % 5)


class Broken(Exception):
    """What breaks a test's experiment off."""


async def attempt(path: Path, waits: list[int], stop_after: int | None, limit: int) -> list[Job]:
    """Run what is left; be cancelled after so many outcomes. Return the jobs that were begun."""
    begun: list[Job] = []
    done = 0

    async def solve(job: Job) -> Outcome:
        begun.append(job)
        for _ in range(waits[len(begun) % len(waits)]):
            await checkpoint()
        return came_to(job)

    def count(_: Outcome) -> None:
        nonlocal done
        done += 1
        if done == stop_after:
            scope.cancel()

    with Store(path, COMMON) as store, anyio.CancelScope() as scope:
        await run_jobs(JOBS, solve, store, limit=limit, on_done=count)
    return begun


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40)
@given(
    stops=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 400)), max_size=5),
    waits=st.lists(st.integers(0, 6), min_size=1, max_size=9),
    limit=st.integers(1, 9),
)
def test_resumed_in_any_way_it_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    backend: str,
    stops: list[tuple[int, int]],
    waits: list[int],
    limit: int,
) -> None:
    path = tmp_path_factory.mktemp("jobs") / "results.jsonl"
    for stop_after, torn in stops:  # cancelled, and then the file's end is lost
        anyio.run(attempt, path, waits, stop_after, limit, backend=backend)
        content = path.read_bytes()
        path.write_bytes(content[: max(len(content) - torn, 0)])
    with Store(path, COMMON) as store:
        before = set(store.outcomes)
    begun = anyio.run(attempt, path, waits, None, limit, backend=backend)
    assert {job.key for job in begun} == KEYS - before
    assert len(begun) == len(KEYS - before)
    with Store(path, COMMON) as store:
        assert {key: store.outcomes[key] for key in KEYS} == {job.key: came_to(job) for job in JOBS}
        found = make_report("x", PLAN, CELLS, store.outcomes.values(), planned=len(JOBS))
    assert found == make_report("x", PLAN, CELLS, map(came_to, JOBS), planned=len(JOBS))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20)
@given(limit=st.integers(1, 40))
def test_limit_is_reached_and_kept(
    tmp_path_factory: pytest.TempPathFactory, backend: str, limit: int
) -> None:
    most = under_way = 0

    async def solve(job: Job) -> Outcome:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        for _ in range(2 * len(JOBS)):
            await checkpoint()
        under_way -= 1
        return came_to(job)

    async def whole() -> None:
        path = tmp_path_factory.mktemp("jobs") / "results.jsonl"
        with Store(path, {}) as store:
            await run_jobs(JOBS, solve, store, limit=limit)

    anyio.run(whole, backend=backend)
    assert most == min(limit, len(JOBS))


@pytest.mark.anyio
async def test_a_run_that_fails_ends_the_others_and_keeps_what_is_done(tmp_path: Path) -> None:
    async def solve(job: Job) -> Outcome:
        if job is JOBS[5]:
            raise RunError("Too bad: mend it.")
        if JOBS.index(job) > 5:
            await anyio.sleep_forever()
        return came_to(job)

    with Store(tmp_path / "results.jsonl", {}) as store:
        with pytest.raises(RunError, match="Too bad"):
            await run_jobs(JOBS, solve, store, limit=3)
        assert list(store.outcomes) == [job.key for job in JOBS[:5]]


@pytest.mark.anyio
async def test_a_mistake_in_the_program_is_not_swallowed(tmp_path: Path) -> None:
    async def solve(job: Job) -> Outcome:
        raise Broken

    with Store(tmp_path / "results.jsonl", {}) as store:
        with pytest.raises(ExceptionGroup) as caught:
            await run_jobs(JOBS, solve, store, limit=3)
        assert caught.value.subgroup(Broken)


def test_problems_are_finished_one_after_the_other() -> None:
    assert [job.problem for job in JOBS[: len(CELLS) * 2]] == [PROBLEMS[0]] * len(CELLS) * 2
    assert len(KEYS) == len(JOBS) == len(CELLS) * len(PROBLEMS) * 2


def test_an_experiment_may_grow(tmp_path: Path) -> None:
    more = plan(task={"kind": "bundled", "problems": 500}, seeds=[7], grid={"workers": [1]})
    assert common_of(more) == common_of(PLAN)


@pytest.mark.parametrize(
    "values",
    [
        {"task": {"kind": "bundled", "seed": 1}},
        {"task": {"kind": "bundled", "duplicates": "steps"}},
        {"task": {"kind": "file", "file": "x.jsonl"}},
        {"run": {"model": "other"}},
        {"run": {"dtype": "bfloat16"}},
    ],
)
def test_another_task_or_model_has_another_store(tmp_path: Path, values: dict[str, object]) -> None:
    with Store(tmp_path / "results.jsonl", common_of(plan())) as store:
        store.add(outcome(cells_of(plan())[0]))
    with pytest.raises(ConfigError, match="was made by another plan"):
        Store(tmp_path / "results.jsonl", common_of(plan(**values)))


def test_other_weights_of_the_same_name_have_another_store(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    found = []
    for weights in (b"a", b"b"):
        (model / "model.safetensors").write_bytes(weights)
        found.append(common_of(plan(run={"model": str(model)}))["weights"])
    assert found[0] != found[1]
    assert common_of(plan(run={"model": "some/hub-id"}))["weights"] is None
