"""A worker with a tool beside one who only thinks.

A call parks Ada alone: Ben thinks on, and sees call and result as he sees all that she writes. The
model is scripted, as the bundled one has learnt no calls; but what is called is what stands in
Ada's text, and what Ben adds up is what he sees.
"""

import re

import anyio

from hogwild_agents import Team, TokensWritten, Worker
from hogwild_agents.policies import StopOnAnswer
from hogwild_agents.testing import Recorder, scripted_model

PRICES = {"flour": 2, "sugar": 3}
CALLS = '@price {"item": "flour"}\n@price {"item": "sugar"}'
recorder = Recorder()


async def price(item: str) -> int:
    """Look up what a bag costs."""
    before = len(recorder.of(TokensWritten))
    await anyio.sleep(0.3)
    meanwhile = {event.worker for event in recorder.of(TokensWritten)[before:]}
    print(f"{item} is looked up; meanwhile wrote: {', '.join(meanwhile)}")
    return PRICES[item]


def add_up(view: str) -> str:
    """What Ben says when he has seen the prices, and what he says before."""
    found = [int(number) for number in re.findall(r"Result of price: (\d+)", view)]
    return f"{' + '.join(map(str, found))} = \\boxed{{{sum(found)}}}" if found else "I wait. "


async def main() -> None:
    """Print what Ada wrote, and what Ben answers."""
    model = scripted_model({"Ada": CALLS, "Ben": [add_up] * 999})
    ada = Worker("Ada", tools=[price])
    team = Team(model, workers=[ada, "Ben"], policies=[StopOnAnswer()])
    result = await team.solve("What do flour and sugar cost together?", on_event=recorder)
    print(result.texts["Ada"].strip())
    print(f"{result.author} answers {result.answer}")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# flour is looked up; meanwhile wrote: Ben
# sugar is looked up; meanwhile wrote: Ben
# **Ada [1]:** @price {"item": "flour"}
# @price {"item": "sugar"}
# Result of price: 2
# Result of price: 3
# Ben answers 5
