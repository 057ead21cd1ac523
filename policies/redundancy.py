"""RedundancyCheck: ask a worker now and then whether somebody else does the same."""

from __future__ import annotations

from collections.abc import Iterable

from hogwild_agents import Action, ConfigError, Policy, Prompt, Say, StepEnded


class RedundancyCheck(Policy):
    """Opens a worker's next step with a question, after every so many tokens of its own.

    Each worker is counted by itself, from the tokens that it sampled. Helps when workers notice
    too late that they do the same; answers can be "no" or be ignored.

    Decides per worker. Source: Hogwild! Inference, section 3.3 (their code has one counter for all
    workers).

    Args:
        every: how many tokens of a worker between two checks, at least 1.
        prompt: the text: a prompt file's name or path.

    Raises:
        ConfigError: ``every`` is below 1, or there is no such prompt.
    """

    def __init__(self, every: int = 1024, prompt: str = "redundancy_check") -> None:
        if every < 1:
            raise ConfigError(f"A redundancy check every {every} tokens: give at least 1.")
        self._every = every
        self._text = Prompt.load(prompt).render()
        self._checked: dict[str, int] = {}

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """Ask, if it is time."""
        if event.tokens_written - self._checked.get(event.worker, 0) < self._every:
            return ()
        self._checked[event.worker] = event.tokens_written
        return [Say(worker=event.worker, text=self._text)]
