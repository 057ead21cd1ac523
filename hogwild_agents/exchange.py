"""Exchange: what happens in a run goes out to everybody; what the policies ask for comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hogwild_agents import events as ev
from hogwild_agents.actions import Action
from hogwild_agents.checks import Situation, fault
from hogwild_agents.clock import Clock
from hogwild_agents.ending import Ending
from hogwild_agents.errors import PolicyError, UsageError
from hogwild_agents.log import get_logger
from hogwild_agents.panel import Panel, Proposal
from hogwild_agents.record import Record

if TYPE_CHECKING:
    from hogwild_agents.desk import Desk

_log = get_logger(__name__)


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
        # What policies are to be asked about, and how many had left when it happened.
        self._heard: deque[tuple[ev.Event, int]] = deque()
        self._untold: deque[ev.Event] = deque()  # of that
        self._telling = False

    async def emit(self, *events: ev.Event) -> None:
        """Tell events to everybody, then take what the policies ask for, in their order.

        All are told before the first policy is asked: what was written is on record, even if
        whoever wrote it is cancelled while a policy thinks.

        Raises:
            PolicyError: a controller raised, or asked for what cannot be; the run has failed.
        """
        told = self._told(events)
        try:
            await self._consult(told)
        finally:
            self._let_go()

    def tell(self, event: ev.Event) -> None:
        """Tell an event to those who only listen."""
        self._record.tell(event)

    def hear(self, *events: ev.Event) -> None:
        """Tell what has happened while nobody can wait for policies; :meth:`catch_up` asks them.

        What listeners do meanwhile is told afterwards.
        """
        self._heard += [(event, len(self._left)) for event in events]
        self._untold += events
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                self._record.tell(self._untold.popleft())
        finally:
            self._telling = False

    async def catch_up(self, ended: ev.TickEnded) -> None:
        """Tell the end of a tick; ask the policies about that, and before about what was heard.

        What happens meanwhile, and what is left where this is cancelled, comes after the next tick.

        Raises:
            PolicyError: see :meth:`emit`.
        """
        left = len(self._heard) + 1
        self.hear(ended)
        try:
            while left and self._heard:
                left -= 1
                await self._consult([self._heard.popleft()])
        finally:
            self._let_go()

    def act(self, action: Action, source: str) -> None:
        """Take an action that somebody outside asks for.

        Raises:
            UsageError: it cannot be taken.
        """
        wrong = fault(action, None, self._situation())
        if wrong:
            raise UsageError(f"{source} {wrong}.")
        self.hear(ev.ActionTaken(policy=source, action=action, tick=self._clock.ticks))
        self.hear(*self._take(action))
        self._let_go()

    def dismiss(self, desk: Desk) -> None:
        """Cancel a worker, once all that is to be told of this moment is told."""
        if not desk.left:
            self._dismissed.append(desk)

    def _told(self, events: Sequence[ev.Event]) -> list[tuple[ev.Event, int]]:
        """Tell events to those who only listen; return them, and how many have left by then."""
        for event in events:
            self._record.tell(event)
            if type(event) is ev.WorkerLeft:
                self._left.append(event.worker)
        return [(event, len(self._left)) for event in events]

    async def _consult(self, events: Sequence[tuple[ev.Event, int]]) -> None:
        """Ask the policies about events, each of when so many workers had left."""
        try:
            for event, before in events:
                for proposal in await self._panel.consult(event, self._clock.ticks):
                    await self._accept(proposal, event, before)
        except PolicyError as error:
            self._ending.fail(error)
            raise

    async def _accept(self, proposal: Proposal, event: ev.Event, before: int) -> None:
        """Take an action that answers an event, of when so many workers had left."""
        wrong = fault(proposal.action, event, self._situation())
        if wrong:
            what = f"{proposal.source} ({type(proposal.action).__name__}) {wrong}"
            if self._is_late(proposal, event, before):
                _log.info("action dropped", reason=what)
                return
            raise PolicyError(f"{what}.")
        if self._ending.outcome is not None:
            return  # the run is ending already
        action, tick = proposal.action, self._clock.ticks
        taken = ev.ActionTaken(policy=proposal.policy, action=action, tick=tick)
        self._record.tell(taken)
        joined = self._take(action)
        await self._panel.consult(taken, tick)
        await self._consult(self._told(joined))  # who is dismissed goes after all actions

    def _is_late(self, proposal: Proposal, event: ev.Event, before: int) -> bool:
        """Whether an action is wrong only since somebody has left while the policies waited."""
        now = self._situation()
        present = {**now.present, **dict.fromkeys(self._left[before:], True)}
        return not fault(proposal.action, event, replace(now, present=present))

    def _let_go(self) -> None:
        dismissed, self._dismissed = self._dismissed, []
        for desk in dismissed:
            desk.dismiss()
