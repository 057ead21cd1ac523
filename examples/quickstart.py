"""Three workers of the bundled model share a list of sums, in one attention cache.

Prints the answer, what it took, and each worker's text. From the command line the same is
``hogwild run``.
"""

import anyio

from hogwild_agents import Team, load_model
from hogwild_agents.policies import paper_policies

PROBLEM = "Tasks: a) 7 + 1 - 3 + 2 b) 4 + 9 - 6 c) 12 - 5 + 8 d) 3 + 3 + 3 e) 9 - 2 + 6 - 1"


async def main() -> None:
    """Solve one problem."""
    team = Team(load_model(), workers=["Alice", "Bob", "Carol"], policies=paper_policies())
    result = await team.solve(PROBLEM)
    print(f"{result.answer}  ({result.reason}, {result.ticks} ticks)\n")
    for step in result.steps:
        print(step.text.strip())


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# 7, 7, 15, 9, 12  (answer, 33 ticks)
#
# **Carol [1]:** b) 4 + 9 = 13 - 6 = 7.
# **Alice [1]:** a) 7 + 1 = 8 - 3 = 5 + 2 = 7.
# **Bob [1]:** e) 9 - 2 = 7 + 6 = 13 - 1 = 12.
# **Bob [2]:** c) taken.
# **Carol [2]:** d) 3 + 3 = 6 + 3 = 9.
# **Alice [2]:** c) 12 - 5 = 7 + 8 = 15.
