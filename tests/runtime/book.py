"""Book: what must be fed in each tick of a run, in which view, worked out from its events alone.

Written from DESIGN.md and not from the code: it knows texts and ticks, and no blocks. The commits
say only how many tokens each worker fed in which tick. Which tokens these are, what the whole view
is, token by token, and where every finished step stands follows from what the workers wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hogwild_agents.chat import encode_prompt
from hogwild_agents.coordinator import Commit
from hogwild_agents.engine import BlockSlice, CacheBlock, Feed, ViewEntry
from hogwild_agents.events import StepEnded, TokensWritten
from tests.runtime.rig import PROBLEM, Play

Fed = tuple[str, tuple[int, ...], tuple[int, ...]]
"""One feed: who, what is appended, and the whole view with it."""


@dataclass
class Author:
    """What one worker has written, and how much of it is fed.

    Attributes:
        tokens: (step, token) in the order of the text; a step is where the token is to be fed.
        steps: what is fed of each step.
        closed: the tick since which a step is finished for all.
    """

    name: str
    tokens: list[tuple[int, int]] = field(default_factory=list)
    fed: int = 0
    steps: dict[int, list[int]] = field(default_factory=dict)
    closed: dict[int, int] = field(default_factory=dict)

    def feed(self, count: int, tick: int, moves: bool) -> list[tuple[int, list[int]]]:
        """Take the next ``count`` tokens of the text; return them by step."""
        part = self.tokens[self.fed : self.fed + count]
        assert len(part) == count, f"{self.name} feeds more than it has written"
        self.fed += count
        fresh: dict[int, list[int]] = {}
        for step, token in part:
            place = step if moves else 1
            fresh.setdefault(place, []).append(token)
            self.steps.setdefault(place, []).append(token)
        for step in list(self.steps)[:-1]:
            self.closed.setdefault(step, tick)
        return list(fresh.items())

    @property
    def current(self) -> list[int]:
        """What is fed of the step being written."""
        return self.steps[max(self.steps)] if self.steps else []


class Book:
    """The expected feeds of a run."""

    def __init__(self, record: Play, problem: str = PROBLEM) -> None:
        team, encode = record.team, record.team.model.encode
        self.layout = team.layout.name
        self.moves = team.layout.steps_move
        system = team.prompt.render(names=list(team.names), layout=self.layout)
        self.prompt = encode_prompt(team.model.tokenizer, system=system, user=problem)
        headings = team.headings
        self.past, self.others = encode(headings.past), encode(headings.others)
        self.own, self.unfinished = encode(headings.own), encode(headings.unfinished)
        self.roles = {
            worker.name: encode(f"### My role\n\nI am {worker.name}. {worker.role}\n\n")
            for worker in team.workers
            if worker.role
        }
        self.authors = {name: Author(name) for name in team.names}
        late = getattr(team.layout, "last_token_first", False)
        for name, author in self.authors.items():
            author.tokens = _written(record, name, last_token_first=late)

    def tick(self, number: int, counts: dict[str, int]) -> list[Fed]:
        """Return the feeds of a tick in which each worker feeds so many tokens."""
        fresh = {
            name: author.feed(counts[name], number, self.moves)
            for name, author in self.authors.items()
            if name in counts
        }
        return [
            (name, tuple(tokens), tuple(self.view(self.authors[name], step)))
            for name, parts in fresh.items()
            for step, tokens in parts
        ]

    def view(self, author: Author, step: int) -> list[int]:
        """Return the whole view of whoever writes a step."""
        view = [*self.prompt, *self.roles.get(author.name, [])]
        if self.layout in ("combined", "interleaved"):
            view += self.past + self.history(without=(author.name, step))
        if self.layout in ("combined", "contiguous"):
            others = [other for other in self.authors.values() if other is not author]
            view += self.others if others else []
            for other in others:
                view += other.current + self.unfinished
        return [*view, *self.own, *author.steps[step]]

    def history(self, without: tuple[str, int] | None = None) -> list[int]:
        """Return all finished steps: in the order of their ticks, in one tick that of the team."""
        finished = [
            (tick, rank, step, author)
            for rank, author in enumerate(self.authors.values())
            for step, tick in author.closed.items()
            if (author.name, step) != without
        ]
        finished.sort(key=lambda entry: entry[:3])
        return [token for _, _, step, author in finished for token in author.steps[step]]


def _written(record: Play, name: str, *, last_token_first: bool) -> list[tuple[int, int]]:
    """All that a worker wrote, with the step that each token is fed to."""
    pieces: list[tuple[int, tuple[int, ...]]] = []
    for event in record.events:
        if isinstance(event, TokensWritten) and event.worker == name:
            pieces.append((event.step, event.tokens))
        elif isinstance(event, StepEnded) and event.worker == name and last_token_first:
            pieces[-1] = (event.step + 1, pieces[-1][1])
    return [(step, token) for step, tokens in pieces for token in tokens]


class Ledger:
    """The blocks as the commits make them."""

    def __init__(self) -> None:
        self.blocks: dict[CacheBlock, list[int]] = {}

    def feed(self, feeds: Sequence[Feed]) -> None:
        for feed in feeds:
            self.blocks.setdefault(feed.block, []).extend(feed.tokens)

    def move(self, commit: Commit) -> None:
        for move in commit.moves:
            source = self.blocks.pop(move.source, [])
            self.blocks.setdefault(move.target, []).extend(source)

    def view(self, view: Sequence[ViewEntry]) -> tuple[int, ...]:
        """The tokens of a whole view."""
        seen: list[int] = []
        for entry in view:
            if isinstance(entry, BlockSlice):
                seen += self.blocks.get(entry.block, [])[entry.start : entry.stop]
            else:
                seen += self.blocks.get(entry, [])
        return tuple(seen)

    def named(self, name: str) -> list[int]:
        """The tokens of the block of a name."""
        found = [tokens for block, tokens in self.blocks.items() if block.name == name]
        return found[0] if found else []


def by_tick(commits: Sequence[Commit]) -> list[list[Commit]]:
    """The commits of each tick."""
    ticks: dict[int, list[Commit]] = {}
    for commit in commits:
        ticks.setdefault(commit.tick, []).append(commit)
    return list(ticks.values())


def check_feeds(record: Play, problem: str = PROBLEM) -> Ledger:
    """Compare every feed of a run, and its view, with the book; return the cache at the end."""
    book, ledger = Book(record, problem), Ledger()
    team = record.team
    check_opening(record, book, ledger)
    for commits in by_tick(record.commits):
        if not commits[0].seat:
            continue
        feeds = [(commit.seat, feed) for commit in commits for feed in commit.feeds]
        ledger.feed([feed for _, feed in feeds])
        counts = {c.seat: sum(len(feed.tokens) for feed in c.feeds) for c in commits if c.feeds}
        found = [(name, tuple(feed.tokens), ledger.view(feed.view)) for name, feed in feeds]
        assert found == book.tick(commits[0].tick, counts)
        for commit in commits:
            ledger.move(commit)
    if team.layout.steps_move:
        moved = {move.source for commit in record.commits for move in commit.moves}
        finished = sum(len(author.closed) for author in book.authors.values())
        assert len(moved) == finished
        assert ledger.named("history") == book.history()
    return ledger


def check_opening(record: Play, book: Book, ledger: Ledger) -> None:
    """The prompt and the headings are fed alone, a role behind the prompt.

    The prompt may be in two blocks, of which other runs could share the first.
    """
    alone = {"past": book.past, "others": book.others}
    alone |= {"own": book.own, "unfinished": book.unfinished}
    prompts = [["prompt"], ["prompt, common part", "prompt"]]
    for commit in record.commits:
        if commit.seat:
            continue
        assert not commit.moves
        ledger.feed(commit.feeds)
        for feed in commit.feeds:
            name = feed.block.name
            seen = [entry.name for entry in feed.view if isinstance(entry, CacheBlock)]
            if name in alone or name == "prompt, common part":
                assert feed.view == (feed.block,)
            elif name == "prompt":
                assert seen in prompts
            else:
                assert seen in [[*prompt, name] for prompt in prompts]
    assert ledger.named("prompt, common part") + ledger.named("prompt") == book.prompt
    assert {name: ledger.named(name) for name in alone} == alone
    for worker, tokens in book.roles.items():
        assert ledger.named(f"{worker}'s role") == tokens
