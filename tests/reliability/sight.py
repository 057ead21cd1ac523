"""Sight: which tokens each worker feeds, and which it sees, worked out from what was told.

Written from DESIGN.md and the docstrings of the actions, not from the board. It follows a log and
knows texts, steps and who sees whom; of blocks it knows only who writes them. At every forward it
says which tokens each feed must hold and see, one by one: not only which ids, but whose, and where
in that one's text. That is compared with what the engine was given.

What holds:

- What a worker has written is fed, once and in order, with its next hand-in; so is what it is
  asked, and so are the copies that others go on from. Who is parked hands in the end of a step that
  has ended, and nothing else.
- A step stands at the end of the history from the tick on in which its end is handed in; steps that
  end in one tick stand there in the order in which the workers joined.
- A worker sees what an author writes, unless the last word on the two was a hide, or the ``sees``
  or ``seen_by`` of the one who joined later. People are seen by whoever they speak to.
- A step that has ended and is forgotten is in no view but that in which its end is fed. Where steps
  don't move, what of it is fed in a tick is seen in that tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from hogwild_agents import actions as act, events as ev
from hogwild_agents.coordinator import Fork, Move, TickFeed
from hogwild_agents.engine import BlockSlice, CacheBlock, Feed
from hogwild_agents.seat import Request
from hogwild_agents.team import Team
from hogwild_agents.tool_use import describe_tools
from hogwild_agents.worker import Worker
from tests.reliability.watch import (
    Change,
    Closed,
    Committed,
    Forward,
    HandedIn,
    Log,
    Seated,
    Spoken,
    Told,
)

Tag: TypeAlias = tuple[str, int, int]
"""One token in the cache: whose text it is of ("" for what all are given), where in it, its id."""
Word: TypeAlias = Callable[[str, str], bool | None]
"""What was said about whether a viewer sees an author; None if nothing about these two."""

AGAIN = -1
"""Where in its text the token stands that a fork feeds anew."""


def given(ids: Iterable[int]) -> list[Tag]:
    """Return the tags of tokens that are nobody's text."""
    return [("", 0, token) for token in ids]


def ids_of(tags: Iterable[Tag]) -> list[int]:
    """Return the token ids."""
    return [token for _, _, token in tags]


@dataclass(eq=False)
class Author:
    """A worker or a person, and what is known of the text.

    Attributes:
        steps: the tokens by the step that they are fed to; all to step 1 where nothing moves.
        told: the step that each token was told to belong to.
        fed: how many tokens of each step are in the cache.
        before: how many of them were there before this tick.
        ended: the last step that has ended.
        closing: a step whose end is handed in, and which has not moved yet.
        current: the step after that.
        spoken: how many speeches of a person are handed in.
        last: how many tokens were written at once at last.
        blocks: those that it has written, by step.
    """

    name: str
    worker: Worker | None
    steps: dict[int, list[Tag]] = field(default_factory=dict)
    told: dict[Tag, int] = field(default_factory=dict)
    fed: dict[int, int] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)
    length: int = 0
    ended: int = 0
    closing: int | None = None
    current: int = 1
    spoken: int = 0
    last: int = 0
    left: bool = False
    held: bool = False
    probes: list[act.Probe] = field(default_factory=list)
    asked: list[list[CacheBlock]] = field(default_factory=list)
    forks: list[str] = field(default_factory=list)
    blocks: dict[CacheBlock, int] = field(default_factory=dict)

    @property
    def speaks(self) -> bool:
        """Whether this is a person."""
        return self.worker is None

    def write(self, step: int, place: int, tokens: Sequence[int]) -> None:
        """Append to the text."""
        for token in tokens:
            tag = (self.name, self.length, token)
            self.length += 1
            self.told[tag] = step
            self.steps.setdefault(place, []).append(tag)

    def content(self, place: int) -> list[Tag]:
        """Return what is in the cache of a step."""
        return self.steps.get(place, [])[: self.fed.get(place, 0)]

    def pending(self, place: int) -> list[Tag]:
        """Return what is not."""
        return self.steps.get(place, [])[self.fed.get(place, 0) :]

    def writes(self, block: CacheBlock) -> bool:
        """Whether a block that it feeds is for its text."""
        stem = block.name.rpartition(" [")[0] if block.name.endswith("]") else block.name
        return stem == self.name

    def place(self, block: CacheBlock) -> int:
        """Return for which step a block of its text is."""
        return self.blocks.setdefault(block, len(self.blocks) + 1)


