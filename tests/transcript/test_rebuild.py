"""rebuild: the tokens of a transcript, fed through an engine, give the cache that the run had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
import torch
from hypothesis import given, settings, strategies as st

from hogwild_agents.coordinator import CacheCoordinator, Commit, Move, TickFeed
from hogwild_agents.engine import CacheBlock, Engine, Feed, ViewEntry
from hogwild_agents.errors import CacheFullError, ContextLengthError, TranscriptError
from hogwild_agents.transcript import TranscriptWriter, read_transcript, rebuild
from tests.transcript.sample import (
    assert_same_cache,
    entries,
    make_engine,
    make_header,
    sources,
    write_sample,
)

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """Two engines of equal models: one for the run, one to rebuild its cache in."""
    with make_engine() as one, make_engine() as other:
        yield one, other


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new path each time."""
    folder = tmp_path_factory.mktemp("runs")
    return (folder / f"{number}.jsonl" for number in range(10_000))


class Drawn:
    """A team whose views make no sense, written down by its own transcript.

    Its workers feed by turns and together, several blocks at once, with slices and blocks that
    stand several times in a view; blocks are moved after some ticks.
    """

    def __init__(self, engine: Engine, draw: Draw, writer: TranscriptWriter, label: str) -> None:
        self.draw, self.writer, self.label = draw, writer, label
        writer.header(make_header())
        self.blocks = [engine.block(f"{label}{number}") for number in range(draw(sizes(2, 5)))]
        self.workers = draw(sizes(1, 3))
        self.token = cycle(range(draw(sizes(0, 40)), 97))

    def commits(self, tick: int) -> list[Commit]:
        """One tick: for each worker that takes part, what it feeds and moves."""
        free = self.draw(st.permutations(self.blocks))
        found = []
        for worker in range(self.workers):
            count = min(self.draw(sizes(0, 2)), len(free))
            feeds = tuple(self.feed(free.pop()) for _ in range(count))
            moves = self.draw(st.lists(st.permutations(self.blocks), max_size=2)) if feeds else []
            pairs = tuple(Move(source=order[0], target=order[1]) for order in moves)
            if feeds:
                found.append(
                    Commit(tick=tick, seat=f"{self.label}{worker}", feeds=feeds, moves=pairs)
                )
        return found

    def feed(self, block: CacheBlock) -> Feed:
        others = [other for other in self.blocks if other is not block]
        drawn = self.draw(st.lists(st.sampled_from(others), max_size=4))
        view: list[ViewEntry] = [self.part(other) for other in drawn]
        if self.draw(st.booleans()):
            view.insert(0, block[: self.draw(sizes(0, len(block)))])
        start = self.draw(sizes(0, len(block)))
        view.append(block[start:] if self.draw(st.booleans()) else block)
        return Feed(block, tuple(view), list(islice(self.token, self.draw(sizes(1, 4)))))

    def part(self, block: CacheBlock) -> ViewEntry:
        start = self.draw(sizes(0, len(block)))
        stop = self.draw(sizes(start, len(block)))
        parts: list[ViewEntry] = [block, block, block[start:], block[start:stop]]
        return parts[self.draw(sizes(0, 3))]


