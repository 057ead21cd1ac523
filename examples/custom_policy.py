"""Policies of one's own: a class that hands out the sums, and a function that ends the run.

A policy gets events, and answers with actions. ``@controller`` makes one of a function.
"""

import anyio

from hogwild_agents import (
    Conclude,
    Policy,
    Prompt,
    RunStarted,
    RunView,
    Say,
    StepEnded,
    Team,
    controller,
    load_model,
)


class HandOut(Policy):
    """Opens every step with the next label, so that nobody has to choose."""

    def __init__(self, labels: str) -> None:
        self.left = list(labels)

    async def on_run_started(self, event: RunStarted) -> list[Say]:
        """Give each worker a sum."""
        return [Say(worker=name, text=f"{self.left.pop(0)})") for name in event.workers]

    async def on_step_ended(self, event: StepEnded) -> Say | None:
        """Give the worker another one."""
        return Say(worker=event.worker, text=f"{self.left.pop(0)})") if self.left else None


@controller
async def conclude(event: StepEnded, run: RunView) -> Conclude | None:
    """Have the answer given after four steps, before a worker sees that all is done."""
    return Conclude(text=Prompt.load("finisher").render()) if len(run.steps) == 4 else None


async def main() -> None:
    """Solve one problem."""
    team = Team(load_model(), policies=[HandOut("abcd"), conclude])
    result = await team.solve("Tasks: a) 7 + 1 - 3 b) 4 + 9 - 6 c) 12 - 5 + 8 d) 3 + 3 + 3")
    print(*(step.text.strip() for step in result.steps), sep="\n")
    print(f"{result.answer} ({result.author}, {result.reason})")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# **Alice [1]:** a) 7 + 1 = 8 - 3 = 5.
# **Bob [1]:** b) 4 + 9 = 13 - 6 = 7.
# **Alice [2]:** c) 12 - 5 = 7 + 8 = 15.
# **Bob [2]:** d) 3 + 3 = 6 + 3 = 9.
# 5, 7, 15, 9 (Bob, finisher)
