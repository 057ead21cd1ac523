"""A FastAPI handler that streams: each text as a worker writes it, then the answer.

All requests share the ticks of one coordinator, and the run of a client who leaves is stopped.
It needs ``pip install fastapi httpx2``.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

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
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/solve", response_class=EventSourceResponse)
async def solve(problem: str) -> AsyncIterator[ServerSentEvent]:
    """Solve a problem, and send what is written as it comes."""
    async with aclosing(app.state.team.stream(problem)) as events:
        async for event in events:
            if isinstance(event, hogwild.TokensWritten):
                yield ServerSentEvent(event=event.worker, data=event.text)
            elif isinstance(event, hogwild.RunEnded):
                yield ServerSentEvent(event="answer", data=event.result.answer)


if __name__ == "__main__":
    with TestClient(app) as client:
        response = client.get("/solve", params={"problem": "Tasks: a) 7 + 1 b) 4 + 9"})
    print(response.text.split("\n\n")[-2])

# It prints:
# event: answer
# data: "8, 13"