def sizes(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def free(engine: Engine, blocks: Iterable[CacheBlock]) -> None:
    """Give back what one example took."""
    for block in blocks:
        engine.free(block)


def run_tick(engine: Engine, commits: Sequence[Commit]) -> None:
    """What the coordinator does with one tick."""
    engine.forward([feed for commit in commits for feed in commit.feeds])
    for move in (move for commit in commits for move in commit.moves):
        engine.move(move.source, move.target)


@settings(max_examples=15)
@given(data=st.data())
def test_random_schedules_are_rebuilt(
    engines: tuple[Engine, Engine], paths: Iterator[Path], data: st.DataObject
) -> None:
    check_two_teams(engines, paths, data.draw)


@pytest.mark.sweep
@settings(max_examples=500)
@given(data=st.data())
def test_many_random_schedules_are_rebuilt(
    engines: tuple[Engine, Engine], paths: Iterator[Path], data: st.DataObject
) -> None:
    check_two_teams(engines, paths, data.draw)


def check_two_teams(engines: tuple[Engine, Engine], paths: Iterator[Path], draw: Draw) -> None:
    """Two teams share their ticks, and each transcript rebuilds its own team's cache."""
    engine, other = engines
    files = {label: next(paths) for label in "AB"}
    with ExitStack() as stack:
        runs = [
            Drawn(engine, draw, stack.enter_context(TranscriptWriter(path)), label)
            for label, path in files.items()
        ]
        for run in runs:
            stack.callback(free, engine, run.blocks)
        tick = 0
        for _ in range(draw(sizes(1, 6))):
            parts = [run.commits(tick + 1) for run in runs]
            if any(parts):
                tick += 1
                run_tick(engine, [commit for part in parts for commit in part])
            for run, part in zip(runs, parts, strict=True):
                for commit in part:
                    run.writer.commit(commit.seat, commit, sources(commit))
        for run in runs:
            rebuilt = rebuild(read_transcript(files[run.label], allow_partial=True), other)
            stack.callback(free, other, rebuilt.values())
            by_name = {block.name: block for block in rebuilt.values()}
            named = [block for block in run.blocks if block.name in by_name]
            assert_same_cache([by_name[block.name] for block in named], named)
            assert not any(len(block) for block in run.blocks if block not in named)
    other.check_integrity()


@pytest.mark.anyio
async def test_teams_of_one_coordinator_are_rebuilt_each_alone(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """Long prompts in chunks, steps that end in the same tick, a seat that only moves."""
    engine, other = engines
    teams = {}
    async with (
        CacheCoordinator(engine, prefill_chunk=5) as coordinator,
        anyio.create_task_group() as group,
    ):
        for label, prompt_tokens in (("A", 7), ("B", 18)):
            blocks = [engine.block(f"{label} {name}") for name in ("prompt", "x", "y", "past")]
            writer = TranscriptWriter(tmp_path / f"{label}.jsonl")
            writer.header(make_header())
            teams[label] = (blocks, writer)
            group.start_soon(_think, coordinator, blocks, writer, prompt_tokens)
    for label, (blocks, writer) in teams.items():
        writer.close()
        transcript = read_transcript(tmp_path / f"{label}.jsonl", allow_partial=True)
        rebuilt = rebuild(transcript, other)
        assert {block.name for block in rebuilt.values()} == {block.name for block in blocks}
        by_name = {block.name: block for block in rebuilt.values()}
        assert_same_cache([by_name[block.name] for block in blocks], blocks)
        assert len(blocks[3]) > 0
        free(other, rebuilt.values())
        free(engine, blocks)


async def _think(
    coordinator: CacheCoordinator,
    blocks: Sequence[CacheBlock],
    writer: TranscriptWriter,
    prompt_tokens: int,
) -> None:
    """Two workers: a prompt, four ticks of two feeds each, and their steps move."""
    prompt, x, y, past = blocks

    def record(commit: Commit) -> None:
        writer.commit(commit.seat, commit, sources(commit))

    with coordinator.join("", on_commit=record) as seat:
        ids = range(prompt_tokens)
        await seat.submit(TickFeed(block=prompt, tokens=ids, view=[prompt]))

    async def work(own: CacheBlock, peer: CacheBlock) -> None:
        with coordinator.join(own.name, on_commit=record) as seat:
            for number in range(1, 5):
                feed = TickFeed(
                    block=own,
                    tokens=[number, number + 30],
                    view=lambda: [prompt, past[1 if len(past) else 0 :], peer, prompt[:2], own],
                )
                await seat.submit(feed, then=[Move(source=own, target=past)] * (number == 2))
            await seat.submit(then=[Move(source=own, target=past)] * (own is y))

    async with anyio.create_task_group() as group:
        group.start_soon(work, x, y)
        group.start_soon(work, y, x)


def test_lines_of_one_tick_are_one_forward(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    """Fed one after the other, the first worker would not see what the second one wrote."""
    engine, other = engines
    x, y = engine.block("x"), engine.block("y")
    feeds = [Feed(x, [y, x], [1, 2]), Feed(y, [x, y], [3])]
    engine.forward(feeds)
    for ticks, same in (((1, 1), True), ((1, 2), False)):
        with TranscriptWriter(tmp_path / "t.jsonl") as writer:
            writer.header(make_header())
            for tick, feed in zip(ticks, feeds, strict=True):
                commit = Commit(tick=tick, seat=feed.block.name, feeds=(feed,), moves=())
                writer.commit(commit.seat, commit, sources(commit))
        rebuilt = rebuild(read_transcript(tmp_path / "t.jsonl", allow_partial=True), other)
        by_name = {block.name: block for block in rebuilt.values()}
        assert torch.allclose(entries(by_name["x"])[1], entries(x)[1], atol=1e-5) is same


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    write_sample(tmp_path / "t.jsonl")
    transcript = read_transcript(tmp_path / "t.jsonl")
    with make_engine(vocab_size=96) as engine:
        with pytest.raises(TranscriptError, match=r"97 token ids, 'tiny', but .* has 96: rebuild"):
            rebuild(transcript, engine)
        assert engine.used_tokens == 0


def test_what_fails_leaves_the_engine_as_it_was(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    write_sample(tmp_path / "t.jsonl")
    whole = (tmp_path / "t.jsonl").read_text()
    transcript = read_transcript(tmp_path / "t.jsonl")
    with make_engine(max_tokens=4) as engine:
        with pytest.raises(CacheFullError):
            rebuild(transcript, engine)
        assert engine.used_tokens == 0
    engine = engines[1]
    used = engine.used_tokens
    for old, new in (
        ('"view":[0,2,0,1]', '"view":[0,[0,1,9],1]'),
        ('"view":[0,2,0,1]', '"view":[1,2,0,1]'),
        ('"view":[0,2,0,1]', '"view":[0,2,0,[1,0,0]]'),
        ('"tokens":[5,6]', '"tokens":[5,97]'),
        ('"moves":[[1,2]]', '"moves":[[1,1]]'),
        ('"tick":2,"worker":"Alice","feeds":[', '"tick":2,"worker":"Alice","feeds":[{"block":1,'
         '"view":[1],"tokens":[1],"sources":"f"},'),
    ):  # fmt: skip
        assert old in whole
        (tmp_path / "t.jsonl").write_text(whole.replace(old, new))
        with pytest.raises(TranscriptError, match=r"Tick 2 of the transcript cannot be fed \("):
            rebuild(read_transcript(tmp_path / "t.jsonl"), engine)
        assert engine.used_tokens == used
        engine.check_integrity()
    (tmp_path / "t.jsonl").write_text(whole.replace("[0,2,0,1]", f"[{'0,' * 400}1]"))
    with pytest.raises(ContextLengthError):
        rebuild(read_transcript(tmp_path / "t.jsonl"), engine)
    assert engine.used_tokens == used
