"""Board: all blocks of one run, and who sees what of them.

Layouts make views of what a board returns. Hiding a worker's text, or forgetting a step, changes
what is returned: nothing moves in the cache, and nothing is encoded anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hogwild_agents.engine import BlockSlice, CacheBlock, ViewEntry


@dataclass(eq=False)
class Place:
    """One worker's blocks, or those of a person who speaks to the workers.

    Attributes:
        name: the worker's name.
        own: the block it writes now.
        role: its private block, if it has a role.
        prompt: its own view of the problem, if it has one.
        closing: a step that has ended, while its last token is being fed; then it moves to the
            history.
        left: whether the worker has left; its block stays visible all the same.
        speaks: whether this is a person, who writes whole steps only.
        closing_step: the number of the step in ``closing``.
        closing_length: how long that is with the tokens that are being fed.
        ends: where steps end in ``own``, as (number, position), in layouts that move nothing.
        ended: the number of the step in ``own``, in layouts that move it, from its end until that
            is handed in; 0 otherwise.
        turn: where its seat at the coordinator stands: of steps that end together, that of a lower
            turn moves first. The workers that begin a run have 0, and stand in their order.
    """

    name: str
    own: CacheBlock
    role: CacheBlock | None = None
    prompt: CacheBlock | None = None
    closing: CacheBlock | None = None
    left: bool = False
    speaks: bool = False
    closing_step: int = 0
    closing_length: int = 0
    ends: list[tuple[int, int]] = field(default_factory=list)
    ended: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """A finished step inside a block."""

    author: str
    step: int
    start: int
    stop: int


@dataclass(eq=False)
class Board:
    """All blocks of one run.

    Attributes:
        prompt: the problem, up to where the workers begin.
        past, others, own, unfinished: the headings' blocks, each encoded once and alone.
        history: the finished steps, in the order in which they ended.
        places: the workers' blocks, in worker order.
        roles: what everybody is told about single workers.
        common: what stands before ``prompt``, where several runs share the beginning of it.
    """

    prompt: CacheBlock
    past: CacheBlock
    others: CacheBlock
    own: CacheBlock
    unfinished: CacheBlock
    history: CacheBlock
    places: list[Place] = field(default_factory=list)
    roles: list[CacheBlock] = field(default_factory=list)
    common: CacheBlock | None = None
    _parts: list[_Part] = field(default_factory=list)
    _audiences: dict[str, frozenset[str]] = field(default_factory=dict)  # who sees an author
    _scopes: dict[str, frozenset[str]] = field(default_factory=dict)  # whom a viewer sees
    _pairs: dict[tuple[str, str], bool] = field(default_factory=dict)  # (author, viewer): sees it
    _forgotten: set[tuple[str, int, str | None]] = field(default_factory=set)
    _addressed: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    _turns: int = 0

    # -- for layouts

    @property
    def problem(self) -> list[ViewEntry]:
        """The prompt, with what stands before it."""
        return [self.prompt] if self.common is None else [self.common, self.prompt]

    def opening(self, place: Place) -> list[ViewEntry]:
        """Return what a worker is given: the problem, the public roles, its own role."""
        problem = self.problem if place.prompt is None else [place.prompt]
        role = [] if place.role is None else [place.role]
        return [*problem, *self.roles, *role]

    def finished(self, place: Place, block: CacheBlock) -> list[ViewEntry]:
        """Return the finished steps that a worker sees when it writes ``block``.

        That is what it sees of the history, and the steps that move there after this tick, in the
        order in which they will.
        """
        closing = [
            (other.turn, other.closing)
            for other in self.places
            if other.closing is not None
            and other.closing is not block
            and self.sees(place.name, other.name)
            and self._keeps(place.name, other.name, other.closing_step)
        ]
        closing.sort(key=lambda one: one[0])
        kept = self._kept(self.history, self._parts, place.name)
        return [*kept, *[step for _, step in closing]] if closing else kept

    def seen_by(self, place: Place) -> list[Place]:
        """Return the places of the other workers whose text a worker sees, in their order."""
        others = [other for other in self.places if other is not place and not other.speaks]
        if not self._restricted:
            return others
        return [other for other in others if self.sees(place.name, other.name)]

    def current(self, author: Place, viewer: Place) -> list[ViewEntry]:
        """Return the step that an author is at, unless it has just ended and is forgotten."""
        forgotten = author.ended and not self._keeps(viewer.name, author.name, author.ended)
        return [] if forgotten else [author.own]

    def whole(self, author: Place, viewer: Place) -> list[ViewEntry]:
        """Return the whole text of an author as a viewer sees it; the end of it is open.

        Of a step that is forgotten, nothing is left but what is being fed of its end.
        """
        parts = _parts(author, partial=True)
        kept = self._kept(author.own, parts, viewer.name)
        if kept == [author.own]:
            return kept
        end = parts[-1].stop
        last = kept[-1] if kept else None
        if isinstance(last, BlockSlice) and last.stop == end:
            return [*kept[:-1], BlockSlice(author.own, last.start)]
        return [*kept, BlockSlice(author.own, end)]

    def spoken(self, place: Place) -> list[ViewEntry]:
        """Return what people have said to a worker (or a person), where nothing moves."""
        return [
            entry
            for other in self.places
            if other.speaks and other is not place and self.sees(place.name, other.name)
            for entry in self._said(other, place.name)
        ]

    def sees(self, viewer: str, author: str) -> bool:
        """Whether a worker sees what an author writes; its own text it always sees."""
        if viewer == author:
            return True
        seen = self._pairs.get((author, viewer))
        if seen is not None:
            return seen
        audience, scope = self._audiences.get(author), self._scopes.get(viewer)
        if audience is not None and viewer not in audience:
            return False
        return scope is None or author in scope or self._is_person(author)

    # -- for the runtime

    def limit(
        self, name: str, *, sees: Iterable[str] | None, seen_by: Iterable[str] | None
    ) -> None:
        """Say whom a worker sees and who sees it, now and of those who come later; None for all."""
        if sees is not None:
            self._scopes[name] = frozenset(sees)
        if seen_by is not None:
            self._audiences[name] = frozenset(seen_by)

    def hide(self, author: str, viewers: Iterable[str] | None) -> None:
        """Take an author's text out of views; without viewers of all, and of who comes later."""
        if viewers is None:
            self._forget_pairs(author)
            self._audiences[author] = frozenset()
        else:
            self._pairs.update({(author, viewer): False for viewer in viewers})

    def show(self, author: str, viewers: Iterable[str] | None) -> None:
        """Put an author's text back into views; without viewers of all, and of who comes later."""
        if viewers is None:
            self._audiences.pop(author, None)
            viewers = [place.name for place in self.places]
        self._pairs.update({(author, viewer): True for viewer in viewers})

    def forget(self, author: str, step: int, viewers: Iterable[str] | None) -> None:
        """Take a finished step out of views for good."""
        names: Iterable[str | None] = [None] if viewers is None else viewers
        self._forgotten.update((author, step, name) for name in names)

    def address(self, author: str, step: int, viewers: Iterable[str]) -> None:
        """Let a step be seen by nobody but these, and by its author."""
        self._addressed[author, step] = frozenset(viewers)

    def seated(self, place: Place) -> None:
        """Note that a place has got a seat at the coordinator in mid-run, behind all others."""
        self._turns += 1
        place.turn = self._turns

    def moved(self, place: Place) -> None:
        """Note that the closing step of a place stands at the end of the history now."""
        start = self._parts[-1].stop if self._parts else 0
        stop = start + place.closing_length
        self._parts.append(_Part(place.name, place.closing_step, start, stop))

    # -- inside

    def _said(self, person: Place, viewer: str) -> list[ViewEntry]:
        """Return what a worker sees of a person's text, what is being fed at this moment too."""
        parts = _parts(person)
        seen = self._kept(person.own, parts, viewer) if parts else []
        fed = parts[-1].stop if parts else 0
        if len(parts) == len(person.ends):
            return seen
        if self._keeps(viewer, person.name, person.ends[len(parts)][0]):
            return seen if seen == [person.own] else [*seen, BlockSlice(person.own, fed)]
        return [BlockSlice(person.own, 0, fed)] if seen == [person.own] else seen

    def _keeps(self, viewer: str, author: str, step: int) -> bool:
        """Whether a worker still sees one finished step of an author whom it sees."""
        if {(author, step, None), (author, step, viewer)} & self._forgotten:
            return False
        to = self._addressed.get((author, step))
        return to is None or viewer in to or viewer == author

    def _kept(self, block: CacheBlock, parts: list[_Part], viewer: str) -> list[ViewEntry]:
        """Return what a worker sees of a block of finished steps, as few slices as possible."""
        if not parts or not self._restricted:
            return [block]
        kept: list[tuple[int, int]] = []
        for part in parts:
            seen = self.sees(viewer, part.author)
            if not seen or not self._keeps(viewer, part.author, part.step):
                continue
            if kept and kept[-1][1] == part.start:
                kept[-1] = (kept[-1][0], part.stop)
            else:
                kept.append((part.start, part.stop))
        if len(kept) == 1 and kept[0] == (0, parts[-1].stop):
            return [block]
        return [BlockSlice(block, start, stop) for start, stop in kept]

    @property
    def _restricted(self) -> bool:
        """Whether anything is out of anybody's view."""
        return bool(
            self._audiences or self._scopes or self._pairs or self._forgotten or self._addressed
        )

    def _is_person(self, name: str) -> bool:
        return any(place.speaks and place.name == name for place in self.places)

    def _forget_pairs(self, author: str) -> None:
        self._pairs = {pair: seen for pair, seen in self._pairs.items() if pair[0] != author}


def _parts(place: Place, *, partial: bool = False) -> list[_Part]:
    """Return the finished steps in a block that they never leave.

    Only those whose end is fed, or with ``partial`` all of them, as far as they are fed.
    """
    return list(_read_parts(place, partial))


def _read_parts(place: Place, partial: bool) -> Iterator[_Part]:
    start, fed = 0, len(place.own)
    for step, end in place.ends:
        stop = min(end, fed) if partial else end
        if stop > fed or stop == start:
            return
        yield _Part(place.name, step, start, stop)
        start = stop
