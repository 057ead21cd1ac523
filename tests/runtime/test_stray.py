"""A cancellation that comes out of what somebody awaited is that one's failure, and ends no run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest

from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.events import TickEnded, WorkerLeft
from hogwild_agents.limits import Limits
from hogwild_agents.policy import Policy
from hogwild_agents.stray import unless_stray
from tests.runtime.rig import Typist, language_model, make_team, play, run_on, solve

ELSEWHERE = "awaited something that was cancelled elsewhere"


async def await_what_is_cancelled(*_: object) -> None:
    """As where a client's connection is given up: trio has nothing like it."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


def test_it_fails_the_worker_that_awaited_it() -> None:
    workers = [Typist("Alice", 2, await_what_is_cancelled), Typist("Bob", 9)]
    record = run_on("asyncio", lambda: solve(make_team(workers=workers, limits=Limits())))
    assert record.result.failures["Alice"].startswith(f"RuntimeError: Alice {ELSEWHERE}")
    assert [event.worker for event in record.told(WorkerLeft)] == ["Alice", "Bob"]
    assert record.result.reason == "left"


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_it_fails_the_policy_that_awaited_it(timeout: float | None) -> None:
    class Calls(Policy):
        async def on_tick_ended(self, event: TickEnded) -> None:
            await await_what_is_cancelled()

    policy = Calls()
    policy.timeout = timeout
    team = make_team(policies=[policy], limits=Limits(ticks=5))
    record = run_on("asyncio", lambda: play(team))
    assert f"The policy Calls {ELSEWHERE}" in str(record.error)


def test_it_fails_the_item_of_a_map_and_not_the_coordinator() -> None:
    async def main() -> None:
        async with CacheCoordinator(language_model().engine) as coordinator:

            async def work(item: int) -> int:
                if item == 1:
                    await await_what_is_cancelled()
                return item

            results = coordinator.map(work, range(3))
            assert await anext(results) == 0
            with pytest.raises(RuntimeError, match=ELSEWHERE):
                await anext(results)
            assert [item async for item in coordinator.map(work, [2, 3])] == [2, 3]

    run_on("asyncio", main)


def _by_scope(task: asyncio.Task[None], scope: anyio.CancelScope) -> None:
    scope.cancel()


def _by_task(task: asyncio.Task[None], scope: anyio.CancelScope) -> None:
    task.cancel()


@pytest.mark.parametrize("cancel", [_by_scope, _by_task])
def test_what_is_meant_passes(cancel: Callable[..., object]) -> None:
    async def main() -> None:
        scope = anyio.CancelScope()
        ended: list[str] = []

        async def work() -> None:
            with scope:
                try:
                    await unless_stray(anyio.sleep_forever(), "Nobody")
                except asyncio.CancelledError:
                    ended.append("cancelled")
                    raise

        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        cancel(task, scope)
        await asyncio.wait([task])
        assert ended == ["cancelled"]
        assert task.cancelled() == (cancel is _by_task)

    asyncio.run(main())
