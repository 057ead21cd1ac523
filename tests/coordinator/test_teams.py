"""Teams at one coordinator: they share ticks, and none is held up by what another one waits for."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents.coordinator import CacheCoordinator, Fork, Seat
from tests.coordinator.rig import (
    WatchedEngine,
    engine_for,
    feed,
    greedy,
    once,
    run_async,
    think,
    tiny_model,
    token_of,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class SlowEngine(WatchedEngine):
    """An engine whose forward takes a while."""

    seconds = 0.25

    def forward(self, *args: Any, **options: Any) -> Any:
        time.sleep(self.seconds)
        return super().forward(*args, **options)


async def write(seat: Seat, engine: WatchedEngine, count: int, turns: int) -> None:
    """Write some tokens; each takes some turns of the event loop."""
    block, token = engine.block(seat.name), 3
    with seat:
        for _ in range(count):
            token = token_of(await seat.submit(feed(block, token, sampler=greedy())))
            for _ in range(turns):
                await checkpoint()


async def test_a_team_that_waits_holds_up_no_other(engine: WatchedEngine) -> None:
    done = anyio.Event()

    async def waits(seat: Seat) -> None:
        with seat:
            await seat.submit(feed(engine.block("slow"), 1))
            await done.wait()
            await seat.submit(feed(engine.block("late"), 1))

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        group.start_soon(waits, coordinator.join("slow", team=1))
        await think(coordinator.join("a", team=2), engine.block("a"), 12)
        done.set()
    assert engine.ticks == [["slow", "a"], *[["a"]] * 11, ["late"]]


async def test_a_team_that_has_not_begun_holds_up_no_other(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        coordinator.join("never", team="one")
        await think(coordinator.join("a", team="other"), engine.block("a"), 3)
    assert engine.ticks == [["a"]] * 3


@pytest.mark.parametrize("team", [None, "one"])
async def test_within_a_team_everybody_is_waited_for(engine: WatchedEngine, team: Any) -> None:
    async with CacheCoordinator(engine) as coordinator:
        coordinator.join("late", team=team)
        coordinator.join("stranger", team="other").leave()
        with anyio.move_on_after(0.1) as scope:
            await once(coordinator.join("a", team=team), feed(engine.block("a"), 1))
        assert scope.cancelled_caught
        assert coordinator.statistics().thinking == ("late",)
    assert engine.ticks == []


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_teams_that_wait_for_nothing_share_every_tick(
    engine: WatchedEngine, turns: int
) -> None:
    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        for number, name in enumerate("abcdef"):
            seat = coordinator.join(name, team=number // 2)
            group.start_soon(write, seat, engine, 6, turns)
    assert engine.ticks == [list("abcdef")] * 6


async def test_teams_that_wait_for_less_than_a_tick_share_them() -> None:
    async def hesitates(seat: Seat, engine: WatchedEngine) -> None:
        with seat:
            for _ in range(4):
                await seat.submit(feed(engine.block("b"), 1))
                await anyio.sleep(0.01)

    with SlowEngine(tiny_model()) as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            group.start_soon(hesitates, coordinator.join("b", team="b"), engine)
            await think(coordinator.join("a", team="a"), engine.block("a"), 4)
    assert engine.ticks == [["b", "a"]] * 4


async def test_however_many_teams_join_and_wait_a_tick_is_closed() -> None:
    """One after the other, before the wait for the one before is over."""
    with SlowEngine(tiny_model()) as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:

            async def join() -> None:
                while True:
                    coordinator.join("waits", team=object())
                    await anyio.sleep(SlowEngine.seconds / 5)

            group.start_soon(join)
            with anyio.fail_after(20 * SlowEngine.seconds):
                await think(coordinator.join("a", team="a"), engine.block("a"), 4)
            group.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("stuck", [False, True])
async def test_an_event_loop_that_others_keep_busy_is_not_waited_for(
    engine: WatchedEngine, stuck: bool
) -> None:
    turns = 0

    async def spin() -> None:
        while True:
            await checkpoint()

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        turn = coordinator._loop.turn

        async def counted() -> None:
            nonlocal turns
            turns += 1
            await turn()

        coordinator._loop = replace(coordinator._loop, turn=counted)
        group.start_soon(spin)
        if stuck:
            coordinator.join("stuck", team="stuck")
        await think(coordinator.join("a", team="a"), engine.block("a"), 20)
        group.cancel_scope.cancel()
    assert turns < 20 * 15 + 200


async def test_a_team_that_is_late_is_waited_for_once() -> None:
    async def stuck(seat: Seat, engine: WatchedEngine) -> None:
        with seat:
            await seat.submit(feed(engine.block("b"), 1))
            await anyio.sleep_forever()

    with SlowEngine(tiny_model()) as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            group.start_soon(stuck, coordinator.join("b", team="b"), engine)
            await think(coordinator.join("a", team="a"), engine.block("a"), 8)
            statistics = coordinator.statistics()
            group.cancel_scope.cancel()
    waited = statistics.waiting_mean * 9  # requests
    assert SlowEngine.seconds / 2 < waited < SlowEngine.seconds * 3


async def test_seats_of_a_team_take_turns_while_another_one_goes_on() -> None:
    """One of the first team waits in its turn, and the next one is woken only afterwards."""
    order: list[str] = []
    ticks = anyio.Event()

    async def in_turn(seat: Seat, engine: WatchedEngine) -> None:
        with seat:
            await seat.submit(feed(engine.block(seat.name), 1))
            order.append(f"{seat.name} in")
            if seat.name == "a":
                await ticks.wait()
            order.append(f"{seat.name} out")

    with engine_for() as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(in_turn, coordinator.join(name, team="turns"), engine)
            await think(coordinator.join("z", team="z"), engine.block("z"), 6)
            assert order == ["a in"]
            ticks.set()
    assert order == [f"{name} {edge}" for name in "abc" for edge in ("in", "out")]


async def test_forks_of_a_seat_that_was_never_woken_are_freed(engine: WatchedEngine) -> None:
    block = engine.block("b")

    async def stuck(seat: Seat) -> None:
        with seat:
            await seat.submit(feed(engine.block("a"), 1))
            await anyio.sleep_forever()

    async def forks(seat: Seat) -> None:
        await seat.submit(feed(block, 1, 2), then=[Fork(source=block)])

    async with CacheCoordinator(engine) as coordinator:
        group = coordinator.task_group
        group.start_soon(stuck, coordinator.join("a", team="one"))
        group.start_soon(forks, coordinator.join("b", team="one"))
        await think(coordinator.join("z", team="z"), engine.block("z"), 4)
        assert engine.used_tokens == 1 + 2 + 4 + 2
    assert engine.used_tokens == 1 + 2 + 4


async def test_a_team_whose_seats_have_left_is_forgotten(engine: WatchedEngine) -> None:
    async with CacheCoordinator(engine) as coordinator:
        for number in range(5):
            await once(coordinator.join("a", team=number), feed(engine.block("a"), 1))
        await once(coordinator.join("z"), feed(engine.block("z"), 1))
        assert not coordinator._crews


async def test_a_seat_that_is_woken_late_is_told_its_own_tick(engine: WatchedEngine) -> None:
    done, told = anyio.Event(), dict[str, int]()

    async def write_once(seat: Seat) -> None:
        with seat:
            told[seat.name] = (await seat.submit(feed(engine.block(seat.name), 1))).tick
            if seat.name == "a":
                await done.wait()

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(write_once, coordinator.join(name, team="one"))
        await think(coordinator.join("z", team="z"), engine.block("z"), 5)
        done.set()
    assert told == {"a": 1, "b": 1}


async def test_a_team_holds_up_others_once_though_its_seats_wait_in_turn() -> None:
    async def hesitates(seat: Seat, engine: WatchedEngine) -> None:
        with seat:
            await seat.submit(feed(engine.block(seat.name), 1))
            await anyio.sleep(SlowEngine.seconds * 0.7)

    with SlowEngine(tiny_model()) as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for name in "abcdef":
                group.start_soon(hesitates, coordinator.join(name, team="turns"), engine)
            await think(coordinator.join("z", team="z"), engine.block("z"), 2)
            waited = coordinator.statistics().waiting_max
            group.cancel_scope.cancel()
    assert waited < SlowEngine.seconds * 2


class Dawdling(CacheCoordinator):
    """A coordinator whose event loop is held up where nobody can be woken yet."""

    seconds = 0.05

    def _wake(self, *args: Any) -> bool:
        woken = super()._wake(*args)
        if not woken and any(crew.served for crew in self._crews.values()):
            time.sleep(self.seconds)
        return woken


async def test_nothing_is_fed_twice_when_patience_runs_out(engine: WatchedEngine) -> None:
    """It does so between the look for who is to be woken, and that for who is ready."""
    blocks = [engine.block(name) for name in "ab"]

    async def linger(seat: Seat, number: int) -> None:
        with seat:
            await seat.submit(feed(blocks[number], 1))
            await anyio.sleep(0.2 * (1 - number))

    patience = Dawdling.seconds / 2
    async with (
        Dawdling(engine, patience=patience) as coordinator,
        anyio.create_task_group() as group,
    ):
        for number, name in enumerate("ab"):
            group.start_soon(linger, coordinator.join(name), number)
    assert [block.tokens for block in blocks] == [(1,), (1,)]


@pytest.mark.parametrize("turns", range(4))
async def test_whom_a_seat_lets_go_on_comes_first_though_a_tick_of_others_ends(
    engine: WatchedEngine, turns: int
) -> None:
    """One lets another one of its team go on at the very moment at which a tick ends."""
    order: list[str] = []
    resumed = anyio.Event()

    async def first(seat: Seat) -> None:
        with seat:
            await seat.submit(feed(engine.block("a"), 1))
            await until(lambda: engine.entered == 2)
            engine.gate.set()
            time.sleep(0.05)  # noqa: ASYNC251 -- the forward ends
            for _ in range(turns):
                await checkpoint()
            resumed.set()

    async def parked(seat: Seat) -> None:
        with seat:
            with seat.parked():
                await resumed.wait()
            for _ in range(3):
                await checkpoint()
            order.append("parked")

    async def last(seat: Seat) -> None:
        with seat:
            await seat.submit(feed(engine.block("b"), 1))
            order.append("last")

    async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
        for work in (first, last, parked):
            group.start_soon(work, coordinator.join(work.__name__, team="one"))
        await think(
            coordinator.join("z", team="z"),
            engine.block("z"),
            2,
            on_token=lambda token: engine.gate.clear() if engine.entered == 1 else None,
        )
    assert order == ["parked", "last"]


def test_on_asyncio_teams_share_every_tick_however_long_they_compute() -> None:
    """Longer than a tick, and for more turns than other event loops are watched for."""

    async def compute(seat: Seat, engine: WatchedEngine) -> None:
        with seat:
            for _ in range(4):
                await seat.submit(feed(engine.block(seat.name), 1))
                time.sleep(0.05)  # noqa: ASYNC251 -- it computes
                for _ in range(8):
                    await checkpoint()

    async def main() -> None:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            group.start_soon(compute, coordinator.join("a", team="a"), engine)
            await think(coordinator.join("z", team="z"), engine.block("z"), 4)

    with engine_for() as engine:
        run_async("asyncio", main)
    assert engine.ticks == [["a", "z"]] * 4
