"""Reproducible order: the same events in the same order, however the event loop shuffles tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents.coordinator import CacheCoordinator, Seat
from hogwild_agents.engine import Sampler
from tests.coordinator.rig import WARM, engine_for, feed, run_async, token_of

RUNS = 12


async def shared_state_run() -> list[str]:
    """Four seats that change what the others do: by a shared list, parking, spawning, cancelling.

    Each worker's next move depends on the whole list of events so far, so that one swap anywhere
    changes everything after it.
    """
    events: list[str] = []
    bells: dict[str, anyio.Event] = {}
    scopes: dict[str, anyio.CancelScope] = {}
    with engine_for() as engine:
        blocks = {name: engine.block(name) for name in "abcdef"}

        async def settle_slowly() -> None:
            for _ in range(len(events) % 4):
                await checkpoint()

        async def worker(seat: Seat, rounds: int) -> None:
            name, block = seat.name, blocks[seat.name]
            others = [blocks[other] for other in "abcd" if other != name]
            sampler = Sampler(WARM, seed=ord(name))
            with seat, anyio.CancelScope() as scopes[name]:
                await seat.submit()  # the first turn, in join order
                events.append(f"{name} begins")
                token = len(events)
                for _ in range(rounds):
                    result = await seat.submit(
                        feed(block, token, view=[*others, block], sampler=sampler)
                    )
                    token = (token_of(result) + len(events)) % 61
                    events.append(f"{name} {token}")
                    await settle_slowly()
                    await act(seat, token)
            events.append(f"{name} ends")

        async def act(seat: Seat, token: int) -> None:
            if token % 7 == 0 and len(bells) < 2:
                bell = bells[seat.name] = anyio.Event()
                with seat.parked():
                    await bell.wait()
                events.append(f"{seat.name} is back")
            elif token % 3 == 0 and bells:
                bells.pop(min(bells)).set()
            elif token % 11 == 0 and "e" not in scopes:
                for name in "ef":
                    group.start_soon(worker, coordinator.join(name), 4)
            elif token % 13 == 0 and "e" in scopes:
                scopes["e"].cancel()

        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for seat in [coordinator.join(name) for name in "abcd"]:
                group.start_soon(worker, seat, 14)

            async def let_all_go() -> None:
                while coordinator.statistics().seats:
                    if bells and coordinator.statistics().parked == coordinator.statistics().seats:
                        bells.pop(min(bells)).set()
                    await anyio.sleep(0.005)

            group.start_soon(let_all_go)
    return events


def test_the_order_of_events_is_the_same_in_every_run() -> None:
    runs = [run_async("trio", shared_state_run) for _ in range(RUNS)]
    runs += [run_async("asyncio", shared_state_run) for _ in range(1)]
    assert all(run == runs[0] for run in runs)
    assert len(runs[0]) > 50
    kinds = {event.split(" ", 1)[1] for event in runs[0] if not event[-1].isdigit()}
    assert kinds == {"begins", "ends", "is back"}
    assert {event[0] for event in runs[0]} == set("abcdef")


async def start_in_order(passes: bool) -> str:
    order: list[str] = []

    async def worker(seat: Seat) -> None:
        with seat:
            if passes:
                await seat.submit()
            order.append(seat.name)

    with engine_for() as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for seat in [coordinator.join(name) for name in "abcdefgh"]:
                group.start_soon(worker, seat)
    return "".join(order)


def test_passing_once_puts_the_first_turns_in_order_too() -> None:
    def orders(main: Callable[[], object]) -> set[str]:
        return {run_async("trio", main) for _ in range(10)}

    assert len(orders(partial(start_in_order, False))) > 1, "trio shuffles, or this proves nothing"
    assert orders(partial(start_in_order, True)) == {"abcdefgh"}


@pytest.mark.anyio
async def test_the_next_seat_is_woken_when_the_one_before_has_settled() -> None:
    order: list[str] = []

    async def worker(seat: Seat) -> None:
        with seat:
            for _ in range(3):
                await seat.submit()
                order.append(f"{seat.name} in")
                for _ in range(20):
                    await checkpoint()
                order.append(f"{seat.name} out")

    with engine_for() as engine:
        async with CacheCoordinator(engine) as coordinator, anyio.create_task_group() as group:
            for seat in [coordinator.join(name) for name in "abc"]:
                group.start_soon(worker, seat)
    turns = [f"{name} {edge}" for name in "abc" for edge in ("in", "out")]
    assert order == turns * 3
