"""A FastAPI handler that streams: each text as a worker writes it, then the answer.

All requests share the ticks of one coordinator, and the run of a client who leaves is stopped.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient

import hogwild_agents as hogwild
from hogwild_agents.policies import paper_policies


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one model and one coordinator for all requests."""
    model = hogwild.load_model()
    async with hogwild.CacheCoordinator(model.engine) as hub:
        app.state.team = hogwild.Team(model, policies=paper_policies(), coordinator=hub)
        app.state.tasks = hub.task_group
        yield


app = FastAPI(lifespan=lifespan)


async def execute(run: hogwild.Run) -> None:
    """Let a run come to its end; if that is an error, the result says so."""
    with suppress(hogwild.HogwildError):
        await run.execute()


@app.get("/solve", response_class=EventSourceResponse)
async def solve(problem: str) -> AsyncIterator[ServerSentEvent]:
    """Solve a problem, in a task that outlives nobody but this request."""
    events: asyncio.Queue[hogwild.Event] = asyncio.Queue()
    run = app.state.team.start(problem, on_event=events.put_nowait)
    app.state.tasks.start_soon(execute, run)
    try:
        while not isinstance(event := await events.get(), hogwild.RunEnded):
            if isinstance(event, hogwild.TokensWritten):
                yield ServerSentEvent(event=event.worker, data=event.text)
        yield ServerSentEvent(event="answer", data=event.result.answer)
    finally:
        run.stop("the client has left")


if __name__ == "__main__":
    with TestClient(app) as client:
        response = client.get("/solve", params={"problem": "Tasks: a) 7 + 1 b) 4 + 9"})
    print(response.text.split("\n\n")[-2])

# It prints:
# event: answer
# data: "8, 13"
