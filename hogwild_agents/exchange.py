"""Exchange: what happens in a run goes out to everybody; what the policies ask for comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from hogwild_agents import events as ev
from hogwild_agents.actions import Action, Conclude, Finish, Spawn
from hogwild_agents.checks import Situation, fault
from hogwild_agents.clock import Clock
from hogwild_agents.ending import Ending
from hogwild_agents.errors import PolicyError, UsageError
from hogwild_agents.log import get_logger
from hogwild_agents.panel import HANDLERS, Hearer, Panel, Proposal, failure
from hogwild_agents.policy import Policy
from hogwild_agents.record import Record

if TYPE_CHECKING:
    from hogwild_agents.desk import Desk

_log = get_logger(__name__)


class _Hearing:
    """An event that policies are asked about, and how far that has come.

    One that was cut off is gone on with later: nobody is asked twice, and nobody is left out.

    Attributes:
        event: what has happened.
        left, named: how many had left by then, and how many names had been taken.
        hearers: who is still to be asked; None before anybody was.
        proposals: what is still to be taken of the answers.
        inner: what has come of that, to be heard before anything else.
        error: what ends the run after that.
    """

    __slots__ = ("error", "event", "hearers", "inner", "left", "named", "proposals")

    def __init__(self, event: ev.Event, left: int, named: int) -> None:
        self.event = event
        self.left = left
        self.named = named
        self.hearers: deque[Hearer] | None = None
        self.proposals: deque[Proposal] = deque()
        self.inner: deque[_Hearing] = deque()
        self.error: PolicyError | None = None


class Exchange:
    """Tells the events of one run, and takes the actions that answer them.

    Args:
        panel: the run's policies.
        record: where events go besides.
        ending: what ends the run.
        clock: its time.
        situation: returns what actions are checked against.
        take: lets an action take effect; returns what is to be told of it.
    """

    def __init__(
        self,
        panel: Panel,
        record: Record,
        ending: Ending,
        clock: Clock,
        situation: Callable[[], Situation],
        take: Callable[[Action], Sequence[ev.Event]],
    ) -> None:
        self._panel = panel
        self._record = record
        self._ending = ending
        self._clock = clock
        self._situation = situation
        self._take = take
        self._dismissed: list[Desk] = []
        self._left: list[str] = []  # who has left, in this order
        self._named: list[tuple[str, Policy | None]] = []  # names taken in mid-run, and by whom
        self._heard: deque[_Hearing] = deque()  # what policies are to be asked about
        self._untold: deque[ev.Event] = deque()  # of that
        self._cut: deque[_Hearing] = deque()  # whose asking was cut off, before anything else
        self._telling = False

    async def emit(self, *events: ev.Event) -> None:
        """Tell events to everybody, then take what the policies ask for, in their order.

        All are told before the first policy is asked: what was written is on record, even if
        whoever wrote it is cancelled while a policy thinks. Policies that were not asked then are
        asked first thing with the next events.

        Raises:
            PolicyError: a controller raised, or asked for what cannot be; the run has failed.
        """
        await self._ask(self._told(events))

    async def hear_out(self, *events: ev.Event) -> None:
        """Emit events after the last tick; policies hear before of what no tick can end any more.

        Raises:
            PolicyError: see :meth:`emit`.
        """
        heard, self._heard = self._heard, deque()
        await self._ask([*heard, *self._told(events)])

    async def wind_up(self) -> None:
        """Ask the policies about what is left where one of them has ended the run.

        Whoever waits is cut off at once, as is who was waiting when that happened.

        Raises:
            PolicyError: see :meth:`emit`.
        """
        while self._cut or self._heard:
            heard, self._heard = self._heard, deque()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await self._ask([*heard])

    def tell(self, event: ev.Event) -> None:
        """Tell an event to those who only listen."""
        self._record.tell(event)

    def hear(self, *events: ev.Event) -> None:
        """Tell what has happened while nobody can wait for policies; :meth:`catch_up` asks them.

        What listeners do meanwhile is told afterwards.
        """
        for event in events:
            if type(event) is ev.WorkerJoined:
                self._named.append((event.worker, None))
            self._heard.append(self._hearing(event))
        self._tell_in_turn(events)

    async def catch_up(self, ended: ev.TickEnded) -> None:
        """Tell the end of a tick; ask the policies about that, and before about what was heard.

        What happens meanwhile, and what was not begun where this is cancelled, comes after the next
        tick, or with :meth:`hear_out` where there is none.

        Raises:
            PolicyError: see :meth:`emit`.
        """
        left = len(self._heard) + 1
        self.hear(ended)
        try:
            while left and self._heard:
                left -= 1
                await self._consult(self._heard.popleft())
        finally:
            self._let_go()

    async def end(self, ended: ev.RunEnded) -> None:
        """Ask the policies about the end of the run, which everybody else is told later.

        Raises:
            PolicyError: a controller raised.
        """
        self._cut.clear()
        await self._consult(self._hearing(ended))

    def act(self, action: Action, source: str) -> None:
        """Take an action that somebody outside asks for.

        Raises:
            UsageError: it cannot be taken.
            ConfigError: a policy cannot be copied for who would join.
        """
        wrong = fault(action, None, self._situation())
        if wrong:
            raise UsageError(f"{source} {wrong}.")
        self.hear(*self._taken(action, source, None))
        self._let_go()

    def dismiss(self, desk: Desk) -> None:
        """Cancel a worker, once all that is to be told of this moment is told."""
        if not desk.left:
            self._dismissed.append(desk)

    def _told(self, events: Sequence[ev.Event]) -> list[_Hearing]:
        """Tell events to those who only listen; return what policies are to be asked about."""
        for event in events:
            self._record.tell(event)
            if type(event) is ev.WorkerLeft:
                self._left.append(event.worker)
        return [self._hearing(event) for event in events]

    def _tell_in_turn(self, events: Sequence[ev.Event]) -> None:
        """Tell events; what is told in here because of them comes behind them."""
        self._untold += events
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                self._record.tell(self._untold.popleft())
        finally:
            self._telling = False

    def _hearing(self, event: ev.Event) -> _Hearing:
        return _Hearing(event, len(self._left), len(self._named))

    async def _ask(self, hearings: Sequence[_Hearing]) -> None:
        """Ask the policies; who is dismissed by that goes after all that they want is taken."""
        try:
            await self._consult(*hearings)
        finally:
            self._let_go()

    async def _consult(self, *hearings: _Hearing) -> None:
        """Ask the policies, before about what was cut off."""
        due, self._cut = self._cut, deque()
        due += hearings
        try:
            while due:
                await self._hear_out(due[0])
                due.popleft()
        except PolicyError as error:
            self._ending.fail(error)
            raise
        except BaseException:
            self._cut.extendleft(reversed(due))
            raise

    async def _hear_out(self, hearing: _Hearing) -> None:
        """Ask the policies about one event, and take what they want, from where that stands."""
        if hearing.hearers is None:
            hearing.hearers = deque(self._panel.hearers(hearing.event))
        while True:
            while hearing.inner:
                await self._hear_out(hearing.inner[0])
                hearing.inner.popleft()
            if hearing.error is not None:
                raise hearing.error
            if hearing.hearers:
                hearer = hearing.hearers.popleft()
                try:
                    hearing.proposals += await self._panel.ask(hearer, hearing.event)
                except Exception as error:
                    self._failed(hearer.policy, hearing, error)
            elif hearing.proposals:
                self._accept(hearing.proposals.popleft(), hearing)
            else:
                return

    def _failed(self, policy: Policy, hearing: _Hearing, error: Exception) -> None:
        """Tell that a policy has raised."""
        reason, handler = f"{type(error).__name__}: {error}", HANDLERS[type(hearing.event)]
        _log.warning("policy failed", policy=policy.name, handler=handler, error=reason)
        self._complain(policy, hearing, reason)
        if not policy.observes_only:
            hearing.error = failure(policy, hearing.event, reason)
            hearing.error.__cause__ = error

    def _complain(self, policy: Policy, hearing: _Hearing, reason: str) -> None:
        failed = ev.PolicyFailed(policy=policy.name, error=reason, tick=self._clock.ticks)
        told = self._told([failed])
        if not isinstance(hearing.event, ev.PolicyFailed):  # whoever fails in hearing of a failure
            hearing.inner += told

    def _accept(self, proposal: Proposal, hearing: _Hearing) -> None:
        """Take an action that answers an event."""
        action, policy = proposal.action, proposal.policy
        wrong = fault(action, hearing.event, self._situation())
        if wrong:
            what = f"The policy {policy.name} ({type(action).__name__}) {wrong}."
            if not self._is_late(proposal, hearing):
                raise PolicyError(what)
            _log.info("action dropped", reason=what)
            if isinstance(action, Spawn) and self._is_named(action.worker.name):
                self._complain(policy, hearing, f"it {wrong}.")
            return
        if self._ending.outcome is not None or (self._ending.over and not _ends(action)):
            return  # the run is ending already
        try:
            taken = self._taken(action, policy.name, policy)
        except Exception as error:  # else the worker is blamed in whose task this is
            raise PolicyError(
                f"The policy {policy.name} asked for {action!r}, which failed "
                f"({type(error).__name__}: {error}): mend the policy."
            ) from error
        hearing.inner += map(self._hearing, taken)
        self._tell_in_turn(taken)

    def _taken(self, action: Action, source: str, policy: Policy | None) -> list[ev.Event]:
        """Take an action; return what is to be told: that it was taken, and what has come of it.

        Who is dismissed goes after all actions.
        """
        events = self._take(action)
        if isinstance(action, Spawn):
            self._named.append((action.worker.name, policy))
        taken = ev.ActionTaken(policy=source, action=action, tick=self._clock.ticks)
        return [taken, *events]

    def _is_late(self, proposal: Proposal, hearing: _Hearing) -> bool:
        """Whether an action is wrong only by what others have done since the event.

        That is, somebody has left, or a name was taken.
        """
        now = self._situation()
        named = {name for name, by in self._named[hearing.named :] if by is not proposal.policy}
        there = {name: here for name, here in now.present.items() if name not in named}
        left = dict.fromkeys(self._left[hearing.left :], True)
        then = replace(now, present=there | left, speakers={*now.speakers} - named)
        return not fault(proposal.action, hearing.event, then)

    def _is_named(self, name: str) -> bool:
        now = self._situation()
        return name in now.present or name in now.speakers

    def _let_go(self) -> None:
        dismissed, self._dismissed = self._dismissed, []
        for desk in dismissed:
            desk.dismiss()


def _ends(action: Action) -> bool:
    return isinstance(action, Conclude | Finish)