@dataclass(frozen=True)
class Moment:
    """What was known when a tick was closed; what comes later counts in the next tick."""

    authors: tuple[Author, ...]
    words: tuple[Word, ...]
    forgotten: tuple[act.Forget, ...]
    ended: dict[str, int]


@dataclass(frozen=True)
class Answered:
    """An answer to a probe, and the (forward, row) of each feed that it was read from."""

    event: ev.ProbeAnswered
    rows: list[tuple[int, int]]


class Sight:
    """Follows the log of a run, and raises an AssertionError where it is not as it should be.

    Args:
        team: whose run it was.
        spawned: the workers that joined in mid-run.
        problem: of the run.
        log: of the run.

    Attributes:
        authors: workers and people, in the order in which they joined.
        cache: the tokens of all blocks as they are, or were when they were freed.
        sampled: for each sampled token with a log-probability, its event and the forward and row
            that it was sampled from.
        answered: the answers to probes.
    """

    def __init__(self, team: Team, spawned: Sequence[Worker], problem: str, log: Log) -> None:
        self.authors: dict[str, Author] = {}
        self.cache: dict[CacheBlock, list[Tag]] = {}
        self.sampled: list[tuple[ev.TokensWritten, int, int]] = []
        self.answered: list[Answered] = []
        self._team, self._log = team, log
        self._moves = team.layout.steps_move
        self._layout = team.layout.name
        self._late = getattr(team.layout, "last_token_first", False)
        self._encode = team.model.encode
        self._prompt = given(team._encode(problem))
        self._heads = {
            name: given(self._encode(getattr(team.headings, name)))
            for name in ("past", "others", "own", "unfinished")
        }
        self._people = {entry.speaker for entry in log if isinstance(entry, Spoken)}
        self._owners = {
            feed.block: entry.commit.seat
            for entry in log
            if isinstance(entry, Committed)
            for feed in entry.commit.feeds
        }
        self._workers = {worker.name: worker for worker in (*team.workers, *spawned)}
        self._words: list[Word] = []
        self._history: list[tuple[Author, int]] = []
        self._forgotten: list[act.Forget] = []
        self._addressed: dict[tuple[str, int], tuple[str, ...] | None] = {}
        self._speeches: dict[str, int] = {}
        self._movers: list[str] = []  # since the last forward
        self._seats: dict[str, None] = {}  # in their order; who gets another one stands behind
        self._concludes = False
        self._rows: dict[tuple[str, int], tuple[int, int]] = {}
        self._asked: dict[CacheBlock, tuple[int, int]] = {}
        self._forwards = 0
        self._then = Moment((), (), (), {})

    def follow(self) -> None:
        """Check the whole log."""
        for entry in self._log:
            match entry:
                case Told():
                    self._hear(entry.event)
                case Spoken():
                    number = self._speeches[entry.speaker] = (
                        self._speeches.get(entry.speaker, 0) + 1
                    )
                    self._addressed[entry.speaker, number] = entry.to
                case Seated():
                    known = self.authors.get(entry.seat)
                    if known is None or known.worker is None:  # a worker concludes where it stood
                        self._seats.pop(entry.seat, None)
                    self._seats[entry.seat] = None
                case HandedIn():
                    self._hand_in(entry.seat, entry.request)
                case Closed():
                    self._close([one for one, ticks in entry.requests if not ticks])
                case Forward():
                    self._forward(entry.feeds)
                case Change():
                    self._change(entry)

    # -- what is told

    def _hear(self, event: ev.Event) -> None:
        match event:
            case ev.RunStarted():
                for name in event.workers:
                    self._join(name, None)
            case ev.WorkerJoined():
                self._join(event.worker, event.forked_from)
            case ev.TokensWritten():
                self._write(event)
            case ev.StepEnded():
                self._end_step(event)
            case ev.ActionTaken():
                self._take(event.action)
            case ev.WorkerLeft():
                author = self.authors[event.worker]
                assert not author.left, f"{event.worker} left twice"
                author.left, author.held = True, False
            case ev.ProbeAnswered():
                author = self.authors[event.worker]
                assert author.probes, f"{event.worker} answered what it was not asked"
                probe = author.probes.pop(0)
                assert probe.question == event.question
                assert tuple(event.probabilities) == probe.answers
                rows = [self._asked[block] for block in author.asked.pop(0)]
                self.answered.append(Answered(event, rows))

    def _join(self, name: str, forked_from: str | None) -> None:
        worker = None if name in self._people else self._workers[name]
        assert name not in self.authors
        author = self.authors[name] = Author(name, worker)
        if worker is not None:
            self._words += self._limits(worker)
        if forked_from is not None:
            self._copy(author, self.authors[forked_from])

    def _limits(self, worker: Worker) -> Iterable[Word]:
        name, sees, seen_by = worker.name, worker.sees, worker.seen_by
        if sees is not None:
            yield (
                lambda author, viewer: (
                    False
                    if viewer == name and author not in sees and author not in self._people
                    else None
                )
            )
        if seen_by is not None:
            yield lambda author, viewer: False if author == name and viewer not in seen_by else None

    def _copy(self, author: Author, source: Author) -> None:
        """Let a fork begin with what its source has in the cache of its unfinished text."""
        place = source.current if self._moves else 1
        copied = source.content(place)
        block = next(b for b in reversed(self.cache) if b.name == f"{author.name} [1]")
        assert self.cache[block] == copied[:-1], "a fork has a copy of all but the last token"
        author.steps[1] = [*copied[:-1], (author.name, AGAIN, copied[-1][2])]
        author.told = dict.fromkeys(author.steps[1], 1)
        author.fed[1] = len(copied) - 1
        author.blocks[block] = 1
        source.forks.remove(author.name)

    def _write(self, event: ev.TokensWritten) -> None:
        author = self.authors[event.worker]
        assert not author.left or self._concludes, f"{author.name} writes after it has left"
        if event.logprobs:
            self.sampled.append((event, *self._rows[author.name, author.length]))
        author.write(event.step, event.step if self._moves else 1, event.tokens)
        author.last = len(event.tokens)

    def _end_step(self, event: ev.StepEnded) -> None:
        author = self.authors[event.worker]
        assert event.step == author.ended + 1
        author.ended = event.step
        if self._late and self._moves and not author.speaks:
            count = author.last
            step = author.steps[event.step]
            author.steps[event.step + 1] = step[-count:]
            del step[-count:]

    def _take(self, action: act.Action) -> None:
        match action:
            case act.Hide() | act.Show():
                author, viewers = action.author, action.viewers
                shown = isinstance(action, act.Show)
                self._words.append(
                    lambda one, viewer: (
                        shown if one == author and (viewers is None or viewer in viewers) else None
                    )
                )
            case act.Forget():
                self._forgotten.append(action)
            case act.Park():
                self.authors[action.worker].held = True
            case act.Resume():
                self.authors[action.worker].held = False
            case act.Probe():
                self.authors[action.worker].probes.append(action)
            case act.Spawn(fork_of=str(source)):
                self.authors[source].forks.append(action.worker.name)
            case act.Conclude():
                self._concludes = True

    # -- what is handed in

    def _hand_in(self, name: str, request: Request) -> None:
        author = self.authors.get(name)
        if author is None or not request.feeds:
            return
        texts = [feed for feed in request.feeds if author.writes(feed.block)]
        if not texts:
            self._check_introduction(author, request.feeds)
            return
        held = author.held and not self._concludes
        due = self._due(author, held=held)
        found = [list(feed.tokens) for feed in texts]
        assert found == due, f"{name} hands in {found} instead of {due}"
        if not author.speaks and not self._concludes:
            self._check_extras(author, request, held=held)

    def _due(self, author: Author, *, held: bool) -> list[list[int]]:
        """Return what an author has to hand in now; who is held, the end of a step at most."""
        if author.speaks:
            step = author.spoken + (not self._rest(author))
            tags = author.pending(step if self._moves else 1)
            return [ids_of(tag for tag in tags if author.told[tag] == step)]
        if not self._moves:
            pending = author.pending(1)
            ends = any(author.told[tag] <= author.ended for tag in pending)
            return [ids_of(pending[:-1] if ends else [])] if held else [ids_of(pending)]
        closing, current = author.closing, author.current
        if author.ended >= current:
            closing, current = current, current + 1
        parts = [] if closing is None else [author.pending(closing)]
        parts += [] if held else [author.pending(current)]
        return [ids_of(part) for part in parts if part]

    def _rest(self, person: Author) -> list[Tag]:
        """Return what is not fed yet of the last speech that was begun."""
        tags = person.pending(person.spoken if self._moves else 1)
        return [tag for tag in tags if person.told[tag] == person.spoken]

    def _check_extras(self, author: Author, request: Request, *, held: bool) -> None:
        questions = [feed.tokens for feed in request.feeds if feed.block.name == "probe"]
        asked = [tuple(self._encode(probe.question)) for probe in author.probes if not held]
        assert questions == asked, f"{author.name} is asked {questions} instead of {asked}"
        author.asked = []
        for feed in request.feeds:
            if feed.block.name == "probe":
                author.asked.append([])
            if feed.block.name in ("probe", "answer"):
                author.asked[-1].append(feed.block)
        copies = [op.name for op in request.then if isinstance(op, Fork)]
        assert copies == [f"{name} [1]" for name in author.forks if not held]
        moves = [op for op in request.then if isinstance(op, Move)]
        closes = self._moves and (author.closing is not None or author.ended >= author.current)
        assert len(moves) == closes

    def _check_introduction(self, author: Author, feeds: Sequence[TickFeed]) -> None:
        found = {feed.block.name: list(feed.tokens) for feed in feeds}
        own, public, private = self._introduction(author)
        expected = {"problem": own, "public role": public, "role": private}
        assert found == {f"{author.name}'s {name}": ids for name, ids in expected.items() if ids}

    def _introduction(self, author: Author) -> tuple[list[int], list[int], list[int]]:
        """Return the ids of a worker's own problem, its public role, and its private one."""
        worker, headings = author.worker, self._team.headings
        if worker is None:
            return [], [], []
        own = [] if worker.problem is None else self._team._encode(worker.problem)
        public = headings.announcement(worker.name, worker.public_role)
        with_roles = [one for one in self.authors.values() if one.worker and one.worker.public_role]
        if with_roles[:1] == [author]:
            public = headings.roles + public
        private = headings.introduction(worker.name, worker.role) if worker.role else ""
        private += describe_tools(self._team.model, worker.tools)
        return (
            list(own),
            list(self._encode(public)) if worker.public_role else [],
            list(self._encode(private)) if private else [],
        )

    def _close(self, requests: Sequence[Request]) -> None:
        self._movers.clear()
        self._then = Moment(
            tuple(self.authors.values()),
            tuple(self._words),
            tuple(self._forgotten),
            {name: author.ended for name, author in self.authors.items()},
        )
        for author in self.authors.values():
            author.before = dict(author.fed)
        for request in requests:
            self._turn(request)

    def _turn(self, request: Request) -> None:
        """Let the step that has ended stand in the history, if this request hands in its end."""
        author = self.authors.get(request.seat.name)
        if author is None or (author.speaks and self._rest(author)):
            return
        texts = any(author.writes(feed.block) for feed in request.feeds)
        if texts or any(isinstance(op, Move) for op in request.then):
            author.spoken += author.speaks
            if self._moves and author.ended >= author.current:
                author.closing, author.current = author.current, author.current + 1

    # -- the cache

    def _forward(self, feeds: Sequence[Feed]) -> None:
        texts: list[tuple[Author, int, Feed]] = []
        for row, feed in enumerate(feeds):
            author = self.authors.get(self._owners.get(feed.block, ""))
            if author is None or not author.writes(feed.block):
                self.cache.setdefault(feed.block, []).extend(given(feed.tokens))
                self._asked[feed.block] = (self._forwards, row)
                continue
            place = author.place(feed.block)
            tags = author.pending(place)[: len(feed.tokens)]
            assert ids_of(tags) == list(feed.tokens), f"{author.name} feeds what it has not written"
            author.fed[place] = author.fed.get(place, 0) + len(tags)
            self.cache.setdefault(feed.block, []).extend(tags)
            self._rows[author.name, tags[-1][1] + 1] = (self._forwards, row)
            texts.append((author, place, feed))
        for author, place, feed in texts:
            self._compare(author, feed, self._view(author, place))
        for feed in feeds:
            author = self.authors.get(self._owners.get(feed.block, ""))
            if author is not None and not author.writes(feed.block):
                self._compare_aside(author, feed)
        self._forwards += 1

    def _compare(self, author: Author, feed: Feed, expected: list[Tag]) -> None:
        found = self._seen(feed)
        if found != expected:
            raise AssertionError(
                f"{author.name} sees in forward {self._forwards}\n  {self._words_of(found)}\n"
                f"instead of\n  {self._words_of(expected)}"
            )

    def _words_of(self, tags: Sequence[Tag]) -> str:
        """Return tags as text, with a mark before each change of author."""
        decode = self._team.model.decode
        runs = groupby(tags, key=lambda tag: tag[0])
        return repr("".join(f"⟨{name}⟩{decode(ids_of(run))}" for name, run in runs))

    def _compare_aside(self, author: Author, feed: Feed) -> None:
        """Check the view of a question, or of what a worker is given when it joins."""
        entries = [e.block if isinstance(e, BlockSlice) else e for e in feed.view]
        aside = [block.name for block in entries if block.name in ("probe", "answer")]
        found = self._seen(feed)
        if not aside:
            assert all(tag[0] == "" for tag in found), "a role is told in sight of nobody's text"
            return
        assert aside[0] == "probe"
        length = sum(len(self.cache[block]) for block in entries[-len(aside) :])
        expected = self._view(author, author.current if self._moves else 1)
        assert found[: len(found) - length] == expected, f"{author.name} is asked elsewhere"

    def _seen(self, feed: Feed) -> list[Tag]:
        seen: list[Tag] = []
        for entry in feed.view:
            if isinstance(entry, BlockSlice):
                seen += self.cache.get(entry.block, [])[entry.start : entry.stop]
            else:
                seen += self.cache.get(entry, [])
        return seen

    def _change(self, change: Change) -> None:
        match change.kind:
            case "made":
                self.cache[change.block] = []
            case "forked":
                assert change.other is not None
                self.cache[change.other] = list(self.cache[change.block])
            case "cut":
                del self.cache[change.block][change.length :]
            case "moved":
                assert change.other is not None
                self._move(change.block)
                self.cache[change.other] += self.cache[change.block]
                self.cache[change.block] = []

    def _move(self, block: CacheBlock) -> None:
        author = self.authors.get(self._owners.get(block, ""))
        if author is None:
            return
        place, author.closing = author.closing, None
        assert place is not None, f"a step of {author.name} moves that has not ended"
        assert author.blocks[block] == place
        assert not author.pending(place), f"a step of {author.name} moves before it is fed"
        self._history.append((author, place))
        self._movers.append(author.name)
        order = [name for name in self._seats if name in self._movers]
        assert self._movers == order, "steps move out of order"

    # -- views

    def _view(self, viewer: Author, place: int) -> list[Tag]:
        """Return all that an author sees that writes some step of its own."""
        if not self._moves:
            head = [*self._opening(viewer), *self._spoken(viewer)]
            others = self._others(viewer) if self._layout == "contiguous" else []
            return [*head, *others, *self._heads["own"], *self._whole(viewer, viewer)]
        view = [*self._opening(viewer), *self._heads["past"]]
        for author, step in self._history:
            view += self._finished(viewer, author, step)
        known = {author.name: author for author in self._then.authors}
        for author in (known[name] for name in self._seats if name in known):
            if author.closing is not None and (author, author.closing) != (viewer, place):
                view += self._finished(viewer, author, author.closing)
        if self._layout == "combined":
            view += self._others(viewer)
        return [*view, *self._heads["own"], *viewer.content(place)]

    def _opening(self, viewer: Author) -> list[Tag]:
        own, _, private = self._introduction(viewer)
        opening = self._told(f"{viewer.name}'s problem", own) if own else list(self._prompt)
        for author in self._then.authors:
            opening += self._told(f"{author.name}'s public role", self._introduction(author)[1])
        return [*opening, *self._told(f"{viewer.name}'s role", private)]

    def _told(self, name: str, ids: Sequence[int]) -> list[Tag]:
        """Return what of a text is in the cache, in the block of this name."""
        found = [tags for block, tags in self.cache.items() if block.name == name]
        return given(ids)[: sum(map(len, found))]

    def _finished(self, viewer: Author, author: Author, step: int) -> list[Tag]:
        seen = self._sees(viewer, author) and self._keeps(viewer, author, step)
        return author.content(step) if seen else []

    def _others(self, viewer: Author) -> list[Tag]:
        others = [
            author
            for author in self._then.authors
            if author is not viewer and not author.speaks and self._sees(viewer, author)
        ]
        view = list(self._heads["others"]) if others else []
        for author in others:
            text = self._unfinished if self._moves else self._whole
            view += [*text(viewer, author), *self._heads["unfinished"]]
        return view

    def _unfinished(self, viewer: Author, author: Author) -> list[Tag]:
        """Return the step that an author is at, or has ended without handing in its end."""
        ended = self._then.ended[author.name] >= author.current
        if ended and not self._keeps(viewer, author, author.current):
            return []
        return author.content(author.current)

    def _whole(self, viewer: Author, author: Author) -> list[Tag]:
        """Return what is seen of a text that never moves."""
        old = author.before.get(1, 0)
        return [
            tag
            for number, tag in enumerate(author.content(1))
            if author.told[tag] > self._then.ended[author.name]
            or self._keeps(viewer, author, author.told[tag])
            or (number >= old and (viewer is author or not author.speaks))
        ]

    def _spoken(self, viewer: Author) -> list[Tag]:
        return [
            tag
            for author in self._then.authors
            if author.speaks and author is not viewer and self._sees(viewer, author)
            for tag in self._whole(viewer, author)
        ]

    def _sees(self, viewer: Author, author: Author) -> bool:
        if viewer is author:
            return True
        said = [word(author.name, viewer.name) for word in self._then.words]
        return next((seen for seen in reversed(said) if seen is not None), True)

    def _keeps(self, viewer: Author, author: Author, step: int) -> bool:
        """Whether a viewer sees a step that has ended, of an author whom it sees."""
        for action in self._then.forgotten:
            if (action.worker, action.step) == (author.name, step) and (
                action.viewers is None or viewer.name in action.viewers
            ):
                return False
        to = self._addressed.get((author.name, step))
        return to is None or viewer is author or viewer.name in to
