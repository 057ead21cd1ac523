"""Draft: what one worker has written, and which of its tokens are still to be fed.

A token is written when it is sampled or forced, and fed in the tick after that. The step that ends
is fed to its own block, up to its last token, in the tick in which the next step's prefix is fed
to a new block; then it moves to the history. So the order of the text and of the cache agree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import NamedTuple

from hogwild_agents.coordinator import Move, TickFeed
from hogwild_agents.engine import CacheBlock, Feed, Sampler, ViewEntry
from hogwild_agents.events import Source
from hogwild_agents.layouts import Board, Headings, Layout, Place
from hogwild_agents.models import LanguageModel
from hogwild_agents.spelling import Control
from hogwild_agents.steps import StepScanner
from hogwild_agents.token_split import TokenSplit, split_token

SEPARATOR = "\n\n"
"""What ends a step that somebody else ends."""


class Piece(NamedTuple):
    """Tokens that were written at once.

    Attributes:
        step: the number of their step, from 1.
        tokens: the ids, as they will be fed.
        text: what they add to the worker's text.
        source: who chose them.
    """

    step: int
    tokens: tuple[int, ...]
    text: str
    source: Source


class Written(NamedTuple):
    """What one sampled token came to.

    Attributes:
        piece: what it added to the step that it was sampled for.
        ended: the whole step, if the token ended one.
        prefix: what that step opened with.
        opening: what then opens the next one: its prefix, and what the token said beyond the end.
    """

    piece: Piece
    ended: str | None = None
    prefix: str = ""
    opening: tuple[Piece, ...] = ()


class Draft:
    """One worker's text in one run.

    Args:
        place: the worker's blocks.
        board: all blocks of the run.
        layout: what the worker sees, and whether its steps move.
        headings: the text around the steps.
        model: encodes and decodes.
        new_block: makes a block for the next step.

    Attributes:
        text: all that was written, with the prefixes of the steps.
        step: the number of the current step, from 1.
        step_text: the current step so far, with its prefix.
        prefix: what that step opened with.
        sampled: how many tokens were sampled while thinking.
    """

    def __init__(
        self,
        place: Place,
        board: Board,
        layout: Layout,
        headings: Headings,
        model: LanguageModel,
        new_block: Callable[[str], CacheBlock],
    ) -> None:
        self.place = place
        self.text = ""
        self.step = 0
        self.step_text = ""
        self.prefix = ""
        self.sampled = 0
        self._board = board
        self._layout = layout
        self._headings = headings
        self._model = model
        self._new_block = new_block
        self._begun = False  # the step holds more than its prefix
        self._turning = False  # a step has ended, and what is written next goes to a new block
        self._spare: CacheBlock | None = None  # that block, if it was made in vain before
        self._closing: list[tuple[int, Source]] = []
        self._own: list[tuple[int, Source]] = []
        self._scanner, self._scanned = StepScanner(), 0
        self._stream = model.text_stream(continuing=True)

    @property
    def pending(self) -> bool:
        """Whether tokens wait to be fed."""
        return bool(self._closing or self._own)

    @property
    def unfed(self) -> int:
        """How many tokens that is."""
        return len(self._closing) + len(self._own)

    @property
    def view_length(self) -> int:
        """How many tokens of the cache the worker sees where it goes on."""
        return sum(map(len, self._layout.view(self._board, self.place, self.place.own)))

    @property
    def begun(self) -> bool:
        """Whether the current step holds more than its prefix."""
        return self._begun

    @property
    def turning(self) -> bool:
        """Whether a step has ended that is still to move to the history."""
        return self._turning or self.place.closing is not None

    def open_step(self) -> Piece:
        """Begin a step with its prefix."""
        self.step += 1
        self.step_text = ""
        self._scanner, self._scanned = StepScanner(), 0
        piece = self.force(self._headings.opening(self.place.name, self.step))
        self.prefix = self.step_text
        self._begun = False
        return piece

    def end_step(self) -> Written:
        """End the step where it stands with an empty line; not while another one is turning."""
        last = self.force(SEPARATOR)
        ended, prefix = self.step_text, self.prefix
        self._end_step(len(last.tokens))
        return Written(piece=last, ended=ended, prefix=prefix, opening=(self.open_step(),))

    def fork(self, source: Draft) -> None:
        """Go on from the text of another draft; the block has all of that one's but the last token.

        The last one is fed again, in the new worker's own view.
        """
        moves = self._layout.steps_move
        self.text = self.step_text = source.step_text if moves else source.text
        self.prefix = self.text.removesuffix(source.step_text) + source.prefix
        self.step, self._begun = 1, True
        self._scanner, self._scanned = copy.deepcopy(source._scanner), source._scanned
        fed = source.place.own.tokens
        self._stream.push(fed)
        self._own = [(fed[-1], "forced")]

    def force(self, text: str, *, control: Control = "added") -> Piece:
        """Append text that the model did not choose.

        Forced text never ends a step, but counts for open code blocks and formulas.
        """
        return self._write(self._model.encode(text, control=control), "forced")

    def sample(self, token: int) -> Written:
        """Append a token that the model chose; the step may end with it."""
        self.sampled += 1
        held, text = self._stream.held, self._stream.push(token)
        cut = self._scan(text)
        if cut is None:
            return Written(piece=self._append([token], text, "sampled"))
        if cut == len(text) and not self._stream.held:
            split = TokenSplit((token,), text)
        else:
            split = split_token(self._model.tokenizer, token, text, cut, before=held)
        if split.tail:
            self._stream = self._model.text_stream(continuing=True)
        last = self._append(split.head, split.head_text + self._stream.flush(), "sampled")
        ended, prefix = self.step_text, self.prefix
        self._end_step(len(last.tokens))
        opening = [self.open_step()]
        if split.tail:  # what the token says after the separator is the next step's
            opening.append(self._write(split.tail, "sampled"))
        return Written(piece=last, ended=ended, prefix=prefix, opening=tuple(opening))

    def append(self, token: int) -> Piece:
        """Append a token that the model chose to the current step, come what may."""
        return self._append([token], self._stream.push(token), "sampled")

    @property
    def step_ended(self) -> bool:
        """Whether a step has ended whose last token is not fed yet."""
        if self._layout.steps_move:
            return self._turning or bool(self._closing)
        return bool(self.place.ends) and self.place.ends[-1][1] > len(self.place.own)

    def feeds(
        self, sampler: Sampler | None, *, ending: bool = False
    ) -> tuple[list[TickFeed], tuple[Move, ...]]:
        """Return the feeds of the next tick, and what moves after it.

        A step that has ended stands in the history from here on, in everybody's view.

        Args:
            sampler: samples what follows.
            ending: feed no more than the end of a step, and leave something to sample after.
        """
        if self._turning:
            self._turn()
        place, closing, own = self.place, self.place.closing, self._own
        if ending:
            own = [] if self._layout.steps_move else own[:-1]
        feeds = []
        if closing is not None and self._closing:
            feeds.append(self._feed(closing, self._closing, None))
        if own:
            feeds.append(self._feed(place.own, own, sampler))
        moves = () if closing is None else (Move(source=closing, target=self._board.history),)
        return feeds, moves

    def withdraw(self) -> None:
        """Take back what was handed in; only if no tick was closed with it."""
        if self.place.closing is not None:
            self._spare, self.place.own = self.place.own, self.place.closing
            self.place.closing, self.place.ended = None, self.place.closing_step
            self._turning = True

    def committed(self, feeds: Sequence[Feed]) -> list[Sequence[Source]]:
        """Strike out what was fed; return the sources of each feed's tokens."""
        sources: list[Sequence[Source]] = []
        # What was under way when its step ended belongs to the end of that step.
        closing = self.place.own if self._turning else self.place.closing
        for feed in feeds:
            if feed.block not in (self.place.closing, self.place.own):  # a role
                sources.append(["forced"] * len(feed.tokens))
                continue
            queue = self._closing if feed.block is closing else self._own
            count = len(feed.tokens)
            sources.append([source for _, source in queue[:count]])
            del queue[:count]
        return sources

    def _feed(
        self, block: CacheBlock, pending: list[tuple[int, Source]], sampler: Sampler | None
    ) -> TickFeed:
        def view() -> Sequence[ViewEntry]:
            return self._layout.view(self._board, self.place, block)

        tokens = tuple([token for token, _ in pending])
        return TickFeed(block=block, tokens=tokens, view=view, sampler=sampler, breaks=self._breaks)

    def _breaks(self, token: int) -> bool:
        """Whether a step, a turn or a call may end with a token that was sampled just now."""
        if token in self._model._controls:
            return True
        return ("\n" if self._scanner.ready else "\n\n") in self._model._text_of(token)

    def _write(self, tokens: Sequence[int], source: Source) -> Piece:
        text = rest = self._stream.push(tokens)
        while (cut := self._scan(rest)) is not None:
            rest = rest[cut:]
        return self._append(tokens, text, source)

    def _append(self, tokens: Sequence[int], text: str, source: Source) -> Piece:
        self._begun = True
        self.step_text += text
        self.text += text
        self._own += zip(tokens, repeat(source))
        return Piece(step=self.step, tokens=tuple(tokens), text=text, source=source)

    def _scan(self, text: str) -> int | None:
        """Return where in ``text`` the step ends; what is scanned next begins a new one then."""
        end = self._scanner.push(text)
        if end is None:
            self._scanned += len(text)
            return None
        cut = end - self._scanned
        self._scanner, self._scanned = StepScanner(), 0
        return cut

    def _end_step(self, last: int) -> None:
        """End the step; ``last`` is how many tokens the end of it is, which are not fed yet."""
        if not self._layout.steps_move:
            self.place.ends.append((self.step, len(self.place.own) + len(self._own)))
            return
        keep = len(self._own) - last if self._layout.last_token_first else len(self._own)
        self._closing, self._own = self._own[:keep], self._own[keep:]
        self._turning, self.place.ended = True, self.step

    def _turn(self) -> None:
        """Put the step that has ended aside, and go on in a new block."""
        place = self.place
        self._turning, place.ended = False, 0
        place.closing, place.closing_step = place.own, self.step - 1
        place.closing_length = len(place.own) + len(self._closing)
        self.place.own = self._spare or self._new_block(f"{self.place.name} [{self.step}]")
        self._spare = None
