"""What a coordinator asks of its event loop itself comes to what anyio does."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents.turns import running_loop

pytestmark = pytest.mark.anyio


async def test_the_loop_s_time_is_anyio_s() -> None:
    before = anyio.current_time()
    now = running_loop().now()
    assert before <= now <= anyio.current_time()


async def test_a_turn_lets_others_run_and_tells_of_being_cancelled() -> None:
    loop, turns = running_loop(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for _ in range(8):
            await loop.turn()
        assert turns
        group.cancel_scope.cancel()
        for _ in range(8):
            await loop.turn()
        pytest.fail("it was not told")


@pytest.mark.parametrize("early", [False, True])
async def test_a_signal_lets_a_task_go_on_whenever_it_is_set(early: bool) -> None:
    signal = running_loop().signal()
    async with anyio.create_task_group() as group:
        if early:
            signal.set()
        group.start_soon(signal.wait)
        await anyio.wait_all_tasks_blocked()
        signal.set()  # again, too


async def test_a_signal_may_be_set_when_nobody_waits_any_more() -> None:
    signal = running_loop().signal()
    with anyio.move_on_after(0.01):
        await signal.wait()
    signal.set()
