"""Panel: the policies of one run, asked in their order, their answers checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hogwild_agents import events as ev
from hogwild_agents.actions import Action, Conclude, Finish, Say
from hogwild_agents.errors import PolicyError
from hogwild_agents.log import get_logger
from hogwild_agents.policy import Policy

_log = get_logger(__name__)
_HANDLERS = {kind: f"on_{name}" for name, kind in ev.NAMES.items()}
_LISTEN_ONLY = (ev.RunEnded, ev.ActionTaken, ev.PolicyFailed)


@dataclass(frozen=True)
class Proposal:
    """An action, and the policy that asked for it."""

    policy: str
    action: Action


class Panel:
    """Asks the policies of one run.

    Args:
        policies: copied, so that runs share no state.
        tell: tells an event to everybody else.
    """

    def __init__(self, policies: Sequence[Policy], tell: Callable[[ev.Event], None]) -> None:
        self._policies = [copy.deepcopy(policy) for policy in policies]
        self._tell = tell

    async def consult(self, event: ev.Event, tick: int) -> list[Proposal]:
        """Ask every policy about an event; return what the controllers want.

        Raises:
            PolicyError: a controller raised.
        """
        proposals: list[Proposal] = []
        for policy in self._policies:
            try:
                answer = await getattr(policy, _HANDLERS[type(event)])(event)
                actions = [Proposal(policy.name, action) for action in answer or ()]
            except Exception as error:
                self._failed(policy, event, error, tick)
                continue
            if not policy.observes_only and not isinstance(event, _LISTEN_ONLY):
                proposals += actions
        return proposals

    def _failed(self, policy: Policy, event: ev.Event, error: Exception, tick: int) -> None:
        reason = f"{type(error).__name__}: {error}"
        handler = _HANDLERS[type(event)]
        _log.warning("policy failed", policy=policy.name, handler=handler, error=reason)
        self._tell(ev.PolicyFailed(policy=policy.name, error=reason, tick=tick))
        if not policy.observes_only:
            raise PolicyError(
                f"The policy {policy.name} failed in {handler} ({reason}), which ends the run: "
                "mend the policy, or make it an Observer if it only watches."
            ) from error


def check(
    proposal: Proposal,
    event: ev.Event,
    present: Mapping[str, bool],
    encode: Callable[[str], Sequence[int]],
) -> None:
    """Refuse an action that cannot be taken.

    Args:
        proposal: the action and its policy.
        event: what it answers.
        present: the workers by name, and whether each is still there.
        encode: turns text into token ids.

    Raises:
        PolicyError: with the policy's name, what is wrong and what to do.
    """
    problem = _problem(proposal.action, event, present, encode)
    if problem:
        raise PolicyError(f"The policy {proposal.policy} {problem}.")


def _problem(
    action: Action,
    event: ev.Event,
    present: Mapping[str, bool],
    encode: Callable[[str], Sequence[int]],
) -> str | None:
    if not isinstance(action, Say | Conclude | Finish):
        return f"answered {action!r}, which is no action: return Say, Conclude or Finish"
    if isinstance(action, Finish):
        return None
    if action.worker is not None and action.worker not in present:
        names = ", ".join(present)
        return f"named the worker {action.worker!r}, who is not in the team: name one of {names}"
    if not encode(action.text):
        return f"gave the text {action.text!r}, which has no tokens: give some text"
    if isinstance(action, Conclude):
        wrong = f"gave max_tokens={action.max_tokens}: give at least 1"
        return wrong if action.max_tokens < 1 else None
    if isinstance(event, ev.LimitReached):
        return "had a worker say something after the thinking ended: return Conclude or Finish"
    if not present[action.worker]:
        return f"had {action.worker!r} say something, who has left: ask a worker who is there"
    return None
