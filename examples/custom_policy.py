"""A policy of one's own: a moderator that hands out the first sums, and watches who finishes.

A policy is a small class. It gets events, and answers with actions from a closed set.
"""

from collections.abc import Iterable

import anyio

from hogwild_agents import Action, Policy, RunStarted, Say, StepEnded, Team, load_model
from hogwild_agents.policies import paper_policies


class Moderator(Policy):
    """Gives every worker its first sum, and counts the steps of each."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Open the first step of each worker with a label of its own."""
        labels = "abcdefgh"
        return [Say(worker=name, text=f"{labels[i]})") for i, name in enumerate(event.workers)]

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """Count, and leave everything as it is."""
        self.steps[event.worker] = self.steps.get(event.worker, 0) + 1
        print(f"{event.worker} has finished {self.steps[event.worker]} steps")
        return ()


async def main() -> None:
    """Solve one problem under the moderator's eye."""
    team = Team(load_model(), policies=[Moderator(), *paper_policies()])
    result = await team.solve("Tasks: a) 7 + 1 - 3 b) 4 + 9 - 6 c) 12 - 5 + 8 d) 3 + 3 + 3")
    print(result.answer)


if __name__ == "__main__":
    anyio.run(main)
