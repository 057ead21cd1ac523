"""Mapping: one piece of work for each of many items, some at once, results in the items' order.

The tasks run in a task group that is given, and the generator only waits for them: no task group
and no cancel scope is open while it yields, so that it may be left at any time, from any task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from hogwild_agents.bell import Bell
from hogwild_agents.errors import ClosedError
from hogwild_agents.stray import unless_stray

__all__ = ["Mapping"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Errand(Generic[Result]):
    """The work for one item.

    Attributes:
        scope: cancels it.
        ended: whether it has come to its end, whatever that was.
        error: what it raised.
        results: the one result, if it has come to that.
    """

    def __init__(self, *, ended: bool = False, error: Exception | None = None) -> None:
        self.scope = anyio.CancelScope()
        self.ended = ended
        self.error = error
        self.results: list[Result] = []

    def take(self) -> Result:
        """Return what came of it, or raise that."""
        if self.error is not None:
            raise self.error
        if not self.results:
            raise ClosedError(
                "The coordinator was closed before all items of its map were done: leave the loop "
                "over the results before the coordinator."
            )
        return self.results.pop()


class Mapping(Generic[Item, Result]):
    """What :meth:`CacheCoordinator.map` does, once.

    Args:
        solve: the work.
        items: for which; read in one task.
        limit: how much of it may be under way at once, and how much done before its turn when
            something begins.
    """

    def __init__(
        self,
        solve: Callable[[Item], Awaitable[Result]],
        items: Iterable[Item] | AsyncIterable[Item],
        limit: int,
    ) -> None:
        self._solve = solve
        self._items = items
        self._limit = limit
        self._errands: deque[_Errand[Result]] = deque()  # begun and not yielded, in order
        self._reading = anyio.CancelScope()
        self._tasks = 0
        self._bell = Bell()  # rung when anything has changed

    async def results(self, get_group: Callable[[], TaskGroup]) -> AsyncGenerator[Result, None]:
        """Do the work in tasks of a group, and yield what comes of it in order.

        Args:
            get_group: called when the first result is asked for.
        """
        group = get_group()
        self._start(group, self._read, group)
        try:
            while (errand := await self._next()) is not None:
                yield errand.take()
        finally:
            self._stop_after(None)
            with anyio.CancelScope(shield=True):
                while self._tasks:
                    await self._bell.wait()

    async def _next(self) -> _Errand[Result] | None:
        """Wait for the next one in order; None after the last."""
        while self._errands or self._tasks:
            if self._errands and self._errands[0].ended:
                self._bell.ring()
                return self._errands.popleft()
            await self._bell.wait()
        return None

    # -- in tasks of their own

    async def _read(self, group: TaskGroup) -> None:
        """Begin with one item after the other, as there is room for them."""
        last: _Errand[Result] | None = _Errand(ended=True)  # without result: it was cut short
        try:
            with self._reading:
                await self._begin_all(group)
                last = None
        except Exception as error:
            last = _Errand(ended=True, error=error)
        finally:
            if last is not None:
                self._errands.append(last)

    async def _begin_all(self, group: TaskGroup) -> None:
        items = _each(self._items)
        try:
            await self._room()
            async for item in items:
                if self._reading.cancel_called:  # it came too late to be interrupted
                    return
                errand = _Errand[Result]()
                self._errands.append(errand)
                self._start(group, self._work, errand, item)
                await self._room()
        finally:
            await items.aclose()

    async def _room(self) -> None:
        """Wait until few are under way, and few have been done before their turn."""
        while True:
            ended = sum(errand.ended for errand in self._errands)
            if max(ended, len(self._errands) - ended) < self._limit:
                return
            await self._bell.wait()

    async def _work(self, errand: _Errand[Result], item: Item) -> None:
        try:
            with errand.scope:
                errand.results.append(await unless_stray(self._solve(item), "The work of a map"))
        except Exception as error:  # whoever iterates gets it
            errand.error = error
            self._stop_after(errand)
        finally:
            errand.ended = True

    # -- small change

    def _start(self, group: TaskGroup, work: Callable[..., Awaitable[None]], *args: object) -> None:
        async def counted() -> None:
            try:
                await work(*args)
            finally:
                self._tasks -= 1
                self._bell.ring()

        self._tasks += 1
        group.start_soon(counted)

    def _stop_after(self, failed: _Errand[Result] | None) -> None:
        """Cancel whatever comes after one that has failed, or everything: nobody will see it."""
        self._reading.cancel()
        errands = list(self._errands)
        first = 0 if failed is None else errands.index(failed) + 1
        for errand in errands[first:]:
            errand.scope.cancel()


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
    if not isinstance(items, AsyncIterable):
        for item in items:
            yield item
        return
    reader = aiter(items)
    try:
        async for item in reader:
            yield item
    finally:
        if isinstance(reader, AsyncGenerator):
            await reader.aclose()
