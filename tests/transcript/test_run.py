"""A real team's transcript: what its handlers got, and the cache that it had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.engine import CacheBlock
from hogwild_agents.events import Event, TokensWritten
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel, load_model
from hogwild_agents.team import Team
from hogwild_agents.transcript import read_transcript, rebuild
from hogwild_agents.transcript_lines import TickLine
from hogwild_agents.worker import Worker
from tests.transcript.sample import assert_same_cache

PROBLEM = "Tasks: a) 7 + 1 - 3 b) 4 + 9 c) 2 + 2 + 5 d) 8 - 3 + 1"


class Keeper(CacheCoordinator):
    """Keeps the blocks that are given back, to be looked at."""

    kept: tuple[CacheBlock, ...] = ()

    def release(self, *blocks: CacheBlock) -> None:
        self.kept += blocks


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModel]:
    model = load_model()
    yield model
    model.close()


@pytest.mark.anyio
@pytest.mark.parametrize("layout", ["combined", "contiguous"])
async def test_a_run_is_rebuilt(model: LanguageModel, tmp_path: Path, layout: str) -> None:
    path = tmp_path / "run.jsonl"
    told: list[Event] = []
    async with Keeper(model.engine, prefill_chunk=16) as coordinator:
        team = Team(
            model,
            workers=["Alice", Worker("Bob", role="I check the sums.")],
            layout=layout,
            limits=Limits(ticks=24),
            coordinator=coordinator,
        )
        result = await team.solve(PROBLEM, on_event=told.append, transcript=path)
    transcript = read_transcript(path)
    assert list(transcript.events()) == told
    assert transcript.result == result
    assert transcript.header.problem == PROBLEM
    rebuilt = {block.name: block for block in rebuild(transcript, model.engine).values()}
    kept = [block for block in coordinator.kept if block.name in rebuilt]
    assert_same_cache([rebuilt[block.name] for block in kept], kept)
    assert {block.name for block in coordinator.kept if len(block)} <= set(rebuilt)
    assert model.engine.used_tokens == 2 * sum(map(len, coordinator.kept))
    for block in (*coordinator.kept, *rebuilt.values()):
        model.engine.free(block)
    for name in team.names:
        fed = [
            mark
            for line in transcript.lines
            if isinstance(line, TickLine) and line.worker == name
            for feed in line.feeds
            for mark in zip(feed.tokens, feed.sources, strict=True)
        ]
        written = [
            (token, event.source[0])
            for event in told
            if isinstance(event, TokensWritten) and event.worker == name
            for token in event.tokens
        ]
        assert len(fed) > 20
        assert fed == written[: len(fed)]
