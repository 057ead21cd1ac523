"""SelfConsistency: workers who don't see each other, and a vote."""

from __future__ import annotations

from collections.abc import Iterable

from hogwild_agents import Action, Hide, RunStarted, WorkerJoined
from hogwild_agents.policies.vote import MajorityVote

_ISOLATED = "isolated"


class SelfConsistency(MajorityVote):
    """Keeps all workers out of each other's sight, and takes the most frequent of their answers.

    The votes, and the arguments, are those of :class:`MajorityVote`. Where the team's layout is
    ``"isolated"`` nobody sees anybody anyway; in any other layout this policy hides everybody from
    everybody at the start, and whoever joins later. Give the team a prompt that does not speak of
    other workers.

    The baseline to measure collaboration against; it is better than that as long as workers disturb
    each other more than they help. Decides per run. Source: arXiv 2203.11171, and the baseline of
    Hogwild! Inference, section 4.
    """

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Hide all from all."""
        return () if event.layout == _ISOLATED else [Hide(author=name) for name in event.workers]

    async def on_worker_joined(self, event: WorkerJoined) -> Hide | None:
        """Hide a worker who joins from the others; it doesn't see them anyway."""
        there = event.worker in self.run.names  # people who speak are not
        return Hide(author=event.worker) if there and self.run.layout != _ISOLATED else None
