"""Finisher: when the budget is spent, have an answer given from what is known."""

from __future__ import annotations

from collections.abc import Iterable

from hogwild_agents import Action, Conclude, LimitReached, Policy, Prompt
from hogwild_agents.policies.given import require_whole


class Finisher(Policy):
    """Answers at the limit: all that was written, then a sentence that opens the box.

    The last worker of the team goes on greedily in the cache that is there; nothing is encoded
    again. Where the context is full, it forgets the oldest steps. Helps whenever a run may not
    finish by itself.

    Decides per run. Source: Hogwild! Inference, section 4, after the budget forcing of s1
    (arXiv 2501.19393).

    Args:
        max_tokens: for the answer; the paper takes 16 (LIMO, AIME), 64 (OlympiadBench) and 1024
            (LiveCodeBench).
        prompt: the text: a prompt file's name or path.

    Raises:
        ConfigError: ``max_tokens`` is no whole number from 1, or there is no such prompt.
    """

    def __init__(self, max_tokens: int = 16, prompt: str = "finisher") -> None:
        require_whole(f"A finisher with {max_tokens!r} tokens", max_tokens)
        self._max_tokens = max_tokens
        self._text = Prompt.load(prompt).render()

    async def on_limit_reached(self, event: LimitReached) -> Iterable[Action]:
        """Have the last worker conclude."""
        return [Conclude(text=self._text, max_tokens=self._max_tokens)]
