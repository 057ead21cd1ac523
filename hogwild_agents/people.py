"""People: those who speak to the workers in mid-run, and have no model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hogwild_agents import events as ev
from hogwild_agents.board import Board, Place
from hogwild_agents.clock import Clock
from hogwild_agents.coordinator import Commit, Move, Seat, TickFeed
from hogwild_agents.draft import SEPARATOR
from hogwild_agents.engine import CacheBlock, ViewEntry
from hogwild_agents.errors import UsageError
from hogwild_agents.events import Source
from hogwild_agents.exchange import Exchange
from hogwild_agents.layouts import Layout
from hogwild_agents.log import get_logger
from hogwild_agents.share import Share
from hogwild_agents.text import decode_continuation
from hogwild_agents.worker_names import is_name

if TYPE_CHECKING:
    from hogwild_agents.team import Team

_log = get_logger(__name__)

Book = Callable[[Place, Commit, Sequence[Sequence[Source]]], None]
"""Notes what a tick has changed in the cache: whose part of it, what, and who chose each token."""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """One thing that was said: a whole step.

    Attributes:
        step: its number.
        tokens: the ids.
        text: with its prefix and the empty line at its end.
        prefix: what it opens with.
    """

    step: int
    tokens: tuple[int, ...]
    text: str
    prefix: str


class Person:
    """Somebody who speaks to the workers of a run.

    Args:
        place: the person's place on the board.
        board: all blocks of the run.
        layout: what the workers see.
        new_block: makes a block.
        book: notes what a tick has changed in the cache.

    Attributes:
        place: the person's place on the board.
        text: all that was said.
        spoken: how many steps.
    """

    def __init__(
        self,
        place: Place,
        board: Board,
        layout: Layout,
        new_block: Callable[[str], CacheBlock],
        book: Book,
    ) -> None:
        self.place = place
        self.text = ""
        self.spoken = 0
        self._board = board
        self._layout = layout
        self._new_block = new_block
        self._book = book
        self._queue: deque[Speech] = deque()
        self._rest: tuple[int, ...] = ()  # of a speech that is being fed
        self._seat: Seat | None = None  # while there is something to say

    def add(self, speech: Speech, join: Callable[[Callable[[Commit], None]], Seat]) -> bool:
        """Note what is to be said with the next tick, which from now on waits for it.

        Of several things said between two ticks, each but the first takes a tick of its own.

        Returns:
            whether nobody calls :meth:`speak` yet.
        """
        self.spoken = speech.step
        self.text += speech.text
        self._queue.append(speech)
        if self._seat is not None:
            return False
        self.sit(join)
        return True

    def sit(self, join: Callable[[Callable[[Commit], None]], Seat]) -> None:
        """Take a seat: the next tick waits for :meth:`speak`."""
        self._seat = join(self._committed)
        self._board.seated(self.place)

    @property
    def unheard(self) -> bool:
        """Whether anything that was said is not in the cache."""
        return bool(self._rest or self._queue)

    async def speak(self) -> None:
        """Feed what is to be said, one speech a tick; cut short, it leaves the rest unheard."""
        seat = self._seat
        assert seat is not None, "there is something to say"
        try:
            while self.unheard:
                if not self._rest:
                    self._begin(self._queue.popleft())
                await seat.submit(self._feed(), then=self._moves())
        finally:
            self._seat = None
            seat.leave()

    def _begin(self, speech: Speech) -> None:
        place, self._rest = self.place, speech.tokens
        if not self._layout.steps_move:
            place.ends.append((speech.step, len(place.own) + len(speech.tokens)))
            return
        place.own = place.closing = self._new_block(f"{place.name} [{speech.step}]")
        place.closing_step, place.closing_length = speech.step, len(speech.tokens)

    def _feed(self) -> TickFeed:
        block = self.place.own

        def view() -> Sequence[ViewEntry]:
            return self._layout.view(self._board, self.place, block)

        return TickFeed(block=block, tokens=self._rest, view=view)

    def _moves(self) -> tuple[Move, ...]:
        closing = self.place.closing
        return () if closing is None else (Move(source=closing, target=self._board.history),)

    def _committed(self, commit: Commit) -> None:
        sources: list[list[Source]] = [["forced"] * len(feed.tokens) for feed in commit.feeds]
        self._rest = self._rest[sum(map(len, sources)) :]
        self._book(self.place, commit, sources)


class People:
    """Those who speak to the workers of one run.

    Args:
        team: what the workers see, and how texts are encoded.
        share: the run's part of the cache.
        clock: the run's time.
        exchange: where it is told what they say.
        book: notes what a tick has changed in the cache.
    """

    def __init__(
        self, team: Team, share: Share, clock: Clock, exchange: Exchange, book: Book
    ) -> None:
        self._people: dict[str, Person] = {}
        self._team = team
        self._share = share
        self._clock = clock
        self._exchange = exchange
        self._book = book

    @property
    def texts(self) -> dict[str, str]:
        """All that each has said so far, by name."""
        return {name: person.text for name, person in self._people.items()}

    def say(
        self,
        text: str,
        to: Sequence[str] | None,
        speaker: str,
        board: Board,
        *,
        workers: Collection[str],
        coming: Collection[str],
    ) -> Person | None:
        """Let a person say something that workers see with the next tick; see :meth:`Run.say`.

        Args:
            text: what is said.
            to: who shall see it; None for all.
            speaker: the person's name.
            board: all blocks of the run.
            workers: the names of the workers.
            coming: the names of those who will join.

        Returns:
            whose :meth:`Person.speak` is to be called, if nobody has called it yet.

        Raises:
            UsageError: the text is empty, or a name is wrong; nothing was said.
        """
        self._check(text, to, speaker, workers, coming)
        known = self._people.get(speaker)
        speech = self._speech(text, speaker, 1 if known is None else known.spoken + 1)
        events: list[ev.Event] = []
        if known is None:
            self._people[speaker] = self._join(speaker, board)
            events.append(ev.WorkerJoined(worker=speaker, tick=self._clock.ticks))
        person = self._people[speaker]
        if to is not None:
            board.address(speaker, speech.step, to)
        waits = person.add(speech, partial(self._share.join, speaker))
        self._exchange.hear(*events, *self._spoke(speaker, speech))  # who listens may speak, too
        return person if waits else None

    async def hear_out(self) -> None:
        """Feed what was said, where the thinking has ended before it was fed."""
        unheard = [person for person in self._people.values() if person.unheard]
        for person in sorted(unheard, key=lambda person: person.place.turn):
            name = person.place.name
            person.sit(partial(self._share.join, name))
            try:
                await person.speak()
            except Exception as error:
                _log.warning("speech not fed", speaker=name, error=str(error))

    def _check(
        self,
        text: str,
        to: Sequence[str] | None,
        speaker: str,
        workers: Collection[str],
        coming: Collection[str],
    ) -> None:
        if not is_name(speaker):
            raise UsageError(f"The speaker is {speaker!r}, but must be one line of text.")
        if not isinstance(text, str):
            raise UsageError(f"{speaker} said {text!r}, which is no text: give a string.")
        if not text.strip() or not self._team.model.encode(text):
            raise UsageError(f"{speaker} said {text!r}, which is nothing: give some text.")
        if speaker in workers or speaker in coming:
            raise UsageError(
                f"A worker is called {speaker!r}: speak under another name, or have the worker say "
                "it with run.act(Say(...))."
            )
        if to is not None and not isinstance(to, Collection):
            raise UsageError(f"{to!r} names nobody to speak to: give a name, or a list of names.")
        unknown = [name for name in to or () if name not in tuple(workers)]
        if unknown or (to is not None and not to):
            names = ", ".join(workers)
            raise UsageError(f"{to!r} names nobody to speak to in this run: name some of {names}.")

    def _join(self, speaker: str, board: Board) -> Person:
        place = Place(speaker, self._share.block(speaker), speaks=True)
        board.places.append(place)
        return Person(place, board, self._team.layout, self._share.block, self._book)

    def _speech(self, text: str, speaker: str, step: int) -> Speech:
        prefix = self._team.headings.opening(speaker, step)
        whole = f"{prefix}{text.strip()}{SEPARATOR}"
        model = self._team.model
        tokens = tuple(model.encode(whole, control="none"))
        written = decode_continuation(model.tokenizer, tokens)
        return Speech(step=step, tokens=tokens, text=written, prefix=prefix)

    def _spoke(self, speaker: str, speech: Speech) -> list[ev.Event]:
        tick = self._clock.ticks
        return [
            ev.TokensWritten(
                worker=speaker,
                step=speech.step,
                tick=tick,
                tokens=speech.tokens,
                text=speech.text,
                source="forced",
            ),
            ev.StepEnded(
                worker=speaker,
                step=speech.step,
                tick=tick,
                text=speech.text,
                tokens_written=0,
                prefix=speech.prefix,
            ),
        ]
