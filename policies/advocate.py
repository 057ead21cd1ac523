"""DevilsAdvocate: now and then somebody must attack what was found last."""

from __future__ import annotations

from hogwild_agents import Policy, Prompt, Say, StepEnded
from hogwild_agents.policies.given import require_whole


class DevilsAdvocate(Policy):
    """After every so many steps of the team, has a worker attack the last result of another one.

    The attack opens the next step of whoever ends one first then; or that of one worker who always
    plays this part. Alone, a worker attacks its own last step.

    Helps against a team that agrees too soon. Decides per run. Source: the devil's advocate of
    group decisions (Schwenk 1990), and the tit for tat of arXiv 2305.19118.

    Args:
        every: how many finished steps of the team lie between two attacks, at least 1.
        advocate: the name of the worker who attacks; None for whoever comes.
        prompt: opens the attack: a prompt file's name or path; gets ``author`` and ``step``.

    Raises:
        ConfigError: ``every`` is no whole number from 1, or there is no such prompt.
    """

    def __init__(
        self, every: int = 6, advocate: str | None = None, *, prompt: str = "devils_advocate"
    ) -> None:
        require_whole(f"A devil's advocate every {every!r} steps", every)
        self._every = every
        self._advocate = advocate
        self._prompt = Prompt.load(prompt)
        self._done = 0

    async def on_step_ended(self, event: StepEnded) -> Say | None:
        """Have the worker attack, if it is time."""
        names, steps = self.run.names, self.run.steps
        if len(steps) - self._done < self._every or event.worker not in names:
            return None
        if self._advocate not in (None, event.worker):
            return None
        targets = [name for name in names if name != event.worker] or names
        last = next((step for step in reversed(steps) if step.worker in targets), None)
        if last is None:
            return None
        self._done = len(steps)
        text = self._prompt.render(author=last.worker, step=last.number)
        return Say(worker=event.worker, text=text)
