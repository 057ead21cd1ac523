"""A worker whose tokens come from the keyboard, in turn with one of the model.

Each line that Ann types is a step of hers, and an empty one ends the run. While she types she is
parked, and owes no ticks; without ``TurnTaking`` Bob thinks on meanwhile. He is scripted, to answer
what he sees. ``TypingWorker`` takes lines from elsewhere too: a list, a socket, a chat.
"""

import re

import anyio

from hogwild_agents import Finish, StepEnded, Team, TypingWorker, WorkerLeft, controller
from hogwild_agents.policies import TurnTaking
from hogwild_agents.testing import scripted_model


@controller
async def end(event: WorkerLeft) -> Finish:
    """Ann has left, and Bob has nobody to answer."""
    return Finish(reason=f"{event.worker} left")


def double(view: str) -> str:
    """What Bob says to the last number that is not a step's."""
    number = int(re.findall(r"\b\d+\b(?!\])", view)[-1])
    return f"Twice {number} is {2 * number}.\n\n"


async def main() -> None:
    """Talk until Ann leaves."""
    print("You are Ann: type a line with a number, such as 'I have 7.'; an empty line ends it.")
    model = scripted_model({"Bob": [double] * 99})
    policies = [TurnTaking(prompt=None), end]
    team = Team(model, workers=[TypingWorker("Ann"), "Bob"], policies=policies)
    async for event in team.stream("Ann says numbers; Bob doubles them, as 1 to 2."):
        if isinstance(event, StepEnded):
            print(event.text.strip())


if __name__ == "__main__":
    try:
        anyio.run(main)
    except KeyboardInterrupt:
        print("\nInterrupted.")

# It prints:
# You are Ann: type a line with a number, such as 'I have 7.'; an empty line ends it.
# **Ann [1]:** I have 7.
# **Bob [1]:** Twice 7 is 14.
# **Ann [2]:** Now 30.
# **Bob [2]:** Twice 30 is 60.
