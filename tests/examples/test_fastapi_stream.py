"""The handler of the FastAPI example sends what is written at once, and stops for who leaves."""

from __future__ import annotations

import math
import runpy
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from hogwild_agents import Statistics
from tests.examples.outputs import EXAMPLES

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # FastAPI's own queue is asyncio's
]
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "GET",
    "path": "/solve",
    "query_string": b"problem=Tasks:%20a)%207%20%2B%201%20b)%204%20%2B%209",
    "headers": [],
}


class Client:
    """Somebody who asks the example, and reads an event in so many seconds.

    Args:
        app: the example's.
        leaves_after: how many messages.
        pace: how long each takes.

    Attributes:
        events: what came, without the response's beginning and end.
        thinking: whether workers were thinking when it came.
    """

    def __init__(self, app: Any, *, leaves_after: float = math.inf, pace: float = 0.0) -> None:
        self.events: list[bytes] = []
        self.thinking: list[bool] = []
        self._app = app
        self._leaves_after = leaves_after
        self._pace = pace

    async def ask(self) -> None:
        await self._app(SCOPE, self._receive, self._send)

    @property
    def statistics(self) -> Statistics:
        found: Statistics = self._app.state.team.coordinator.statistics()
        return found

    async def _receive(self) -> MutableMapping[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError("it waits until it is cancelled")

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if len(self.events) >= self._leaves_after:
            raise OSError("The client has left.")
        if body := message.get("body"):
            self.events.append(body)
            self.thinking.append(self.statistics.seats > 0)
        await anyio.sleep(self._pace)


@asynccontextmanager
async def served() -> AsyncIterator[Any]:
    """The example's app, between its beginning and its end."""
    names = runpy.run_path(str(EXAMPLES / "fastapi_stream.py"))
    async with names["lifespan"](names["app"]):
        yield names["app"]


async def test_it_sends_while_workers_think() -> None:
    async with served() as app:
        client = Client(app)
        await client.ask()
    assert client.events[0] == b'event: Alice\ndata: "**Alice [1]:** "\n\n'
    assert client.events[-1] == b'event: answer\ndata: "8, 13"\n\n'
    assert client.thinking[0]
    assert not client.thinking[-1]


@pytest.mark.parametrize("pace", [0.0, 0.1])
async def test_the_run_of_a_client_who_leaves_is_stopped(pace: float) -> None:
    async with served() as app:
        client = Client(app, leaves_after=5, pace=pace)
        with pytest.raises(ExceptionGroup):  # of FastAPI: its send has failed
            await client.ask()
        for _ in range(500):  # a tick may be under way
            if client.statistics.seats == client.statistics.cache_used == 0:
                break
            await anyio.sleep(0.01)
        assert client.statistics.seats == client.statistics.cache_used == 0
    assert len(client.events) == 5
