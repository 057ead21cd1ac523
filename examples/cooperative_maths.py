"""Cooperative maths: one list of sums, solved by one, two and three workers of the bundled model.

Nobody assigns anything. A worker claims a sum by writing its letter, sees the others' claims and
results in the shared cache, and boxes the answer when all is known.
"""

import anyio

from hogwild_agents import Team, load_model
from hogwild_agents.policies import paper_policies

PROBLEM = (
    "Tasks: a) 7 + 1 - 3 + 2 b) 4 + 9 - 6 c) 12 - 5 + 8 d) 3 + 3 + 3 "
    "e) 9 - 2 + 6 - 1 f) 5 + 5 + 5 g) 14 - 7 + 2 h) 8 + 8 - 4"
)
NAMES = ["Alice", "Bob", "Carol"]


async def main() -> None:
    """Solve the problem with teams of three sizes, and print who did what."""
    model = load_model()
    for size in (1, 2, 3):
        team = Team(model, workers=NAMES[:size], policies=paper_policies())
        result = await team.solve(PROBLEM)
        print(f"{result.answer} after {result.ticks} ticks")
        for name in team.names:
            done = [step.body for step in result.steps if step.worker == name and "=" in step.body]
            print(f"    {name} did {' '.join(body[0] for body in done)}")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# 7, 7, 15, 9, 12, 15, 9, 12 after 106 ticks
#     Alice did a b c d e f g h
# 7, 7, 15, 9, 12, 15, 9, 12 after 58 ticks
#     Alice did a b c d
#     Bob did h g f e
# 7, 7, 15, 9, 12, 15, 9, 12 after 43 ticks
#     Alice did a c
#     Bob did h g f
#     Carol did b d e
