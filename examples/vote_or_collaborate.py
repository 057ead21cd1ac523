"""Vote against collaboration: three workers of the bundled model, the same eight problems.

Voters do the whole list, out of each other's sight, and the majority wins; a team divides it. One
worker hardly errs here, so that a vote has nothing to mend. At a high temperature the team hands
mistakes on: the toy has not learnt to check.
"""

import random
from contextlib import aclosing

import anyio

from hogwild_agents import CacheCoordinator, SamplingParams, Team, load_model
from hogwild_agents.policies import SelfConsistency, paper_policies

RANDOM = random.Random(0)


def draw() -> tuple[str, str]:
    """Return a problem in the model's language, and its answer."""
    sums = [[RANDOM.randint(1, 9) for _ in range(RANDOM.randint(2, 4))] for _ in "abcdef"]
    tasks = (f"{'abcdef'[i]}) {' + '.join(map(str, terms))}" for i, terms in enumerate(sums))
    return f"Tasks: {' '.join(tasks)}", ", ".join(str(sum(terms)) for terms in sums)


async def main() -> None:
    """Print how many answers are right, and what they took in all."""
    model = load_model()
    problems = dict(draw() for _ in range(8))
    trio = ["Alice", "Bob", "Carol"]
    ways = {
        "alone": Team(model, workers=["Alice"], policies=paper_policies()),
        "vote": Team(model, workers=trio, policies=[SelfConsistency()]),
        "together": Team(model, workers=trio, policies=paper_policies()),
    }
    for temperature, about in ((0.0, ""), (1.5, "about ")):
        for way, team in ways.items():
            team.sampling = SamplingParams(temperature=temperature)
            async with (
                CacheCoordinator(model.engine) as team.coordinator,
                aclosing(team.coordinator.map(team.solve, problems)) as stream,
            ):
                results = [result async for result in stream]
            right = sum(result.answer == problems[result.problem] for result in results)
            ticks, tokens = sum(r.ticks for r in results), sum(r.tokens for r in results)
            print(f"{temperature} {way:8} {about}{right} right, {ticks} ticks, {tokens} tokens")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# 0.0 alone    8 right, 608 ticks, 608 tokens
# 0.0 vote     8 right, 608 ticks, 1824 tokens
# 0.0 together 7 right, 271 ticks, 798 tokens
# 1.5 alone    about 6 right, 593 ticks, 593 tokens
# 1.5 vote     about 8 right, 610 ticks, 1811 tokens
# 1.5 together about 6 right, 251 ticks, 738 tokens
