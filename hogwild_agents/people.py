"""People: those who speak to the workers in mid-run, and have no model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hogwild_agents.board import Board, Place
from hogwild_agents.coordinator import Commit, Move, Seat, TickFeed
from hogwild_agents.engine import CacheBlock, ViewEntry
from hogwild_agents.events import Source
from hogwild_agents.layouts import Layout


@dataclass(frozen=True, kw_only=True)
class Speech:
    """One thing that was said: a whole step.

    Attributes:
        step: its number.
        tokens: the ids.
        text: with its prefix and the empty line at its end.
    """

    step: int
    tokens: tuple[int, ...]
    text: str


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
        book: Callable[[Place, Commit, Sequence[Sequence[Source]]], None],
    ) -> None:
        self.place = place
        self.text = ""
        self.spoken = 0
        self._board = board
        self._layout = layout
        self._new_block = new_block
        self._book = book
        self._queue: deque[tuple[Speech, Seat]] = deque()
        self._speaking = False

    def add(self, speech: Speech, join: Callable[[Callable[[Commit], None]], Seat]) -> bool:
        """Note what is to be said with the next tick, which from now on waits for it.

        Returns:
            whether nobody calls :meth:`speak` yet.
        """
        self.spoken = speech.step
        self.text += speech.text
        self._queue.append((speech, join(self._committed)))
        begins, self._speaking = not self._speaking, True
        return begins

    async def speak(self) -> None:
        """Feed what is to be said, one speech a tick."""
        try:
            while self._queue:
                speech, seat = self._queue.popleft()
                with seat:
                    feeds, moves = self._feeds(speech)
                    await seat.submit(*feeds, then=moves)
        finally:
            self._speaking = False
            while self._queue:
                self._queue.popleft()[1].leave()

    def _feeds(self, speech: Speech) -> tuple[list[TickFeed], tuple[Move, ...]]:
        place = self.place
        if not self._layout.steps_move:
            place.ends.append((speech.step, len(place.own) + len(speech.tokens)))
            return [self._feed(place.own, speech)], ()
        place.own = place.closing = self._new_block(f"{place.name} [{speech.step}]")
        place.closing_step, place.closing_length = speech.step, len(speech.tokens)
        return [self._feed(place.own, speech)], (
            Move(source=place.own, target=self._board.history),
        )

    def _feed(self, block: CacheBlock, speech: Speech) -> TickFeed:
        def view() -> Sequence[ViewEntry]:
            return self._layout.view(self._board, self.place, block)

        return TickFeed(block=block, tokens=speech.tokens, view=view)

    def _committed(self, commit: Commit) -> None:
        sources: list[list[Source]] = [["forced"] * len(feed.tokens) for feed in commit.feeds]
        self._book(self.place, commit, sources)
