"""Gate: between two ticks of a run. Who may go on, who waits, and whether it is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint_if_cancelled

from hogwild_agents import events as ev
from hogwild_agents.clock import Clock
from hogwild_agents.ending import Ending
from hogwild_agents.errors import ClosedError
from hogwild_agents.exchange import Exchange
from hogwild_agents.record import Record

if TYPE_CHECKING:
    from hogwild_agents.desk import Desk
    from hogwild_agents.thinking import Thinking


class Gate:
    """Lets the workers of one run go on from tick to tick, until a limit is reached.

    Args:
        thinking: the workers; whether they think at all.
        clock: the run's time.
        ending: what ends the run.
        exchange: where the end of a tick is told.
        record: rings with every event.
    """

    def __init__(
        self,
        thinking: Thinking,
        clock: Clock,
        ending: Ending,
        exchange: Exchange,
        record: Record,
    ) -> None:
        self._thinking = thinking
        self._clock = clock
        self._ending = ending
        self._exchange = exchange
        self._record = record

    async def admit(self, desk: Desk) -> None:
        """Let a worker go on to its next tick, unless a limit ends the thinking.

        Raises:
            ClosedError: the thinking is over, and yet the worker has not been cancelled, because
                it has shielded itself.
        """
        await self.handled(desk)
        while True:
            limit = self._clock.limit()
            if limit is not None:
                self._ending.reach(limit)
            if self._ending.limit is not None:
                with desk.parked():
                    await self._ending.wait()
            if self._ending.over:
                await checkpoint_if_cancelled()
                raise ClosedError(f"The thinking is over: {desk.name} can write nothing any more.")
            if not desk.held:
                return
            await desk.until_resumed()

    async def handled(self, desk: Desk) -> None:
        """Note that a worker has handled its part of the last tick; the last one ends the tick."""
        if self._clock.turn(desk.name):
            with desk.handling():
                await self._exchange.catch_up(self._tick_ended())
        self.end_if_enough()

    def settle(self, desk: Desk) -> None:
        """Note that nobody has to wait for a worker, where nobody can wait for policies.

        Not so where all are cancelled: what a tick has brought them is lost, so it never ends. Else
        it would depend on the order in which an event loop cancels tasks, which may be any.
        """
        if self._thinking.cancelled:
            return
        if self._clock.turn(desk.name) and self._thinking.thinks:
            self._exchange.hear(self._tick_ended())
        self.end_if_enough()

    def _tick_ended(self) -> ev.TickEnded:
        clock = self._clock
        return ev.TickEnded(tick=clock.ticks, seconds=clock.seconds, tokens=clock.tokens)

    async def change(self, desk: Desk) -> None:
        """Wait for the next event.

        Raises:
            ClosedError: the thinking is over, and yet the worker has not been cancelled, because
                it has shielded itself.
        """
        if self._thinking.thinks:
            await self._record.told.wait()
        if not self._thinking.thinks:
            await checkpoint_if_cancelled()
            raise ClosedError(f"The thinking is over: {desk.name} waits for nothing any more.")

    def waiting(self) -> None:
        """End the thinking if all workers who are left wait for each other, or to be resumed."""
        there = [desk for desk in self._thinking.desks.values() if not desk.left]
        if any(desk.woken for desk in there):
            self._record.told.ring()  # what it waits for came without an event
        if there and all(desk.waits for desk in there):
            self._ending.reach("parked")
            self.end_if_enough()

    def end_if_enough(self) -> None:
        """End the thinking if a limit is reached, once all have handled their last tokens."""
        if self._ending.limit is not None and self._clock.quiet:
            self._ending.now()
