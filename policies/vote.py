"""MajorityVote: everybody answers, and the most frequent answer is the team's."""

from __future__ import annotations

from collections import Counter

from hogwild_agents import (
    Action,
    Dismiss,
    Finish,
    LimitReached,
    Policy,
    Prompt,
    Say,
    TokensWritten,
    WorkerLeft,
)
from hogwild_agents.policies.borrowed import Borrowed
from hogwild_agents.policies.boxes import Boxes, Normalise, normalise_answer
from hogwild_agents.policies.given import require_function, require_whole


class MajorityVote(Policy):
    r"""Lets every worker box an answer, and ends the run with the most frequent one.

    A worker's first box is its vote, and with it the worker is done (it is dismissed; what it wrote
    stays visible). The run ends when nobody is left without a vote, or at a limit with the votes
    that there are; without any, the next policy may answer, so list a :class:`Finisher` behind this
    one. Of answers with equally many votes the one that was given first wins, within a tick that of
    the first worker in the team's order.

    Helps where a single worker is often wrong and errors differ; it takes as long as the slowest
    worker, unless ``ask_after`` has everybody vote in time. Decides per run. Source:
    self-consistency (arXiv 2203.11171).

    Args:
        ask_after: so many tokens of a worker, at least 1, after which it is made to vote; None to
            leave it to the worker.
        normalise: gives equal answers the same form.
        prompt: what then opens the box: a prompt file's name or path.

    Raises:
        ConfigError: ``ask_after`` is no whole number from 1, ``normalise`` is no function,
            or there is no such prompt.
    """

    def __init__(
        self,
        ask_after: int | None = None,
        *,
        normalise: Normalise = normalise_answer,
        prompt: str = "vote",
    ) -> None:
        if ask_after is not None:
            require_whole(f"A vote after {ask_after!r} tokens", ask_after)
        require_function("normalise", normalise)
        self._ask_after = ask_after
        self._normalise = Borrowed(normalise)
        self._text = Prompt.load(prompt).render()
        self._boxes = Boxes(opening=self._text)
        self._votes: dict[str, str] = {}
        self._asked: set[str] = set()

    async def on_tokens_written(self, event: TokensWritten) -> Action | None:
        """Take a worker's vote, or ask for it."""
        worker, answer = event.worker, self._boxes.push(event)
        if event.source == "forced" or worker in self._votes:
            return None
        if answer is None:
            return self._ask(worker)
        self._votes[worker] = answer
        return self._result() or Dismiss(worker=worker)

    async def on_worker_left(self, event: WorkerLeft) -> Finish | None:
        """Go on without a worker, whether it has voted or not."""
        return self._result()

    async def on_limit_reached(self, event: LimitReached) -> Finish | None:
        """Count the votes that there are."""
        return self._winner()

    def _ask(self, worker: str) -> Say | None:
        if self._ask_after is None or worker in self._asked:
            return None
        if self.run.written(worker) < self._ask_after:
            return None
        self._asked.add(worker)
        return Say(worker=worker, text=self._text)

    def _result(self) -> Finish | None:
        waiting = [name for name in self.run.names if name not in self._votes]
        return None if waiting else self._winner()

    def _winner(self) -> Finish | None:
        forms = {name: self._normalise.value(answer) for name, answer in self._votes.items()}
        if not forms:
            return None
        counts = Counter(forms.values())
        winner = max(counts, key=counts.__getitem__)  # the first of those with most votes
        author = next(name for name, form in forms.items() if form == winner)
        return Finish(answer=self._votes[author], author=author, reason="vote")
