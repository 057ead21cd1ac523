"""SpawnOnDemand: whoever is called for joins, but never more than may."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import (
    Action,
    ConfigError,
    Park,
    Policy,
    Prompt,
    RunView,
    Spawn,
    Team,
    TickEnded,
    Worker,
    WorkerJoined,
)
from hogwild_agents.policies import SpawnOnDemand
from tests.policies.rig import act, scripted, taken
from tests.runtime.rig import Play, run_on, solve

pytestmark = pytest.mark.anyio
NEWCOMER = Prompt.load("newcomer").render()


def joined(record: Play) -> list[str]:
    return [event.worker for event in record.told(WorkerJoined)]


async def test_a_call_brings_a_worker_with_a_task() -> None:
    seen: list[str] = []

    def work(view: str) -> str:
        seen.append(view)
        return "It is right."

    scripts = {"A": "spawn: Carol: check the sum.\n\n" + "." * 30, "Carol": work}
    record = await act(scripts, SpawnOnDemand(), workers=["A"])
    assert joined(record) == ["Carol"]
    assert record.result.texts["Carol"] == f"**Carol [1]:** {NEWCOMER}It is right."
    assert "I am Carol. check the sum." in seen[0]
    assert "spawn: Carol" in seen[0]


@given(
    calls=st.lists(st.sampled_from(["B", "C", "D", "A"]), max_size=5),
    most=st.integers(1, 4),
    apart=st.booleans(),
)
@settings(max_examples=10)
def test_no_more_than_may_be_there_and_nobody_twice(
    calls: list[str], most: int, apart: bool
) -> None:
    gap = "\n\n" if apart else "\n"
    text = "".join(f"spawn: {name}: work.{gap}" for name in calls) + "\n\n" + "." * 5
    scripts = {"A": text, **dict.fromkeys("BCD", "." * 300)}
    policy = SpawnOnDemand(most, prompt=None)
    record = run_on("asyncio", lambda: act(scripts, policy, workers=["A"]))
    wanted = [name for name in dict.fromkeys(calls) if name != "A"]
    assert joined(record) == wanted[: most - 1]


async def test_a_name_is_one_line_whatever_a_model_writes() -> None:
    scripts = {"A": "spawn: B\u2028\x0bC : work.\n\n.....", "B C": "Done."}
    assert joined(await act(scripts, SpawnOnDemand(prompt=None), workers=["A"])) == ["B C"]


async def test_who_is_about_to_join_is_called_in_vain_and_takes_room() -> None:
    class Forks(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            fork = Spawn(worker=Worker("B"), fork_of="Z")
            return [fork, Park(worker="Z")] if event.tick == 1 else []

    scripts = {"A": "spawn: B: work.\n\nspawn: C: work.\n\n.....", "Z": "." * 300}
    record = await act(scripts, SpawnOnDemand(3), Forks(), workers=["A", "Z"])
    assert record.result.reason == "parked"
    assert not joined(record)
    record = await act(scripts, SpawnOnDemand(4, prompt=None), Forks(), workers=["A", "Z"])
    assert joined(record) == ["C"]


async def test_room_is_made_by_who_leaves() -> None:
    scripts = {
        "A": "spawn: B: x.\n\nspawn: C: y.\n\n" + "." * 9 + "\n\nspawn: C: y.\n\n.....",
        "B": "Done.",
        "C": "Done too.",
    }
    record = await act(scripts, SpawnOnDemand(2, prompt=None), workers=["A"])
    assert joined(record) == ["B", "C"]


class Finder:
    """Finds work once; cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: list[RunView] = []

    def __call__(self, run: RunView) -> list[tuple[str, str]]:
        self.runs.append(run)
        return [("Zoe", f"improve step {len(run.steps)}")]


async def test_work_may_be_found_by_a_function() -> None:
    finder, made = Finder(), []

    def make(name: str, task: str) -> Worker:
        made.append((name, task))
        return Worker(name, role=task.upper())

    scripts = {"A": "a.\n\nb.\n\n....", "Zoe": "Hi."}
    policy = SpawnOnDemand(find_work=finder, make_worker=make)
    record = await act(scripts, policy, workers=["A"])
    assert made == [("Zoe", "improve step 1")]
    assert [action.worker.role for action in taken(record, Spawn)] == ["IMPROVE STEP 1"]
    assert len(finder.runs) == 2


async def test_runs_do_not_share_names() -> None:
    team: Team = scripted(
        {"A": "spawn: B: x.\n\n.....", "B": "."}, workers=["A"], policies=[SpawnOnDemand()]
    )
    for _ in range(2):
        assert joined(await solve(team)) == ["B"]


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="up to 0 workers"):
        SpawnOnDemand(0)
    with pytest.raises(ConfigError, match="lacks a group"):
        SpawnOnDemand(pattern="spawn")
    with pytest.raises(ConfigError, match="no_such_prompt"):
        SpawnOnDemand(prompt="no_such_prompt")
