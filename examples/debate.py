"""Two workers against each other, insults allowed, and a judge who weighs the arguments alone.

``Debate`` lets them argue in rounds. The model is scripted, as no small one can quarrel, but what
Ben quotes is what he sees. Printed is what steps hold behind the words that the policy begins with.
"""

import re

import anyio

from hogwild_agents import Prompt, Team, Worker
from hogwild_agents.policies import Debate
from hogwild_agents.testing import scripted_model


def retort(view: str) -> str:
    """Quote Ada."""
    claim = re.findall(r"divides only by [\w ]+", view)[-1]
    return f'What "{claim}" has one divisor here, you abacus; a prime has two.\n\n'


MODEL = scripted_model(
    {
        "Ada": ["It divides only by 1 and itself, fool.\n\n", "True, 6 = 1 * 2 * 3, pedant.\n\n"],
        "Ben": ["With 1 a prime, no number would have but one factoring.\n\n", retort],
        "Judge": "Ben, for Ada has granted his point. The insults weigh nothing.\n\n",
    },
    answers={"Judge": {"final answer": "no}"}},
)


async def main() -> None:
    """Let them argue for two rounds."""
    role = Prompt.load("role_debater").render(insults=True)
    judge = Worker("Judge", role=Prompt.load("role_judge").render())
    team = Team(
        MODEL,
        workers=[Worker("Ada", role=role), Worker("Ben", role=role), judge],
        layout="interleaved",
        policies=[Debate(positions={"Ada": "1 is a prime number", "Ben": "1 is no prime number"})],
    )
    result = await team.solve("Is 1 a prime number? Answer yes or no.")
    for step in result.steps:
        print(f"{step.worker} [{step.number}]", re.split(r":\s", step.text.strip())[-1])
    print(f"{result.answer} ({result.reason})")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# Ada [1] It divides only by 1 and itself, fool.
# Ben [1] With 1 a prime, no number would have but one factoring.
# Ada [2] True, 6 = 1 * 2 * 3, pedant.
# Ben [2] What "divides only by 1 and itself" has one divisor here, you abacus; a prime has two.
# Judge [1] Ben, for Ada has granted his point. The insults weigh nothing.
# no (judgement)
