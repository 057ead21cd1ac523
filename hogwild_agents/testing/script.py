"""Script: what scripted workers say, and how far each of them has come in each run.

Nothing here knows the runtime. A worker is whoever writes a block that is named after it
(``"Alice [2]"``), and what it has said is found in what is fed: after each feed its next token is
offered, and it counts as said when the feed that follows begins with it. So whatever else is put
into its block leaves the script where it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

from hogwild_agents.engine import CacheBlock, Feed
from hogwild_agents.engine.feed import entry_block, entry_range
from hogwild_agents.errors import ConfigError

Line: TypeAlias = str | Callable[[str], str]
"""A text to write, or a function from the text that the worker sees to one."""

Script: TypeAlias = Line | Sequence[Line]
"""What a worker writes: one line, or several, one right after the other."""

Reply: TypeAlias = Line | Mapping[str, float]
"""What a worker answers; a mapping gives answers their probabilities."""

Odds: TypeAlias = dict[int, float]
"""The probabilities of the scripted next tokens; what is left of 1 is the model's own."""

_LABEL = re.compile(r"(.+) \[\d+\]")


@dataclass(frozen=True, eq=False)
class Position:
    """How far a worker has come: what is left of the line that it says, and which is the next."""

    rest: tuple[int, ...] = ()
    line: int = 0


@dataclass(frozen=True, eq=False)
class Offer:
    """A token that was offered after a block, and where the worker stands once it is said."""

    block: CacheBlock
    token: int
    at: Position
    then: Position


class Part:
    """One worker in one run.

    Attributes:
        position: how far it has come.
        asked: the tokens that were forced upon it since it last said something.
    """

    def __init__(self) -> None:
        self.position = Position()
        self.asked: tuple[int, ...] = ()
        self._offers: WeakKeyDictionary[CacheBlock, Offer] = WeakKeyDictionary()
        self._last: Offer | None = None

    def hear(self, feeds: Sequence[Feed]) -> tuple[Position, tuple[int, ...]]:
        """Return position and asked as they are once the feeds of a tick are in the cache."""
        position, asked = self.position, self.asked
        written = {feed.block for feed in feeds}
        for feed in feeds:
            offer = self._offers.get(feed.block)
            if offer is None and self._last is not None and self._last.block not in written:
                offer = self._last  # a step's last token may open the next block
            if offer is not None and offer.at is position and offer.token == feed.tokens[0]:
                position, asked = offer.then, tuple(feed.tokens[1:])
            else:
                asked = (*asked, *feed.tokens)
        return position, asked

    def commit(self, position: Position, asked: tuple[int, ...], offer: Offer | None) -> None:
        """Take over what came of a tick."""
        self.position, self.asked = position, asked
        if offer is not None:
            self._offers[offer.block] = self._last = offer


@dataclass(frozen=True)
class Cue:
    """What a script makes of one feed of a tick.

    Attributes:
        row: the number of the feed.
        odds: of the token that follows; None where the script has nothing to say.
        commit: notes that the tick has been run.
    """

    row: int
    odds: Odds | None
    commit: Callable[[], None]


