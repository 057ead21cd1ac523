"""Policy: an object that watches a team and may intervene.

Each run works on its own deep copy of every policy, so teams share no state by accident. Policies
are asked in the order in which the team lists them, and workers in the order of the team.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hogwild_agents.actions import Action
from hogwild_agents.events import (
    ActionTaken,
    LimitReached,
    PolicyFailed,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerLeft,
)

NOTHING: tuple[Action, ...] = ()


class Policy:
    """A controller: its handlers answer an event with actions, taken before anything goes on.

    Override the handlers that matter. One that raises, or asks for what cannot be, fails the run
    with a :class:`PolicyError` that names the policy.
    """

    observes_only: ClassVar[bool] = False
    """True for observers: their answers are ignored and their errors only told."""

    @property
    def name(self) -> str:
        """The policy's name in errors, events and transcripts."""
        return type(self).__name__

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Thinking begins."""
        return NOTHING

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        """A worker wrote a token, or had text forced upon it; not so in a conclusion."""
        return NOTHING

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """A worker finished a step; what is said to it now opens the next one."""
        return NOTHING

    async def on_tick_ended(self, event: TickEnded) -> Iterable[Action]:
        """All workers have handled the tokens of a tick."""
        return NOTHING

    async def on_limit_reached(self, event: LimitReached) -> Iterable[Action]:
        """A limit ends the thinking; Conclude and Finish are still possible."""
        return NOTHING

    async def on_worker_left(self, event: WorkerLeft) -> Iterable[Action]:
        """A worker is done or failed."""
        return NOTHING

    async def on_action_taken(self, event: ActionTaken) -> Iterable[Action]:
        """Some policy intervened; the answer to this event is ignored."""
        return NOTHING

    async def on_policy_failed(self, event: PolicyFailed) -> Iterable[Action]:
        """Some observer failed; the answer to this event is ignored."""
        return NOTHING

    async def on_run_ended(self, event: RunEnded) -> Iterable[Action]:
        """The run is over, or has failed, but for one that is cancelled; the answer is ignored."""
        return NOTHING


class Observer(Policy):
    """A policy that only watches: it cannot harm a run, and nothing it returns has an effect."""

    observes_only: ClassVar[bool] = True
