"""A worker of one's own: it says a sentence, waits until another one has said something, leaves.

Override ``run``; everything that a worker can do is a method of it. Other workers see what it
writes in the very tick in which it is fed, and its block stays visible when it has left. While it
waits it owes no ticks, and is asked again after every event of the run.
"""

import anyio

from hogwild_agents import StepEnded, Team, Worker, load_model
from hogwild_agents.policies import paper_policies


class Helper(Worker):
    """Does the first sum by hand, and leaves the rest to the others when they have done one."""

    async def run(self) -> None:
        """Write one finished task into the shared cache, as a step of its own."""
        await self.write("a) 7 + 1 = 8 - 3 = 5.")
        await self.end_step()
        await self.until(lambda: len(self.run_view.steps) > 1)
        print(f"{self.name} leaves, as {self.run_view.steps[-1].body!r} is done.")


async def main() -> None:
    """Stream the events of a run."""
    team = Team(load_model(), workers=[Helper("Alice"), "Bob"], policies=paper_policies())
    async for event in team.stream("Tasks: a) 7 + 1 - 3 b) 4 + 9 - 6 c) 12 - 5 + 8"):
        if isinstance(event, StepEnded):
            print(event.text.strip())


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# **Alice [1]:** a) 7 + 1 = 8 - 3 = 5.
# **Bob [1]:** c) 12 - 5 = 7 + 8 = 15.
# Alice leaves, as 'c) 12 - 5 = 7 + 8 = 15.' is done.
# **Bob [2]:** b) 4 + 9 = 13 - 6 = 7.
