"""Runtime: what agents, policies and the coordinator add to the engine's ticks.

A real team thinks over the measured model. The same ticks, in blocks of the same lengths and views
of the same order, are then run bare: what these are shorter by is what the runtime adds, be it that
the forward itself is slower in a team. A clock around each forward tells what lies between them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.bench.contents import fill_block
from hogwild_agents.bench.contestant import Ticks
from hogwild_agents.bench.forwards import Forward, replaced
from hogwild_agents.bench.timing import Timing, timed, turn
from hogwild_agents.engine import (
    BlockSlice,
    CacheBlock,
    Engine,
    Feed,
    Sampler,
    SamplingParams,
    ViewEntry,
    sample,
)
from hogwild_agents.engine.feed import entry_block

SKIPPED = 3
"""Ticks of a run that are not counted: the team is just beginning."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What the runtime adds for one number of workers, in milliseconds per tick by round.

    Attributes:
        workers: how many think.
        team: from one forward's beginning to the next one's, in a team.
        bare: the same ticks without a team: forward and sampling.
        sampling: the sampling alone, by the parameters of the team.
        added: what the team's ticks take more than the bare ones of the same round.
        between: of that, what lies between two forwards, less the sampling.
    """

    workers: int
    team: Timing
    bare: Timing
    sampling: Timing
    added: Timing
    between: Timing


def measure_runtime(
    engine: Engine, workers: int, device: torch.device, *, rounds: int, ticks: int
) -> Runtime:
    """Let a team think for some ticks in each round, and run its ticks bare by turns.

    Raises:
        ImportError: what the runtime needs is not installed.
    """
    model = _language_model(engine)
    params = SamplingParams(temperature=1.0, banned=model.reasoning_bans)
    names = "team", "bare", "sampling", "added", "between"
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        with _Stopwatch.on(engine, workers) as watch:
            _think(model, workers, params, ticks + SKIPPED, seed=number)
        bare, blocks = _mirrored(engine, watch.views, params)
        found["bare"].append(turn(bare, device, ticks))
        sampling = _sampling(engine, workers, params, device, ticks)
        for block in blocks:
            engine.free(block)
        team, between = watch.results()
        found["team"].append(team)
        found["sampling"].append(sampling)
        found["added"].append(team - found["bare"][-1])
        found["between"].append(between - sampling)
    return Runtime(
        workers=workers, **{name: Timing(tuple(values)) for name, values in found.items()}
    )


class _Stopwatch:
    """Times the forwards in which every worker of a team adds one token.

    Attributes:
        views: of the last of them: each view as (block's name, length, the part that is seen).
    """

    def __init__(self, workers: int) -> None:
        self.views: list[_Outline] = []
        self._workers = workers
        self._calls: list[tuple[float, float, bool]] = []

    @classmethod
    @contextmanager
    def on(cls, engine: Engine, workers: int) -> Iterator[_Stopwatch]:
        """Time an engine's forwards while the context lasts."""
        watch = cls(workers)
        with replaced(engine, watch._around):
            yield watch

    def _around(self, forward: Forward) -> Forward:
        def timed_forward(feeds: Sequence[Feed], **options: Any) -> Tensor:
            counts = len(feeds) == self._workers and all(len(feed.tokens) == 1 for feed in feeds)
            outlines = [_outline(feed.view) for feed in feeds] if counts else self.views
            start = time.perf_counter()
            logits = forward(feeds, **options)
            self._calls.append((start, time.perf_counter(), counts))
            self.views = outlines
            return logits

        return timed_forward

    def results(self) -> tuple[float, float]:
        """Return the milliseconds from one forward to the next, and those between them."""
        pairs = [
            (following[0] - start, following[0] - end)
            for (start, end, counts), following in zip(
                self._calls[:-1], self._calls[1:], strict=True
            )
            if counts and following[2]
        ][SKIPPED:]
        whole, between = zip(*pairs, strict=True)
        return median(whole) * 1e3, median(between) * 1e3


_Outline = list[tuple[int, int, int | None, int | None]]
"""A view without its blocks: of each entry the block's identity and length, and the part seen."""


def _outline(view: Sequence[ViewEntry]) -> _Outline:
    found: _Outline = []
    for entry in view:
        block = entry_block(entry)
        part = (entry.start, entry.stop) if isinstance(entry, BlockSlice) else (None, None)
        found.append((id(block), len(block), *part))
    return found


def _mirrored(
    engine: Engine, outlines: Sequence[_Outline], params: SamplingParams
) -> tuple[Ticks, list[CacheBlock]]:
    """Return ticks over new blocks of the same lengths in views of the same order."""
    generator = torch.Generator(engine.device).manual_seed(0)
    blocks: dict[int, CacheBlock] = {}
    for key, length, _, _ in (entry for outline in outlines for entry in outline):
        if key not in blocks:
            blocks[key] = engine.block()
            if length:
                fill_block(engine, blocks[key], length, generator)
    views: list[list[ViewEntry]] = [
        [
            blocks[key] if start is None else BlockSlice(blocks[key], start, stop)
            for key, _, start, stop in outline
        ]
        for outline in outlines
    ]
    return Ticks(engine, views, params), list(blocks.values())


def _sampling(
    engine: Engine, workers: int, params: SamplingParams, device: torch.device, ticks: int
) -> float:
    samplers = [Sampler(params, seed) for seed in range(workers)]
    logits = torch.randn(workers, engine.vocab_size, device=device)
    calls = [
        timed(lambda: sample(logits, samplers, [tuple] * workers), device) for _ in range(ticks + 1)
    ]
    return median(calls[1:])


def _think(model: Any, workers: int, params: SamplingParams, ticks: int, seed: int) -> None:
    import anyio

    from hogwild_agents import Limits, Prompt, Team
    from hogwild_agents.policies import paper_policies

    team = Team(
        model,
        workers=[f"Worker{number}" for number in range(1, workers + 1)],
        policies=paper_policies(),
        prompt=Prompt("bench", "what the benchmark's teams are told", "You think together."),
        limits=Limits(ticks=ticks),
        sampling=params,
        seed=seed,
    )
    anyio.run(team.solve, "Think.")


def _language_model(engine: Engine) -> Any:
    from hogwild_agents import LanguageModel
    from hogwild_agents.bench.words import word_tokenizer

    return LanguageModel(name="bench", engine=engine, tokenizer=word_tokenizer(engine.vocab_size))
