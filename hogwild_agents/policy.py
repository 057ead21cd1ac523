"""Policy: an object that watches a team and may intervene.

A policy says what one copy of it decides for. By default that is a run: each run works on its own
deep copy, so teams share no state by accident. Policies are asked in the order in which the team
lists them, the copies for the workers in the order of the workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import iscoroutinefunction, isfunction, unwrap
from typing import Any, ClassVar, Literal, TypeAlias

from hogwild_agents.actions import Action
from hogwild_agents.errors import ClosedError, ConfigError
from hogwild_agents.events import (
    NAMES,
    ActionTaken,
    LimitReached,
    PolicyFailed,
    ProbeAnswered,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.nearest import nearest
from hogwild_agents.run_view import RunView

Answer: TypeAlias = Iterable[Action] | Action | None
"""What a handler may return: nothing, one action, or several in their order."""


class Policy:
    """A controller: its handlers answer an event with actions, taken before anything goes on.

    Override the handlers that matter. One that raises, takes longer than ``timeout``, or asks for
    what cannot be, fails the run with a :class:`PolicyError` that names the policy.

    Attributes:
        decides: what one copy decides for. ``"run"``: there is one for each run. ``"worker"``: one
            for each worker (``self.own_worker``), which hears only of that worker and of what
            concerns the whole run. ``"team"``: the very object, shared by all runs of the team.
        timeout: how many seconds a handler may take, None for ever. It can cut off only what
            awaits: a handler that computes without end blocks the event loop.
        enabled: whether the policy is asked at all; ``Run.switch`` changes it in mid-run.
    """

    observes_only: ClassVar[bool] = False
    """True for observers: their answers are ignored and their errors only told."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the handlers.

        Raises:
            ConfigError: there is no such event, or a handler is not async.
        """
        super().__init_subclass__(**options)
        for name, handler in vars(cls).items():
            if name.startswith("on_") and isfunction(handler):
                _check_handler(cls, name, handler)

    decides: Literal["run", "worker", "team"] = "run"
    timeout: float | None = 30.0
    enabled: bool = True
    _run: RunView | None = None
    _worker: str | None = None

    @property
    def name(self) -> str:
        """The policy's name in errors, events and transcripts."""
        return type(self).__name__

    @property
    def run(self) -> RunView:
        """The run, to read.

        Raises:
            ClosedError: it is in no run; a policy that decides for a team is in many, and reads
                what its events say.
        """
        if self._run is None:
            raise ClosedError(f"The policy {self.name} is in no run of its own: let a Team run it.")
        return self._run

    @property
    def own_worker(self) -> str:
        """The worker that this copy decides for.

        Raises:
            ClosedError: it decides for no single worker, or is in no run.
        """
        if self._worker is None:
            raise ClosedError(
                f"The policy {self.name} decides for no single worker: set decides = 'worker'."
            )
        return self._worker

    async def on_run_started(self, event: RunStarted) -> Answer:
        """Thinking begins."""
        return None

    async def on_worker_joined(self, event: WorkerJoined) -> Answer:
        """A worker joined in mid-run."""
        return None

    async def on_tokens_written(self, event: TokensWritten) -> Answer:
        """A worker wrote a token, or had text forced upon it; not so in a conclusion."""
        return None

    async def on_step_ended(self, event: StepEnded) -> Answer:
        """A worker finished a step; what is said to it now opens the next one."""
        return None

    async def on_tick_ended(self, event: TickEnded) -> Answer:
        """All workers have handled the tokens of a tick."""
        return None

    async def on_probe_answered(self, event: ProbeAnswered) -> Answer:
        """A worker's answer to a probe is there; all policies hear of it, whoever asked."""
        return None

    async def on_limit_reached(self, event: LimitReached) -> Answer:
        """A limit ends the thinking; Conclude and Finish are still possible."""
        return None

    async def on_worker_left(self, event: WorkerLeft) -> Answer:
        """A worker is done or failed."""
        return None

    async def on_action_taken(self, event: ActionTaken) -> Answer:
        """An action was taken; the answer to this event is ignored."""
        return None

    async def on_policy_failed(self, event: PolicyFailed) -> Answer:
        """An observer failed, or a name was taken; the answer to this event is ignored."""
        return None

    async def on_run_ended(self, event: RunEnded) -> Answer:
        """The run is over, or has failed, but for one that is cancelled; the answer is ignored."""
        return None


_HANDLERS = tuple(f"on_{name}" for name in NAMES)


def _check_handler(policy: type[Policy], name: str, handler: object) -> None:
    if name not in _HANDLERS:
        advice = nearest(name, _HANDLERS) or f"the events are {', '.join(NAMES)}."
        raise ConfigError(f"{policy.__name__}.{name} handles no event that there is: {advice}")
    if not iscoroutinefunction(unwrap(handler)):  # type: ignore[arg-type]
        raise ConfigError(f"{policy.__name__}.{name} is not async: define it with `async def`.")


class Observer(Policy):
    """A policy that only watches: it cannot harm a run, and nothing it returns has an effect."""

    observes_only: ClassVar[bool] = True
