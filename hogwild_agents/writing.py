"""Writing: what one worker writes, or is made to write. It is in its draft, and everybody hears."""

from __future__ import annotations

from hogwild_agents import events as ev
from hogwild_agents.actions import EndStep, Say
from hogwild_agents.clock import Clock
from hogwild_agents.draft import Draft, Piece, Written
from hogwild_agents.engine import Sampled
from hogwild_agents.exchange import Exchange
from hogwild_agents.spelling import Control
from hogwild_agents.worker import Token


class Writing:
    """Writes to one worker's draft, and tells of it.

    Args:
        name: the worker's.
        draft: what it has written.
        clock: the run's time.
        exchange: where events are told.

    Attributes:
        inbox: what policies have done to the text, not yet written.
    """

    def __init__(self, name: str, draft: Draft, clock: Clock, exchange: Exchange) -> None:
        self.inbox: list[Say | EndStep] = []
        self._name = name
        self._draft = draft
        self._clock = clock
        self._exchange = exchange

    @property
    def pending(self) -> bool:
        """Whether there is something to feed."""
        if self._draft.pending:
            return True
        if not self.inbox:
            return False
        ends = self._draft.begun and any(isinstance(item, EndStep) for item in self.inbox)
        return ends or any(isinstance(item, Say) for item in self.inbox)

    @property
    def blocked(self) -> bool:
        """Whether a step is to end while the end of another one is not fed yet."""
        if not self.inbox:
            return False
        return isinstance(self.inbox[0], EndStep) and self._draft.begun and self._draft.turning

    async def sample(self, sampled: Sampled) -> Token:
        """Take over a sampled token, tell everybody, and take what policies ask for."""
        self._clock.tokens += 1
        written = self._draft.sample(sampled.token)
        whole = written.piece.tokens == (sampled.token,)
        logprobs = (sampled.logprob,) if whole and sampled.logprob is not None else ()
        await self._exchange.emit(*self._wrote(written, logprobs))
        return Token(
            id=sampled.token,
            text=written.piece.text,
            ends_step=written.ended is not None,
            logprob=sampled.logprob,
            top=sampled.top,
        )

    async def force(self, text: str, control: Control) -> None:
        """Append text that the model did not choose, and tell everybody."""
        await self._exchange.emit(self.written(self._draft.force(text, control=control)))

    async def empty_inbox(self) -> None:
        """Write what policies had the worker say, now that all before it stands.

        A step's end has to wait where another step has ended that is not fed yet: it stays in the
        inbox, and so does what comes after it.
        """
        if self.inbox:
            await self._exchange.emit(*self.take_inbox())

    def take_inbox(self) -> list[ev.Event]:
        """Write what policies had the worker say or end; return what is to be told."""
        events: list[ev.Event] = []
        while self.inbox:
            item = self.inbox[0]
            if isinstance(item, EndStep) and self._draft.begun:
                if self._draft.turning:
                    break
                events += self._wrote(self._draft.end_step())
            elif isinstance(item, Say):
                events.append(self.written(self._draft.force(item.text)))
            del self.inbox[0]
        return events

    def written(self, piece: Piece, logprobs: tuple[float, ...] = ()) -> ev.TokensWritten:
        """Return the event that tells of a piece of the draft."""
        return ev.TokensWritten(
            worker=self._name,
            step=piece.step,
            tick=self._clock.ticks,
            tokens=piece.tokens,
            text=piece.text,
            source=piece.source,
            logprobs=logprobs,
        )

    def _wrote(self, written: Written, logprobs: tuple[float, ...] = ()) -> list[ev.Event]:
        """Return what is to be told of a text, and of the step that may have ended with it."""
        piece = written.piece
        events: list[ev.Event] = [self.written(piece, logprobs)]
        if written.ended is not None:
            events.append(
                ev.StepEnded(
                    worker=self._name,
                    step=piece.step,
                    tick=self._clock.ticks,
                    text=written.ended,
                    tokens_written=self._draft.sampled,
                    prefix=written.prefix,
                )
            )
            events += [self.written(opening) for opening in written.opening]
        return events
