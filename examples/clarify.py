"""A person clarifies in mid-run: what she says is a step of its own, which the workers see at once.

``team.say`` speaks to all runs of a team, ``run.say`` to one, and ``to="Bob"`` to one worker alone.
The model is scripted, as the bundled one cannot ask; how Bob goes on depends on what he was told.
"""

import anyio

from hogwild_agents import RunEnded, StepEnded, Team
from hogwild_agents.policies import StopOnAnswer
from hogwild_agents.testing import scripted_model


def convert(view: str) -> str:
    """What Bob says when he has been told the unit, or has not."""
    factor = 1000 if "[1]:** In metres" in view else 1
    return f"So it holds 2 * 3 * 4 * {factor} = \\boxed{{{24 * factor}}} litres."


MODEL = scripted_model(
    {
        "Alice": "Are these metres or decimetres?\n\n",
        "Bob": ["The volume is the product of all three sides, in whatever unit.\n\n", convert],
    }
)


async def main() -> None:
    """Answer what a worker asks."""
    team = Team(MODEL, policies=[StopOnAnswer()])
    async for event in team.stream("A tank is 2 by 3 by 4. How many litres does it hold?"):
        if isinstance(event, StepEnded):
            print(event.text.strip())
            if event.body.endswith("?"):
                team.say("In metres.", speaker="Eve")
        elif isinstance(event, RunEnded):
            print(event.result.texts["Bob"].splitlines()[-1])


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# **Alice [1]:** Are these metres or decimetres?
# **Eve [1]:** In metres.
# **Bob [1]:** The volume is the product of all three sides, in whatever unit.
# **Bob [2]:** So it holds 2 * 3 * 4 * 1000 = \boxed{24000}
