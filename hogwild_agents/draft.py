"""Draft: what one worker has written, and which of its tokens are still to be fed.

A token is written when it is sampled or forced, and fed in the tick after that. The step that ends
is fed to its own block, up to its last token, in the tick in which the next step's prefix is fed
to a new block; then it moves to the history. So the order of the text and of the cache agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hogwild_agents.coordinator import Commit, Move, TickFeed
from hogwild_agents.engine import CacheBlock, Sampler
from hogwild_agents.events import Source
from hogwild_agents.layouts import Board, Headings, Layout, Place
from hogwild_agents.models import LanguageModel
from hogwild_agents.steps import StepScanner
from hogwild_agents.text import split_token


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one sampled token came to.

    Attributes:
        text: what it adds to the worker's text.
        step_ended: the whole step, if the token ended one.
        next_prefix: the forced text that opens the next step, if the token ended one.
        next_tokens: the tokens of that text.
    """

    text: str
    step_ended: str | None = None
    next_prefix: str = ""
    next_tokens: tuple[int, ...] = ()


class Draft:
    """One worker's text in one run.

    Args:
        place: the worker's blocks.
        board: all blocks of the run.
        layout: what the worker sees, and whether its steps move.
        headings: the text around the steps.
        model: encodes and decodes.
        new_block: makes a block for the next step.
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
        self.step = 0
        self.text = ""
        self.step_text = ""
        self.sampled = 0
        self._board = board
        self._layout = layout
        self._headings = headings
        self._model = model
        self._new_block = new_block
        self._closing: list[tuple[int, Source]] = []
        self._own: list[tuple[int, Source]] = []
        self._stream = model.text_stream()
        self._scanner, self._scanned = StepScanner(), 0

    @property
    def pending(self) -> bool:
        """Whether tokens wait to be fed."""
        return bool(self._closing or self._own)

    def open_step(self) -> tuple[str, tuple[int, ...]]:
        """Begin a step with its prefix; return the forced text and its tokens."""
        self.step += 1
        self.step_text = ""
        self._stream = self._model.text_stream()
        self._scanner, self._scanned = StepScanner(), 0
        prefix = self._headings.prefix.format(name=self.place.name, step=self.step)
        return prefix, self.force(prefix)

    def force(self, text: str) -> tuple[int, ...]:
        """Append text that the model did not choose; return its tokens.

        Forced text never ends a step, but counts for open code blocks and formulas.
        """
        tokens = self._model.encode(text)
        self._stream.push(tokens)
        self._scan(text)
        self._append(text)
        self._own += [(token, "forced") for token in tokens]
        return tuple(tokens)

    def sample(self, token: int) -> Written:
        """Append a token that the model chose; the step may end with it."""
        self.sampled += 1
        text = self._stream.push([token])
        cut = self._scan(text)
        if cut is None:
            self._append(text)
            self._own.append((token, "sampled"))
            return Written(text=text)
        split = split_token(self._model.tokenizer, token, text, cut)
        self._append(split.head_text)
        ended = self.step_text
        source: Source = "forced" if split.tail_text else "sampled"
        self._end_step([(part, source) for part in split.head])
        prefix, tokens = self.open_step()
        if split.tail_text:  # what the token says after the separator opens the next step
            prefix, tokens = prefix + split.tail_text, (*tokens, *self.force(split.tail_text))
        return Written(
            text=split.head_text, step_ended=ended, next_prefix=prefix, next_tokens=tokens
        )

    def append(self, token: int) -> str:
        """Append a token to the current step, come what may; return its text."""
        text = self._stream.push([token])
        self._append(text)
        self._own.append((token, "sampled"))
        return text

    def feeds(self, sampler: Sampler | None) -> tuple[list[TickFeed], tuple[Move, ...]]:
        """Return the feeds of the next tick, and what moves after it."""
        place, closing = self.place, self.place.closing
        feeds = []
        if closing is not None and self._closing:
            feeds.append(self._feed(closing, self._closing, None))
        if self._own:
            feeds.append(self._feed(place.own, self._own, sampler))
        moves = () if closing is None else (Move(source=closing, target=self._board.history),)
        return feeds, moves

    def committed(self, commit: Commit) -> list[Sequence[Source]]:
        """Strike out what was fed; return the sources of each feed's tokens."""
        sources: list[Sequence[Source]] = []
        for feed in commit.feeds:
            queue = self._closing if feed.block is self.place.closing else self._own
            count = len(feed.tokens)
            sources.append([source for _, source in queue[:count]])
            del queue[:count]
        if commit.moves:
            self.place.closing = None
        return sources

    def _feed(
        self, block: CacheBlock, pending: list[tuple[int, Source]], sampler: Sampler | None
    ) -> TickFeed:
        return TickFeed(
            block=block,
            tokens=[token for token, _ in pending],
            view=lambda: self._layout.view(self._board, self.place, block),
            sampler=sampler,
        )

    def _scan(self, text: str) -> int | None:
        """Return where in ``text`` the step ends, and begin to look for the next end there."""
        end = self._scanner.push(text)
        if end is None:
            self._scanned += len(text)
            return None
        cut = end - self._scanned
        self._scanner, self._scanned = StepScanner(), 0
        self._scan(text[cut:])
        return cut

    def _append(self, text: str) -> None:
        self.step_text += text
        self.text += text

    def _end_step(self, last: list[tuple[int, Source]]) -> None:
        if not self._layout.steps_move:
            self._own += last
            return
        self.place.closing = self.place.own
        self.place.own = self._new_block(f"{self.place.name} [{self.step + 1}]")
        if self._layout.last_token_first:
            self._own += last
        else:
            self._closing += last
