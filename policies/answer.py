"""StopOnAnswer: end the run as soon as a worker has boxed an answer."""

from __future__ import annotations

from hogwild_agents import Finish, Policy, TokensWritten
from hogwild_agents.policies.boxes import Boxes


class StopOnAnswer(Policy):
    r"""Ends the run with the first ``\boxed{...}`` that a worker completes by itself.

    Looks after every token, so the run ends in the middle of a step too. Only sampled text counts:
    a box in the prompt, or in what a policy made a worker say, is no answer, and neither is one
    that is empty or holds dots only. When several workers complete a box in one tick, the first in
    the team's order is taken.

    Helps always, but where answers are to be compared (:class:`StopOnAgreement`,
    :class:`MajorityVote`). Decides per run. Source: Hogwild! Inference, section 4 (their code looks
    at step ends only, and finds boxes of the prompt too).
    """

    def __init__(self) -> None:
        self._boxes = Boxes()

    async def on_tokens_written(self, event: TokensWritten) -> Finish | None:
        """Look for a box that has just been closed."""
        answer = self._boxes.push(event)
        return None if answer is None else Finish(answer=answer, author=event.worker)