class Scripts:
    """What all workers of all runs of one engine say.

    Args:
        scripts: by worker.
        answers: by worker, and by a part of the question.
        encode: turns text into token ids.
        decode: turns token ids into text.
        end: the token by which a worker leaves.
        banned: tokens that no worker may write.

    Raises:
        ConfigError: a script or an answer is none, or holds what no worker may write.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script],
        answers: Mapping[str, Mapping[str, Reply]],
        *,
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[Sequence[int]], str],
        end: int,
        banned: frozenset[int],
    ) -> None:
        self._encode, self._decode = encode, decode
        self._end, self._banned = end, banned
        self._lines = {name: self._check_script(name, given) for name, given in scripts.items()}
        self._answers = {name: self._check_answers(name, given) for name, given in answers.items()}
        self._parts: WeakKeyDictionary[CacheBlock, dict[str, Part]] = WeakKeyDictionary()
        self._lengths: WeakKeyDictionary[CacheBlock, int] = WeakKeyDictionary()

    def expect(self, feed: Feed) -> None:
        """Note a feed that is about to come, whole, though it may be cut over several ticks."""
        before, after = len(feed.block), len(feed.block) + len(feed.tokens)
        known = self._lengths.get(feed.block, 0)
        self._lengths[feed.block] = max(known, after) if before < known else after

    def cues(self, feeds: Sequence[Feed]) -> list[Cue]:
        """Return what comes after each feed of a tick; nothing is changed before the commits."""
        fresh = {feed.block: feed.tokens for feed in feeds}
        writing: dict[Part, tuple[str, list[int]]] = {}
        found: list[Cue] = []
        for row, feed in enumerate(feeds):
            author, aside = _author(feed)
            if author is None:
                continue
            if aside:
                found.append(Cue(row, self._reply(author, aside, feed, fresh), _nothing))
            else:
                writing.setdefault(self._part(author, feed), (author, []))[1].append(row)
        for part, (author, rows) in writing.items():
            found.append(self._cue(author, part, feeds, rows, fresh))
        return found

    # -- a worker's own text

    def _cue(
        self,
        author: str,
        part: Part,
        feeds: Sequence[Feed],
        rows: Sequence[int],
        fresh: Mapping[CacheBlock, Sequence[int]],
    ) -> Cue:
        """Return what a worker says after the last of its feeds."""
        position, asked = part.hear([feeds[row] for row in rows])
        feed = feeds[rows[-1]]
        offer = None
        if len(feed.block) + len(feed.tokens) >= self._lengths.get(feed.block, 0):
            token, then = self._next(author, position, asked, lambda: self._view(feed, fresh))
            offer = Offer(feed.block, token, position, then)

        def commit() -> None:
            part.commit(position, asked, offer)

        return Cue(rows[-1], None if offer is None else {offer.token: 1.0}, commit)

    def _next(
        self, author: str, position: Position, asked: Sequence[int], view: Callable[[], str]
    ) -> tuple[int, Position]:
        """Return the next token, and the position behind it."""
        reply = self._find(author, asked)
        ids, line = position.rest, position.line
        if reply is not None:
            odds = self._weigh(author, reply, view)
            ids = (*self._ids(author, max(odds, key=lambda text: odds[text])), *ids)
        lines = self._lines.get(author, ())
        while not ids and line < len(lines):
            ids = self._ids(author, self._say(author, lines[line], view))
            line += 1
        return (ids[0], Position(ids[1:], line)) if ids else (self._end, Position((), line))

    # -- questions

    def _reply(
        self,
        author: str,
        aside: Sequence[CacheBlock],
        feed: Feed,
        fresh: Mapping[CacheBlock, Sequence[int]],
    ) -> Odds | None:
        """Return how a worker goes on after a question, or after the beginning of an answer.

        Args:
            author: the worker.
            aside: the blocks behind its own: the question, and what stands of an answer.
            feed: writes the last of them.
            fresh: what each block gains in this tick.
        """
        question, *said = [(*block.tokens, *fresh.get(block, ())) for block in aside]
        reply = self._find(author, question)
        if reply is None:
            return None
        so_far = tuple(token for tokens in said for token in tokens)
        odds: Odds = {}
        whole = 0.0
        for text, chance in self._weigh(author, reply, lambda: self._view(feed, fresh)).items():
            ids = self._ids(author, text)
            if ids[: len(so_far)] != so_far:
                continue
            whole += chance
            for token in ids[len(so_far) : len(so_far) + 1]:
                odds[token] = odds.get(token, 0.0) + chance
        if not so_far:
            whole = 1.0
        return {token: chance / whole for token, chance in odds.items()} or None

    def _find(self, author: str, tokens: Sequence[int]) -> Reply | None:
        answers = self._answers.get(author)
        if not answers or not tokens:
            return None
        text = self._decode(tokens)
        return next((reply for part, reply in answers.items() if part in text), None)

    def _weigh(self, author: str, reply: Reply, view: Callable[[], str]) -> Mapping[str, float]:
        return reply if isinstance(reply, Mapping) else {self._say(author, reply, view): 1.0}

    # -- text

    def _say(self, author: str, line: Line, view: Callable[[], str]) -> str:
        if isinstance(line, str):
            return line
        text: object = line(view())
        if not isinstance(text, str):
            raise ConfigError(f"A function in the script of {author} returned {text!r}: give text.")
        return text

    def _ids(self, author: str, text: str) -> tuple[int, ...]:
        ids = tuple(self._encode(text))
        wrong = next((token for token in ids if token in self._banned), None)
        if wrong is not None:
            raise ConfigError(
                f"The script of {author} holds {self._decode([wrong])!r}, which no worker may "
                f"write, in {text!r}: leave it out."
            )
        return ids

    def _view(self, feed: Feed, fresh: Mapping[CacheBlock, Sequence[int]]) -> str:
        """Return the text that a feed attends to, with all that is fed in this tick."""
        tokens: list[int] = []
        for entry in feed.view:
            block = entry_block(entry)
            gained = fresh.get(block, ())
            tokens += (*block.tokens, *gained)[slice(*entry_range(entry, len(gained)))]
        return self._decode(tokens)

    # -- what is given

    def _check_script(self, name: str, given: Script) -> tuple[Line, ...]:
        lines = (given,) if isinstance(given, str) or callable(given) else tuple(given)
        for line in lines:
            self._check_line(name, line)
        return lines

    def _check_answers(self, name: str, given: Mapping[str, Reply]) -> dict[str, Reply]:
        for reply in given.values():
            if not isinstance(reply, Mapping):
                self._check_line(name, reply)
                continue
            for text in reply:
                self._check_line(name, text)
            total = sum(reply.values())
            if not reply or min(reply.values()) <= 0 or total > 1 + 1e-6:
                raise ConfigError(
                    f"The answers of {name} have the probabilities {dict(reply)!r}: give each one "
                    "above 0, and not more than 1 together."
                )
        return dict(given)

    def _check_line(self, name: str, line: object) -> None:
        if isinstance(line, str):
            self._ids(name, line)
        elif not callable(line):
            raise ConfigError(
                f"The script of {name} holds {line!r}: give text, or a function from the text "
                "that the worker sees to text."
            )

    def _part(self, author: str, feed: Feed) -> Part:
        """Return where a worker stands in the run that a feed is of: the one with its prompt."""
        blocks = [entry_block(entry) for entry in feed.view]
        anchor = next((block for block in blocks if block.name == "prompt"), blocks[0])
        return self._parts.setdefault(anchor, {}).setdefault(author, Part())


def _author(feed: Feed) -> tuple[str | None, list[CacheBlock]]:
    """Return whose text a feed goes on from, and the blocks that stand behind that text."""
    aside: list[CacheBlock] = []
    for block in _backwards(feed):
        label = _LABEL.fullmatch(block.name)
        if label is not None:
            return label[1], aside[::-1]
        aside.append(block)
    return None, []


def _backwards(feed: Feed) -> Iterator[CacheBlock]:
    return (entry_block(entry) for entry in reversed(feed.view))


def _nothing() -> None:
    pass
