"""A header, a small whole transcript, a tiny engine, and a look into its cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hogwild_agents.actions import (
    Ban,
    Bias,
    ChangeSampling,
    Conclude,
    Dismiss,
    EndStep,
    Finish,
    Forget,
    Hide,
    Park,
    Probe,
    Resume,
    Say,
    Show,
)
from hogwild_agents.coordinator import Commit, Forked, Move
from hogwild_agents.engine import CacheBlock, Engine, Feed, SamplingParams
from hogwild_agents.engine.pool import pieces
from hogwild_agents.events import (
    ActionTaken,
    Event,
    LimitReached,
    PolicyFailed,
    ProbeAnswered,
    RunEnded,
    RunStarted,
    Source,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.limits import Limits
from hogwild_agents.result import RunResult, Step
from hogwild_agents.transcript import TranscriptHeader, TranscriptWriter
from hogwild_agents.worker import Worker
from tests.engine.families import SUPPORTED

RESULT = RunResult(
    answer="7, 12",
    author="Bøb",
    reason="answer",
    texts={"Alice": "**Alice [1]:** a) 7.\n\n", "Bøb": "\\boxed{7, 12}\u2028"},
    steps=(Step(worker="Alice", number=1, text="**Alice [1]:** a) 7.\n\n", tick=2),),
    ticks=3,
    tokens=4,
    seconds=0.25,
    failures={"Carol": "ValueError: no"},
)
OLD_EVENTS: tuple[Event, ...] = (
    RunStarted(problem="Tasks: a)", workers=("Alice", "Bøb"), layout="combined", prompt_tokens=3),
    TokensWritten(
        worker="Alice", step=1, tick=1, tokens=(5,), text="é\n", source="sampled", logprobs=(-0.5,)
    ),
    TokensWritten(worker="Bøb", step=1, tick=1, tokens=(6, 7), text="", source="forced"),
    StepEnded(worker="Alice", step=1, tick=2, text="a) 7.\n\n", tokens_written=9),
    TickEnded(tick=2, seconds=0.125, tokens=4),
    LimitReached(limit="ticks", tick=3),
    ActionTaken(policy="Check", action=Say(worker="Alice", text="Quick check: "), tick=3),
    ActionTaken(policy="Finisher", action=Conclude(text="\\boxed{"), tick=3),
    ActionTaken(policy="Stop", action=Finish(answer="7", author="Alice"), tick=3),
    PolicyFailed(policy="Watcher", error="KeyError: 'x'", tick=3),
    WorkerLeft(worker="Carol", tick=3, error="ValueError: no"),
    WorkerLeft(worker="Alice", tick=3),
    RunEnded(result=RESULT),
)

"""Those of version 1."""
NEW_EVENTS: tuple[Event, ...] = (
    StepEnded(
        worker="Alice",
        step=2,
        tick=3,
        text="**A [2]:** b.\n\n",
        tokens_written=9,
        prefix="**A [2]:** ",
    ),
    WorkerJoined(worker="Carol", tick=3, forked_from="Alice"),
    ProbeAnswered(
        worker="Alice", question="Sure? ", probabilities={"yes": 0.75, "no": 0.25}, mass=0.5, tick=3
    ),
    *(
        ActionTaken(policy="Any", action=action, tick=3)
        for action in (
            EndStep(worker="Alice"),
            Ban(worker="Alice", texts=("#",), token_ids=(3,), for_tokens=4),
            Bias(worker="Alice", bias={3: -1.0, "é": 2.5}),
            ChangeSampling(worker="Alice", temperature=0.5, top_k=3, for_tokens=9),
            Park(worker="Alice"),
            Resume(worker="Alice"),
            Dismiss(worker="Alice"),
            Hide(author="Alice", viewers=("Bøb",)),
            Show(author="Alice"),
            Forget(worker="Alice", step=1, viewers=("Bøb",)),
            Probe(worker="Alice", question="Sure? ", answers=("yes", "no")),
        )
    ),
)
EVENTS: tuple[Event, ...] = (*OLD_EVENTS[:-1], *NEW_EVENTS, OLD_EVENTS[-1])


def make_header(*, vocab_size: int = 97, problem: str = "Tasks: a) 3 + 4") -> TranscriptHeader:
    """A header as a team writes it."""
    return TranscriptHeader.of_run(
        model="tiny",
        vocab_size=vocab_size,
        problem=problem,
        workers=[Worker("Alice"), Worker("Bøb", role="I check.", seed=3)],
        layout="combined",
        seed=7,
        limits=Limits(ticks=64),
        sampling=SamplingParams(temperature=0.5, banned=frozenset({9, 4}), bias={3: -1.5}),
    )


def write_sample(path: Path) -> None:
    """Write a whole transcript with every kind of line, of blocks that no engine has run."""
    prompt, alice, history = CacheBlock("prompt"), CacheBlock("Alice [1]"), CacheBlock("history")
    carol = CacheBlock("Carol [1]")
    with TranscriptWriter(path) as writer:
        writer.header(make_header())
        first = Commit(tick=1, seat="", feeds=(Feed(prompt, [prompt], [1, 2, 3]),), moves=())
        writer.commit("", first, [["forced"] * 3])
        second = Commit(
            tick=2,
            seat="Alice",
            feeds=(Feed(alice, [prompt, history, prompt, alice], [5, 6]),),
            moves=(Move(source=alice, target=history),),
            forks=(Forked(source=alice, target=carol, length=1, after=0),),
        )
        writer.commit("Alice", second, [["forced", "sampled"]])
        for event in EVENTS:
            writer.event(event)


def make_engine(*, max_tokens: int | None = None, vocab_size: int = 97) -> Engine:
    """An engine of a tiny Qwen3; engines with one vocabulary have the same weights."""
    model = SUPPORTED["qwen3"].build(vocab_size=vocab_size)
    return Engine(model, max_tokens=max_tokens, verify=False)


def entries(block: CacheBlock) -> tuple[Tensor, Tensor]:
    """The keys and the values of a block, [layers, kv_heads, tokens, dim] each."""
    found = pieces(block._runs, 0, len(block))
    if not found:
        return torch.empty(0), torch.empty(0)
    layers = range(len(found[0][0].keys))
    keys = [torch.cat([slab.keys[i][:, a:b] for slab, a, b in found], 1) for i in layers]
    values = [torch.cat([slab.values[i][:, a:b] for slab, a, b in found], 1) for i in layers]
    return torch.stack(keys), torch.stack(values)


def assert_same_cache(found: Sequence[CacheBlock], expected: Sequence[CacheBlock]) -> None:
    """Check that blocks hold the same tokens, and the same keys and values up to rounding."""
    assert [block.name for block in found] == [block.name for block in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens
        for tensor, wanted in zip(entries(one), entries(other), strict=True):
            torch.testing.assert_close(tensor, wanted, atol=1e-5, rtol=1e-5)


def sources(commit: Commit, every: int = 2) -> list[list[Source]]:
    """Sources for a commit, every so many of them sampled."""
    return [
        ["sampled" if token % every == 0 else "forced" for token in feed.tokens]
        for feed in commit.feeds
    ]
