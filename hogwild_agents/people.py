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
        book: Callable[[Place, Commit, Sequence[Sequence[Source]]], None],
    ) -> None:
        self.place = place
        self.text = ""
        self.spoken = 0
        self._board = board
        self._layout = layout
        self._new_block = new_block
        self._book = book
        self._queue: deque[Speech] = deque()
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
        self._seat = join(self._committed)
        return True

    async def speak(self) -> None:
        """Feed what is to be said, one speech a tick."""
        seat = self._seat
        assert seat is not None, "there is something to say"
        try:
            while self._queue:
                feeds, moves = self._feeds(self._queue.popleft())
                await seat.submit(*feeds, then=moves)
        finally:
            self._seat = None
            self._queue.clear()
            seat.leave()

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
