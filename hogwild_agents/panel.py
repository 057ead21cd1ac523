"""Panel: the policies of one run, asked in their order."""

from __future__ import annotations

import copy
import dis
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import CO_COROUTINE
from types import CodeType

import anyio

from hogwild_agents import events as ev
from hogwild_agents.actions import Action
from hogwild_agents.errors import ConfigError, PolicyError, UsageError
from hogwild_agents.policy import Policy
from hogwild_agents.run_view import RunView
from hogwild_agents.stray import unless_stray

HANDLERS = {kind: f"on_{name}" for name, kind in ev.NAMES.items()}
_LISTEN_ONLY = (ev.RunEnded, ev.ActionTaken, ev.PolicyFailed)


@dataclass(frozen=True)
class Proposal:
    """An action, and which policy asked for it."""

    policy: Policy
    action: Action


@dataclass(frozen=True)
class Hearer:
    """A policy that hears of one kind of event.

    Attributes:
        waits: whether its handler may wait for anything.
    """

    policy: Policy
    ask: Callable[[ev.Event], Awaitable[object]]
    waits: bool


class _Entry:
    """One policy of the team, and its copies in this run by worker (None: for all)."""

    def __init__(self, given: Policy) -> None:
        self.given = given
        self.copies: dict[str | None, Policy] = {}


class Panel:
    """Asks the policies of one run.

    Args:
        policies: copied, so that runs share no state, unless they decide for the team.

    Raises:
        ConfigError: a policy cannot be copied.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._entries = [_Entry(policy) for policy in policies]
        self._view: RunView | None = None
        # By the kind of event and the worker that it is about, until copies change.
        self._hearers: dict[tuple[type, str | None], list[Hearer]] = {}
        for entry in self._entries:
            if entry.given.decides == "run":
                entry.copies[None] = _copy(entry.given)
            elif entry.given.decides == "team":
                entry.copies[None] = entry.given
            else:
                _copy(entry.given)  # now, where it is no failure of a run

    def seat(self, view: RunView) -> None:
        """Give the policies the run to read."""
        self._view = view
        for entry in self._entries:
            if entry.given.decides == "run":
                entry.copies[None]._run = view

    def join(self, worker: str) -> None:
        """Make the copies that decide for a worker.

        Raises:
            ConfigError: a policy cannot be copied.
        """
        entries = [entry for entry in self._entries if entry.given.decides == "worker"]
        for entry, policy in [(entry, _copy(entry.given)) for entry in entries]:  # all, or none
            entry.copies[worker] = policy
            policy._run, policy._worker = self._view, worker
        self._hearers = {}

    def switch(self, name: str, on: bool) -> None:
        """Switch the policies of this name on or off, in this run.

        Raises:
            UsageError: there is none.
        """
        found = [entry for entry in self._entries if entry.given.name == name]
        if not found:
            names = ", ".join(entry.given.name for entry in self._entries) or "none"
            raise UsageError(f"There is no policy {name!r} in this run, which has: {names}.")
        for entry in found:
            for policy in entry.copies.values():
                policy.enabled = on
            if entry.given.decides == "worker":
                entry.given = _copy(entry.given)  # whose copies are those of workers to come
                entry.given.enabled = on

    async def ask(self, hearer: Hearer, event: ev.Event) -> list[Proposal]:
        """Ask one policy about an event; return what it wants, if it is a controller.

        Raises:
            Exception: whatever the policy raised, or that it took too long.
        """
        policy = hearer.policy
        if not policy.enabled:
            return []
        answer = await (_ask(hearer, event) if hearer.waits else hearer.ask(event))
        if answer is None or policy.observes_only or isinstance(event, _LISTEN_ONLY):
            return []
        return [Proposal(policy, action) for action in _actions(answer)]

    def hearers(self, event: ev.Event) -> Sequence[Hearer]:
        """Return whose handler does anything about an event, in the order of being asked."""
        kind, worker = type(event), getattr(event, "worker", None)
        found = self._hearers.get((kind, worker))
        if found is None:
            found = self._hearers[kind, worker] = self._find_hearers(HANDLERS[kind], worker)
        return found

    def _find_hearers(self, handler: str, about: str | None) -> list[Hearer]:
        return [
            Hearer(policy, method, _may_wait(method))
            for entry in self._entries
            for worker, policy in entry.copies.items()
            if about is None or worker in (None, about)
            if not _ignores(method := getattr(policy, handler), handler)
        ]


def failure(policy: Policy, event: ev.Event, reason: str) -> PolicyError:
    """Return what ends a run in which a controller has raised."""
    return PolicyError(
        f"The policy {policy.name} failed in {HANDLERS[type(event)]} ({reason}), which ends the "
        "run: mend the policy, or make it an Observer if it only watches."
    )


async def _ask(hearer: Hearer, event: ev.Event) -> object:
    """Call a handler that may wait; whatever it awaits is cut off after the policy's timeout."""
    timeout, who = hearer.policy.timeout, f"The policy {hearer.policy.name}"
    if timeout is None:
        return await unless_stray(hearer.ask(event), who)
    with anyio.move_on_after(timeout) as scope:
        return await unless_stray(hearer.ask(event), who)
    if scope.cancelled_caught:
        raise TimeoutError(f"it took longer than its timeout of {timeout} seconds")
    raise AssertionError("a scope is left by a return or by its deadline")


def _ignores(method: object, handler: str) -> bool:
    """Whether a policy's handler is the one that does nothing."""
    return getattr(method, "__func__", None) is getattr(Policy, handler)


def _may_wait(method: object) -> bool:
    """Whether a handler may wait for anything: not so if it is a coroutine without an await."""
    code = getattr(getattr(method, "__func__", None), "__code__", None)
    return code is None or not code.co_flags & CO_COROUTINE or _awaits(code)


@lru_cache(maxsize=256)
def _awaits(code: CodeType) -> bool:
    names = {instruction.opname for instruction in dis.get_instructions(code)}
    return not names.isdisjoint({"GET_AWAITABLE", "GET_ANEXT"})


def _actions(answer: object) -> list[Action]:
    """Return the actions of an answer; what is none is found out when it is checked."""
    if answer is None:
        return []
    if isinstance(answer, Iterable) and not isinstance(answer, str):
        return list(answer)
    return [answer]  # type: ignore[list-item]


def _copy(policy: Policy) -> Policy:
    try:
        return copy.deepcopy(policy)
    except Exception as error:
        raise ConfigError(
            f"The policy {policy.name} cannot be copied for a run ({type(error).__name__}: "
            f"{error}): make what it holds in on_run_started, or give it a __deepcopy__."
        ) from error
