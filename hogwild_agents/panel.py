"""Panel: the policies of one run, asked in their order, their answers checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hogwild_agents import events as ev
from hogwild_agents.actions import Action, Conclude, Finish, Say
from hogwild_agents.errors import ConfigError, PolicyError
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

    Raises:
        ConfigError: a policy cannot be copied.
    """

    def __init__(self, policies: Sequence[Policy], tell: Callable[[ev.Event], None]) -> None:
        self._policies = [_copy(policy) for policy in policies]
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
                if not policy.observes_only and not isinstance(event, _LISTEN_ONLY):
                    proposals += [Proposal(policy.name, action) for action in answer or ()]
            except Exception as error:
                await self._failed(policy, event, error, tick)
        return proposals

    async def _failed(self, policy: Policy, event: ev.Event, error: Exception, tick: int) -> None:
        reason = f"{type(error).__name__}: {error}"
        handler = _HANDLERS[type(event)]
        _log.warning("policy failed", policy=policy.name, handler=handler, error=reason)
        failed = ev.PolicyFailed(policy=policy.name, error=reason, tick=tick)
        self._tell(failed)
        if not isinstance(event, ev.PolicyFailed):  # whoever fails in hearing of a failure
            await self.consult(failed, tick)
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
    action: object = proposal.action  # policies are anybody's code: their types prove nothing
    match action:
        case Finish():
            problem = _wrong_finish(action)
        case Say():
            problem = (
                _wrong_worker(action.worker, present)
                or _wrong_text(action.text, encode)
                or _wrong_moment(action, event, present)
            )
        case Conclude():
            problem = (
                (_wrong_worker(action.worker, present) if action.worker is not None else "")
                or _wrong_text(action.text, encode)
                or _wrong_reason(action.reason)
                or _wrong_count(action.max_tokens)
            )
        case _:
            problem = f"answered {action!r}, which is no action: return Say, Conclude or Finish"
    if problem:
        raise PolicyError(f"The policy {proposal.policy} {problem}.")


def _wrong_worker(worker: object, present: Mapping[str, bool]) -> str:
    if worker in present:
        return ""
    names = ", ".join(present)
    return f"named the worker {worker!r}, who is not in the team: name one of {names}"


def _wrong_text(text: object, encode: Callable[[str], Sequence[int]]) -> str:
    if not isinstance(text, str):
        return f"gave the text {text!r}, which is no string: give some text"
    if not encode(text):
        return f"gave the text {text!r}, which has no tokens: give some text"
    return ""


def _wrong_moment(action: Say, event: ev.Event, present: Mapping[str, bool]) -> str:
    if isinstance(event, ev.LimitReached):
        return "had a worker say something after the thinking ended: return Conclude or Finish"
    if not present[action.worker]:
        return f"had {action.worker!r} say something, who has left: ask a worker who is there"
    return ""


def _wrong_count(count: object) -> str:
    if isinstance(count, int) and count >= 1:
        return ""
    return f"gave max_tokens={count!r}: give a whole number, at least 1"


def _wrong_reason(reason: object) -> str:
    if isinstance(reason, str) and reason:
        return ""
    return f"gave the reason {reason!r}: say in a word why the run ends"


def _wrong_finish(action: Finish) -> str:
    for name in ("answer", "author"):
        value: object = getattr(action, name)
        if value is not None and not isinstance(value, str):
            return f"gave the {name} {value!r}, which is no string: give a string, or None"
    return _wrong_reason(action.reason)


def _copy(policy: Policy) -> Policy:
    try:
        return copy.deepcopy(policy)
    except Exception as error:
        raise ConfigError(
            f"The policy {policy.name} cannot be copied for a run ({type(error).__name__}: "
            f"{error}): make what it holds in on_run_started, or give it a __deepcopy__."
        ) from error
