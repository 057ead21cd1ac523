"""Stream: a run in a task of its own, and its events for whoever asks.

The generator only waits for the run: no task group and no cancel scope is open while it yields, so
that it may be left at any time, and closed from any task, as an event loop does with a generator
that was dropped.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio

from hogwild_agents.bell import Bell
from hogwild_agents.errors import ClosedError

if TYPE_CHECKING:
    from hogwild_agents.coordinator import CacheCoordinator
    from hogwild_agents.events import Event
    from hogwild_agents.record import Listener
    from hogwild_agents.run import Run


async def stream(
    begin: Callable[[Listener], Run], coordinator: CacheCoordinator | None
) -> AsyncGenerator[Event, None]:
    """Execute a run, and yield its events; then raise what it raised. See :meth:`Team.stream`.

    Args:
        begin: makes the run, which tells its events to the listener that it is given.
        coordinator: in whose task group it runs; None for a task of the event loop's own.

    Raises:
        ClosedError: the coordinator is not open, or was closed under way.
    """
    group = None if coordinator is None else coordinator.task_group
    outlet = _Outlet()
    run = begin(outlet.tell)
    if group is None:
        outlet.task = _start_task(outlet, run)
    else:
        group.start_soon(outlet.execute, run)
    try:
        while (event := await outlet.next()) is not None:
            yield event
    finally:
        await outlet.stop()
    outlet.check()


class _Outlet:
    """What stands between a run and whoever asks for its events.

    Attributes:
        task: what the run is executed in, if it is no task of a group; asyncio keeps none itself.
    """

    def __init__(self) -> None:
        self.task: object = None
        self._told: deque[Event] = deque()
        self._scope = anyio.CancelScope()
        self._over = False  # whether the run has come to its end, whatever that was
        self._finished = False  # whether by itself
        self._failure: Exception | None = None
        self._bell = Bell()  # rung when anything has changed

    async def next(self) -> Event | None:
        """Wait for the next event; None after the last."""
        while not self._told:
            if self._over:
                return None
            await self._bell.wait()
        return self._told.popleft()

    async def stop(self) -> None:
        """Cancel the run and wait for its end."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            while not self._over:
                await self._bell.wait()

    def check(self) -> None:
        """Raise what the run raised, or that it was cut short."""
        if self._failure is not None:
            raise self._failure
        if not self._finished:
            raise ClosedError(
                "The coordinator was closed before the run of this stream was over: leave the loop "
                "over its events before the coordinator."
            )

    # -- in the run's task

    async def execute(self, run: Run) -> None:
        """Execute the run; raises nothing."""
        try:
            with self._scope:
                await run.execute()
                self._finished = True
        except Exception as error:  # whoever iterates gets it
            self._failure = error
        finally:
            self.end()

    def end(self) -> None:
        """Note that the run is over; twice is fine."""
        self._over = True
        self._bell.ring()

    def tell(self, event: Event) -> None:
        """Take an event of the run."""
        self._told.append(event)
        self._bell.ring()


def _start_task(outlet: _Outlet, run: Run) -> object:
    """Execute a run in a task that belongs to no task group.

    For generators alone: they cannot own a task group, because they may be closed in another task
    than they were begun in, or never. This one cancels the task and waits for its end when it is
    closed, and at the latest the event loop does.
    """
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.spawn_system_task(outlet.execute, run, context=copy_context())
    task = asyncio.get_running_loop().create_task(outlet.execute(run))
    task.add_done_callback(lambda _: outlet.end())  # also if it was cancelled before it began
    return task
