"""StopOnAnswer: end the run as soon as a worker has boxed an answer."""

from __future__ import annotations

from collections.abc import Iterable

from hogwild_agents import Action, Finish, Policy, TokensWritten, find_boxed


class StopOnAnswer(Policy):
    r"""Ends the run with the first ``\boxed{...}`` that a worker completes by itself.

    Looks after every token, so the run ends in the middle of a step too. Only sampled text counts:
    a box in the prompt, or in what a policy made a worker say, is no answer, and an empty one is
    none either. When several workers complete a box in one tick, the first in the team's order is
    taken.

    Helps always. Decides per run. Source: Hogwild! Inference, section 4 (their code looks at step
    ends only, and finds boxes of the prompt too).
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        """Look for a box that has just been closed."""
        if event.source == "forced":
            self._texts[event.worker] = ""
            return ()
        text = self._texts.get(event.worker, "") + event.text
        self._texts[event.worker] = text
        answer = find_boxed(text) if "}" in event.text else None
        return [Finish(answer=answer, author=event.worker)] if answer else ()
