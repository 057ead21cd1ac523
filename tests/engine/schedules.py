"""Schedules that hypothesis draws: teams in any layout, and views with no sense in them at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.engine.families import VOCAB
from tests.engine.twin import Entry, Twin, Write

Draw = Callable[[st.SearchStrategy[Any]], Any]

LAYOUTS = ("contiguous", "interleaved", "combined", "isolated", "forgetful", "shuffled")
ACTIONS = ("think", "think", "think", "end", "end", "pause", "backtrack", "branch", "leave")


class Tokens:
    """Token ids without rhyme, and without a draw for each."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def __call__(self, count: int) -> list[int]:
        """The next ``count`` ids."""
        ids = []
        for _ in range(count):
            self._state = (self._state * 1103515245 + 12345) % 2**31
            ids.append(self._state // 65536 % VOCAB)
        return ids


@dataclass(eq=False)
class Worker:
    """Its private role block, and the block that it writes."""

    role: int
    own: int


class TeamSchedule:
    """Workers that think, end steps together, pause, backtrack, branch, join and leave.

    A step ends as the design says: its last tokens go to the old block and the next step's prefix
    to a new one, in the same tick; then the old block moves to the history, in worker order.
    """

    def __init__(self, twin: Twin, draw: Draw) -> None:
        self.twin, self.draw = twin, draw
        self.layout: str = draw(st.sampled_from(LAYOUTS))
        self.tokens = Tokens(draw(st.integers(0, 999)))
        self.prompt, self.past, self.work, self.mark, self.history = (
            twin.block() for _ in range(5)
        )
        self.workers: list[Worker] = []
        self.left_behind: list[int] = []

    def run(self) -> None:
        """Prefill, then some ticks."""
        shared = [self.prompt, self.past, self.work, self.mark]
        sizes = [self.draw(st.integers(0, most)) for most in (7, 3, 3, 2)]
        self._tick(
            [
                Write(block, [Entry(block)], self.tokens(size))
                for block, size in zip(shared, sizes, strict=True)
                if size
            ]
        )
        for _ in range(self.draw(st.integers(1, 5))):
            self._join()
        for _ in range(self.draw(st.integers(1, 7))):
            self._team_tick()

    def _join(self) -> None:
        worker = Worker(self.twin.block(), self.twin.block())
        size = self.draw(st.integers(0, 3))
        if size:
            view = [Entry(self.prompt), Entry(worker.role)]
            self._tick([Write(worker.role, view, self.tokens(size))])
        self.workers.append(worker)

    def _team_tick(self) -> None:
        feeds: list[Write] = []
        ended: list[int] = []
        for worker in list(self.workers):
            action = self.draw(st.sampled_from(ACTIONS))
            if action == "backtrack":
                length = self.twin.length(worker.own)
                self.twin.truncate(worker.own, self.draw(st.integers(0, length)))
            elif action == "branch":
                self._branch(worker)
            elif action == "leave":
                self._leave(worker)
        for worker in self.workers:
            action = self.draw(st.sampled_from(ACTIONS))
            if action == "pause":
                continue
            feeds.append(self._feed(worker, ended=None))
            if action == "end":
                old, worker.own = worker.own, self.twin.block()
                feeds.append(self._feed(worker, ended=old))
                ended.append(old)
                self.left_behind.append(old)
        self._tick(feeds)
        for old in ended:
            self.twin.move(old, self.history)
            self.left_behind.remove(old)
            self.twin.free(old)
        if len(self.workers) < 5 and self.draw(st.integers(0, 3)) == 0:
            self._join()

    def _branch(self, worker: Worker) -> None:
        old, worker.own = worker.own, self.twin.fork(worker.own)
        if self.draw(st.booleans()):
            self.twin.free(old)
        else:
            self.left_behind.append(old)

    def _leave(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.twin.free(worker.role)
        if self.draw(st.booleans()):
            self.left_behind.append(worker.own)
        else:
            self.twin.free(worker.own)

    def _feed(self, worker: Worker, ended: int | None) -> Write:
        view = self._view(worker, ended)
        return Write(worker.own, view, self.tokens(self.draw(st.integers(1, 3))))

    def _view(self, worker: Worker, ended: int | None) -> list[Entry]:
        others = [other.own for other in self.workers if other is not worker] + self.left_behind
        others = [block for block in others if block not in (ended, worker.own)]
        past = [Entry(self.prompt), Entry(self.past), Entry(self.history)]
        past += [Entry(ended)] if ended is not None else []
        own = [Entry(worker.role), Entry(worker.own)]
        if self.layout == "isolated":
            return [Entry(self.prompt), *own] if ended is None else [*past, *own]
        if self.layout == "contiguous":
            return [*past, *map(Entry, others), *own]
        if self.layout == "interleaved":
            return [*past, *own]
        marked = [entry for block in others for entry in (Entry(block), Entry(self.mark))]
        view = [*past, Entry(self.work), *marked, *own]
        if self.layout == "forgetful":
            return [*(self._part(entry) for entry in view[:-1]), self._tail(worker.own)]
        if self.layout == "shuffled":
            return [*self.draw(st.permutations(view[:-1])), view[-1]]
        return view

    def _part(self, entry: Entry) -> Entry:
        kind = self.draw(st.sampled_from(("whole", "whole", "open", "closed")))
        return entry if kind == "whole" else draw_slice(self.draw, self.twin, entry.block, kind)

    def _tail(self, block: int) -> Entry:
        return draw_slice(self.draw, self.twin, block, "open")

    def _tick(self, feeds: list[Write]) -> None:
        if feeds:
            self.twin.tick(*self.draw(st.permutations(feeds)))


def draw_slice(draw: Draw, twin: Twin, block: int, kind: str) -> Entry:
    """A part of a block: open ("open") or with a fixed stop ("closed")."""
    length = twin.length(block)
    start = draw(st.integers(0, length))
    return Entry(block, start, None if kind == "open" else draw(st.integers(start, length)))


def run_chaos(twin: Twin, draw: Draw) -> None:
    """Any blocks, any views, any order of calls: what no layout would do, but the engine allows."""
    tokens = Tokens(draw(st.integers(0, 999)))
    for _ in range(draw(st.integers(1, 4))):
        twin.block()
    for _ in range(draw(st.integers(1, 14))):
        blocks = twin.blocks()
        call = draw(st.sampled_from(("tick",) * 8 + ("block", "move", "truncate", "fork", "free")))
        some = draw(st.sampled_from(blocks)) if blocks else None
        if some is None or (call == "block" and len(blocks) < 8):
            twin.block()
        elif call == "tick":
            _chaotic_tick(twin, draw, tokens, blocks)
        elif call == "move" and len(blocks) > 1:
            twin.move(some, draw(st.sampled_from([block for block in blocks if block != some])))
        elif call == "truncate":
            twin.truncate(some, draw(st.integers(0, twin.length(some))))
        elif call == "fork" and len(blocks) < 8:
            twin.fork(some)
        elif call == "free":
            twin.free(some)


def _chaotic_tick(twin: Twin, draw: Draw, tokens: Tokens, blocks: Sequence[int]) -> None:
    written = draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=5, unique=True))
    writes = []
    for block in written:
        view = [
            _chaotic_entry(twin, draw, seen, own=seen == block)
            for seen in draw(st.lists(st.sampled_from(blocks), max_size=6))
        ]
        kind = draw(st.sampled_from(("whole", "whole", "open")))
        last = Entry(block) if kind == "whole" else draw_slice(draw, twin, block, kind)
        writes.append(Write(block, [*view, last], tokens(draw(st.integers(1, 4)))))
    twin.tick(*writes)


def _chaotic_entry(twin: Twin, draw: Draw, block: int, own: bool) -> Entry:
    kind = "closed" if own else draw(st.sampled_from(("whole", "whole", "open", "closed")))
    return Entry(block) if kind == "whole" else draw_slice(draw, twin, block, kind)
