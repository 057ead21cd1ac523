"""A moderator shares out the work; the others wait until they get some.

``Moderator`` reads "@NAME: task" in what Mo writes, gives the task to whom it names, and parks all
who have none. The model is scripted, as the bundled one cannot assign anything; but Mo's last step
is computed from what Mo sees by then, so without the others there would be no answer.
"""

import re

import anyio

from hogwild_agents import Team
from hogwild_agents.policies import Moderator, StopOnAnswer
from hogwild_agents.testing import scripted_model


def add_up(view: str) -> str:
    """What Mo says when the others are done."""
    legs = [int(number) for number in re.findall(r"makes (\d+)", view)]
    return f"{' + '.join(map(str, legs))} legs: \\boxed{{{sum(legs)}}}"


MODEL = scripted_model(
    {
        "Mo": ["@Bob: count the legs of the cows. @Carol: count the spiders' legs.\n\n", add_up],
        "Bob": "3 cows with 4 legs each makes 12.\n\n",
        "Carol": "2 spiders with 8 legs each makes 16.\n\n",
    }
)


async def main() -> None:
    """Print the steps in the order in which they ended, and the answer."""
    policies = [Moderator("Mo", opening=None), StopOnAnswer()]
    team = Team(MODEL, workers=["Mo", "Bob", "Carol"], policies=policies)
    result = await team.solve("A farm has 3 cows and 2 spiders. How many legs are there?")
    for step in result.steps:
        print(step.text.strip())
    print(f"{result.answer} ({result.author}, {result.reason})")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# **Mo [1]:** @Bob: count the legs of the cows. @Carol: count the spiders' legs.
# **Bob [1]:** Mo has given me this part, and I do nothing else: count the legs of the cows.
# Here is how it goes:
# 3 cows with 4 legs each makes 12.
# **Carol [1]:** Mo has given me this part, and I do nothing else: count the spiders' legs.
# Here is how it goes:
# 2 spiders with 8 legs each makes 16.
# 28 (Mo, answer)
