"""What the coordinator's tests are made of: tiny real models, and a worker in five lines."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from typing import Any, Literal

import anyio
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from hogwild_agents.coordinator import (
    Commit,
    Fork,
    Forked,
    Move,
    Seat,
    TickFeed,
    TickResult,
    View,
)
from hogwild_agents.engine import CacheBlock, Engine, Feed, Sampler, SamplingParams, Trial

VOCAB = 61
CONTEXT = 512
GREEDY = SamplingParams(temperature=0.0)
WARM = SamplingParams(temperature=1.5)


@cache
def tiny_model(family: str = "qwen3", twin: int = 0) -> Any:
    """A random fp32 model; equal families have equal weights, a twin is another object."""
    kind, config = {
        "qwen3": (Qwen3ForCausalLM, Qwen3Config),
        "llama": (LlamaForCausalLM, LlamaConfig),
    }[family]
    torch.manual_seed(7)
    model: Any = kind(
        config(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=CONTEXT,
            initializer_range=0.6,
        )
    )
    return model.eval()


class WatchedEngine(Engine):
    """A real engine that notes who fed what, and whose forward can be held up or made to fail.

    Attributes:
        ticks: the names of the blocks fed, tick by tick, failed ones left out.
        sizes: how many tokens each of them was fed.
        gate: closed, the forward blocks its thread until it is opened.
        trial_gate: the same of forwards on trial.
        failure: raised by the next forward, once.
        entered: how many forwards have begun, those on trial left out that were not kept.
        fails_at: which of them fails for want of memory.
        tried: how many have begun on trial.
        tries_fail: whether those fail.
    """

    def __init__(self, model: Any, *, max_tokens: int | None = None) -> None:
        super().__init__(model, max_tokens=max_tokens, verify=False)
        self.ticks: list[list[str]] = []
        self.sizes: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.trial_gate = threading.Event()
        self.trial_gate.set()
        self.entered = 0
        self.fails_at: int | None = None
        self.tried = 0
        self.tries_fail = False
        self.failure: Exception | None = None
        self.busy = threading.Lock()

    def forward(self, feeds: Sequence[Feed], *, logits: Literal["last", "all"] = "last") -> Tensor:
        with self._at_work():
            self.entered += 1
            assert self.gate.wait(5), "nobody opened the gate"
            if self.entered == self.fails_at:
                raise MemoryError("no memory left")
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            result = super().forward(feeds, logits=logits)
        self._note(feeds)
        return result

    def _run_trial(self, trial: Trial) -> None:
        with self._at_work():
            self.tried += 1
            assert self.trial_gate.wait(5), "nobody opened the gate"
            super()._run_trial(trial)
            if self.tries_fail:
                trial.withdraw()
                raise MemoryError("no memory left")

    def _keep_trial(self, trial: Trial) -> Tensor | None:
        result = super()._keep_trial(trial)
        if result is not None:
            self.entered += 1
            self._note(trial.feeds)
        return result

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        assert threading.current_thread() is not threading.main_thread(), "blocks the event loop"
        assert self.busy.acquire(blocking=False), "two forwards at once"
        try:
            yield
        finally:
            self.busy.release()

    def _note(self, feeds: Sequence[Feed]) -> None:
        self.ticks.append([feed.block.name for feed in feeds])
        self.sizes.append([len(feed.tokens) for feed in feeds])

    def free(self, block: CacheBlock) -> None:
        assert not self.busy.locked(), "a block is freed while a forward runs"
        super().free(block)


@contextmanager
def engine_for(family: str = "qwen3", twin: int = 0, **options: Any) -> Iterator[WatchedEngine]:
    """A watched engine on a tiny model; its book-keeping is checked at the end."""
    with WatchedEngine(tiny_model(family, twin), **options) as engine:
        yield engine
        engine.check_integrity()


def feed(
    block: CacheBlock,
    *tokens: int,
    view: View | None = None,
    sampler: Sampler | None = None,
    scored: Sequence[int] = (),
    breaks: Callable[[int], bool] | None = None,
) -> TickFeed:
    """A feed to a block that sees only itself, unless a view is given."""
    return TickFeed(
        block=block,
        tokens=tokens,
        view=[block] if view is None else view,
        sampler=sampler,
        scored=scored,
        breaks=breaks,
    )


def greedy() -> Sampler:
    return Sampler(GREEDY)


async def think(
    seat: Seat,
    block: CacheBlock,
    count: int,
    *,
    start: Sequence[int] = (3,),
    view: View | None = None,
    sampler: Sampler | None = None,
    on_token: Callable[[int], None] = lambda token: None,
) -> list[int]:
    """Write ``start``, then ``count - 1`` sampled tokens, one a tick, and leave.

    Returns everything that was sampled.
    """
    sampler = sampler or greedy()
    tokens: list[int] = []
    pending: Sequence[int] = start
    with seat:
        for _ in range(count):
            result = await seat.submit(feed(block, *pending, view=view, sampler=sampler))
            token = token_of(result)
            tokens.append(token)
            on_token(token)
            pending = [token]
    return tokens


async def once(seat: Seat, *feeds: TickFeed, then: Sequence[Move | Fork] = ()) -> TickResult:
    """Submit once and leave."""
    with seat:
        return await seat.submit(*feeds, then=then)


def token_of(result: TickResult) -> int:
    """The token sampled for the request's last feed."""
    found = result.sampled[-1]
    assert found is not None
    return found.token


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or task brings about."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - threads are watched too
            await anyio.sleep(0.001)


class Ledger:
    """Rebuilds the blocks from the commits alone, as a transcript would."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def __call__(self, commit: Commit) -> None:
        self.commits.append(commit)

    def text(self, block: CacheBlock) -> tuple[int, ...]:
        """What the commits say the block holds."""
        texts: defaultdict[int, list[int]] = defaultdict(list)
        for _, tick in groupby(self.commits, key=lambda commit: commit.tick):
            parts = list(tick)
            for written in (feed for part in parts for feed in part.feeds):
                texts[id(written.block)] += written.tokens
            for op in (op for part in parts for op in part.ops):
                if isinstance(op, Forked):
                    texts[id(op.target)] = list(texts[id(op.source)])
                    assert len(texts[id(op.target)]) == op.length
                else:
                    texts[id(op.target)] += texts.pop(id(op.source), [])
        return tuple(texts[id(block)])


def keys_of(engine: Engine, block: CacheBlock) -> Tensor:
    """All keys and values of a block, of all layers in one row."""
    parts = []
    for run in block._runs:
        for layer in range(len(run.slab.keys)):
            parts.append(run.slab.keys[layer][:, run.start : run.stop].flatten())
            parts.append(run.slab.values[layer][:, run.start : run.stop].flatten())
    return torch.cat(parts)


def run_async(backend: str, main: Callable[[], Any], *, seconds: float = 20) -> Any:
    """Run an async function to its end on one event loop, never for ever."""

    async def guarded() -> Any:
        with anyio.fail_after(seconds):
            return await main()

    return anyio.run(guarded, backend=backend)
