"""Prefill: what a chunk of a prompt takes, and how long it delays those who think meanwhile.

Some seats of a coordinator write a token a tick, when another one hands in a prompt of several
chunks. A clock stands around each forward. The chunks are then run alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.bench.contents import Contents
from hogwild_agents.bench.forwards import Forward, replaced
from hogwild_agents.bench.timing import Timing, synchronize, timed
from hogwild_agents.engine import CacheBlock, Engine, Feed

CHUNK = 512
"""Tokens of the prompt in one tick, as many as a coordinator takes if nothing is said."""
CHUNKS = 2
"""How many of them the prompt has."""
BEFORE = 4
"""Ticks of those who think before the prompt comes; the first one is not counted."""


@dataclass(frozen=True, kw_only=True)
class Prefill:
    """A prompt that is read while others think, in milliseconds by round.

    Attributes:
        workers: how many think.
        chunk: tokens of the prompt in one tick.
        tick: a tick of those who think, without the prompt.
        alone: the slowest chunk, when nobody thinks.
        together: the slowest tick in which they think and a chunk is read.
    """

    workers: int
    chunk: int
    tick: Timing
    alone: Timing
    together: Timing

    @property
    def over(self) -> float:
        """How many times longer a tick with a chunk takes than both one after the other."""
        rounds = zip(self.together.values, self.tick.values, self.alone.values, strict=True)
        return median(together / (tick + alone) for together, tick, alone in rounds)


def measure_prefill(
    engine: Engine, contents: Contents, device: torch.device, *, rounds: int, chunk: int = CHUNK
) -> Prefill:
    """Let those who think in some contents be joined by a prompt, in each round.

    Raises:
        ImportError: what the runtime needs is not installed.
    """
    import anyio

    prompt = [number % engine.vocab_size for number in range(CHUNKS * chunk)]
    lengths = [len(block) for block in contents.own]
    found: dict[str, list[float]] = {name: [] for name in ("tick", "alone", "together")}
    for _ in range(rounds):
        with _clocked(engine, device) as calls:
            anyio.run(_think_and_read, engine, contents, prompt, chunk)
        workers = len(contents.own)
        found["tick"].append(median([spent for size, spent in calls if size == workers][1:]))
        found["together"].append(max(spent for size, spent in calls if size > workers))
        found["alone"].append(_read_alone(engine, device, prompt, chunk))
        for block, length in zip(contents.own, lengths, strict=True):
            engine.truncate(block, length)
    timings = {name: Timing(tuple(values)) for name, values in found.items()}
    return Prefill(workers=len(contents.own), chunk=chunk, **timings)


@contextmanager
def _clocked(engine: Engine, device: torch.device) -> Iterator[list[tuple[int, float]]]:
    """Give a list that grows by the tokens and the milliseconds of each forward."""
    calls: list[tuple[int, float]] = []

    def around(forward: Forward) -> Forward:
        def timed_forward(feeds: Sequence[Feed], **options: Any) -> Tensor:
            start = time.perf_counter()
            logits = forward(feeds, **options)
            synchronize(device)
            size = sum(len(feed.tokens) for feed in feeds)
            calls.append((size, (time.perf_counter() - start) * 1e3))
            return logits

        return timed_forward

    with replaced(engine, around):
        yield calls


async def _think_and_read(
    engine: Engine, contents: Contents, prompt: Sequence[int], chunk: int
) -> None:
    """Let a seat for each worker write tokens until another one has read the prompt."""
    import anyio

    from hogwild_agents import CacheCoordinator, TickFeed

    begun, ended = anyio.Event(), anyio.Event()
    async with CacheCoordinator(engine, prefill_chunk=chunk) as coordinator:

        async def think(number: int, view: Sequence[CacheBlock]) -> None:
            with coordinator.join(f"Worker{number + 1}") as seat:
                written = 0
                while not ended.is_set():
                    await seat.submit(TickFeed(block=view[-1], view=view, tokens=[number]))
                    written += 1
                    if written == BEFORE:
                        begun.set()

        async def read() -> None:
            block = engine.block("prompt")
            with coordinator.join("Reader") as seat:
                with seat.parked():
                    await begun.wait()
                await seat.submit(TickFeed(block=block, view=[block], tokens=list(prompt)))
            coordinator.release(block)
            ended.set()

        async with anyio.create_task_group() as group:
            for number, view in enumerate(contents.views):
                group.start_soon(think, number, view)
            group.start_soon(read)


def _read_alone(engine: Engine, device: torch.device, prompt: Sequence[int], chunk: int) -> float:
    """Return the milliseconds of the slowest chunk of the prompt by itself."""
    block = engine.block("prompt")
    chunks = [prompt[first : first + chunk] for first in range(0, len(prompt), chunk)]
    feeds = [Feed(block, [block], tokens) for tokens in chunks]
    try:
        return max(timed(partial(engine.forward, [feed]), device) for feed in feeds)
    finally:
        engine.free(block)
