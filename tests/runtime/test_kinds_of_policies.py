"""Kinds of policies: for a run, a worker or a team; timed, switched, made from functions."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import pytest

from hogwild_agents import (
    ConfigError,
    Finish,
    Limits,
    Observer,
    Policy,
    PolicyError,
    PolicyFailed,
    RunStarted,
    RunView,
    Say,
    Spawn,
    StepEnded,
    TickEnded,
    TokensWritten,
    UsageError,
    Worker,
    controller,
    observer,
)
from tests.runtime.rig import make_team, play, solve

pytestmark = pytest.mark.anyio


class Tally(Policy):
    """Counts what it hears, in a list that all its copies share."""

    def __init__(self, decides: Literal["run", "worker", "team"], heard: list[Any]) -> None:
        self.decides = decides
        self.heard = heard
        self.count = 0

    def __deepcopy__(self, memo: object) -> Tally:
        return Tally(self.decides, self.heard)

    async def on_tokens_written(self, event: TokensWritten) -> None:
        self.count += 1
        self.heard.append((id(self), event.worker, self.count))


async def test_one_copy_decides_for_each_worker() -> None:
    heard: list[Any] = []
    await solve(make_team(policies=[Tally("worker", heard)], limits=Limits(ticks=4)))
    by_copy = {copy: {worker for c, worker, _ in heard if c == copy} for copy, _, _ in heard}
    assert sorted(map(tuple, by_copy.values())) == [("Alice",), ("Bob",)]


async def test_who_joins_later_has_a_copy_too() -> None:
    class Greeter(Policy):
        async def on_run_started(self, event: RunStarted) -> Spawn:
            return Spawn(worker=Worker("Eve"))

    heard: list[Any] = []
    policies = [Greeter(), Tally("worker", heard)]
    record = await solve(make_team(policies=policies, limits=Limits(ticks=4)))
    assert set(record.result.texts) == {"Alice", "Bob", "Eve"}
    assert {worker for _, worker, _ in heard} == {"Alice", "Bob", "Eve"}
    assert len({copy for copy, _, _ in heard}) == 3


async def test_one_object_decides_for_all_runs_of_a_team() -> None:
    heard: list[Any] = []
    team = make_team(policies=[Tally("team", heard)], limits=Limits(ticks=3))
    await solve(team)
    once = len(heard)
    await solve(team)
    assert len({copy for copy, _, _ in heard}) == 1
    assert heard[-1][2] == 2 * once


async def test_a_worker_of_its_own_has_only_a_policy_that_decides_for_one() -> None:
    found: list[str] = []

    class Curious(Policy):
        async def on_tick_ended(self, event: TickEnded) -> None:
            found.append(self.own_worker)

    one = Curious()
    one.decides = "worker"
    await solve(make_team(policies=[one], limits=Limits(ticks=2)))
    assert set(found) == {"Alice", "Bob"}
    record = await play(make_team(policies=[Curious()], limits=Limits(ticks=2)))
    assert "decides for no single worker" in str(record.error)


async def test_a_controller_that_hangs_is_cut_off_and_fails_the_run_by_name() -> None:
    class Sleeper(Policy):
        timeout = 0.05

        async def on_tick_ended(self, event: TickEnded) -> None:
            await anyio.sleep_forever()

    record = await play(make_team(policies=[Sleeper()]))
    assert isinstance(record.error, PolicyError)
    assert "Sleeper failed in on_tick_ended (TimeoutError: it took longer than" in str(record.error)


async def test_an_observer_that_hangs_is_cut_off_and_the_run_goes_on() -> None:
    class Sleeper(Observer):
        timeout = 0.02

        async def on_step_ended(self, event: StepEnded) -> None:
            await anyio.sleep_forever()

        on_run_started = on_step_ended  # type: ignore[assignment]

    record = await solve(make_team(policies=[Sleeper()], limits=Limits(ticks=3)))
    assert record.result.reason == "ticks"
    assert "TimeoutError" in record.told(PolicyFailed)[0].error


async def test_a_policy_is_switched_off_and_on_in_mid_run() -> None:
    heard: list[Any] = []
    team = make_team(policies=[Tally("run", heard)], limits=Limits(ticks=6))
    ticks: dict[int, int] = {}

    def listen(event: Any) -> None:
        if isinstance(event, TickEnded):
            ticks[event.tick] = len(heard)
            if event.tick in (2, 4):
                run.switch("Tally", on=event.tick == 4)

    run = team.start("Say hello.", on_event=listen)
    with pytest.raises(
        UsageError, match="There is no policy 'Nobody' in this run, which has: Tally"
    ):
        run.switch("Nobody", on=True)
    await run.execute()
    assert ticks[2] > 0
    assert ticks[3] == ticks[4]
    assert ticks[6] > ticks[4]


async def test_a_policy_that_is_disabled_hears_nothing() -> None:
    heard: list[Any] = []
    tally = Tally("team", heard)
    tally.enabled = False
    await solve(make_team(policies=[tally], limits=Limits(ticks=2)))
    assert not heard


# -- from functions


async def test_a_function_is_a_policy() -> None:
    seen: list[Any] = []

    @controller
    async def stop(event: TickEnded, run: RunView) -> Finish | None:
        seen.append((run.ticks, run.names, run.problem, run.layout, run.tokens))
        return Finish(answer="3", reason="enough") if event.tick == 3 else None

    @observer
    async def watch(event: StepEnded | TokensWritten) -> Say:
        seen.append(type(event))
        return Say(worker="Alice", text="ignored")

    record = await solve(make_team(policies=[stop, watch], limits=Limits(ticks=9)))
    assert (record.result.reason, record.result.ticks) == ("enough", 3)
    assert seen[-1][:4] == (3, ("Alice", "Bob"), "Say hello.", "combined")
    assert TokensWritten in seen
    assert stop.name == "stop"


async def test_a_function_may_name_what_is_there_only_later() -> None:
    @controller
    async def measure(event: TickEnded) -> None:
        sizes.append(len(team.workers))

    sizes: list[int] = []
    team = make_team(policies=[measure], limits=Limits(ticks=2))
    await solve(team)
    assert sizes == [2, 2]


def test_what_is_no_policy_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="define it with `async def`"):
        controller(lambda event: None)  # type: ignore[arg-type, return-value]

    async def bare(event) -> None:  # type: ignore[no-untyped-def]
        pass

    async def wrong(event: int) -> None:
        pass

    async def nothing() -> None:
        pass

    for function in (bare, wrong):
        with pytest.raises(ConfigError, match="annotate it with the event that it wants"):
            controller(function)
    with pytest.raises(ConfigError, match="takes 0 parameters"):
        controller(nothing)
