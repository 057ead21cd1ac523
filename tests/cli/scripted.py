"""A run without a model: the events that a team would give, from what its workers shall write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from hogwild_agents.events import (
    Event,
    RunStarted,
    Source,
    StepEnded,
    TickEnded,
    TokensWritten,
)
from hogwild_agents.result import RunResult

Piece = tuple[str, Source]

SUMS = {
    "Alice": [
        "a) 7 + 1 = 8 - 3 = 5 + 2 = 7.",
        "b) 4 + 9 = 13 - 6 = 7.",
        "d) 12 - 4 = 8 + 9 = 17.",
        "... ... ... \\boxed{7, 7, 5, 17, 12, 21}",
    ],
    "Bob": [
        "f) 15 + 6 = 21 - 2 = 19 + 2 = 21.",
        "e) 9 + 3 = 12.",
        "d) taken.",
        "... ... ... ... ... ... ... ... ... ... ...",
    ],
    "Carol": [
        "b) taken.",
        "c) 2 + 9 = 11 - 8 = 3 + 2 = 5.",
        "... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ...",
    ],
}
PROBLEM = "Tasks: a) 7 + 1 - 3 + 2 b) 4 + 9 - 6 c) 2 + 9 - 8 + 2 d) 12 - 4 + 9 e) 9 + 3 f) 15 + 6"


def script(
    steps: Mapping[str, Sequence[str]] = SUMS,
    *,
    problem: str = PROBLEM,
    layout: str = "combined",
    tick_seconds: float = 0.05,
) -> Iterator[Event]:
    """Yield the events of a run; ``⟨...⟩`` round a part of a step marks it as forced."""
    yield RunStarted(problem=problem, workers=tuple(steps), layout=layout, prompt_tokens=40)
    writers = {name: _write(name, texts) for name, texts in steps.items()}
    tick = tokens = 0
    while writers:
        for name, writer in list(writers.items()):
            written = next(writer, None)
            if written is None:
                del writers[name]
                continue
            for event in written(tick):
                tokens += isinstance(event, TokensWritten) and event.source == "sampled"
                yield event
        tick += 1
        yield TickEnded(tick=tick, seconds=tick * tick_seconds, tokens=tokens)


class _Moment:
    """What a worker does in one tick."""

    def __init__(self, name: str, step: int, piece: Piece | None, ended: str | None) -> None:
        self.name, self.step, self.piece, self.ended = name, step, piece, ended

    def __call__(self, tick: int) -> Iterator[Event]:
        if self.piece is not None:
            text, source = self.piece
            yield TokensWritten(
                worker=self.name, step=self.step, tick=tick, tokens=(1,), text=text, source=source
            )
        if self.ended is not None:
            yield StepEnded(
                worker=self.name, step=self.step, tick=tick, text=self.ended, tokens_written=tick
            )


def _write(name: str, texts: Sequence[str]) -> Iterator[_Moment]:
    for number, text in enumerate(texts, 1):
        prefix = f"**{name} [{number}]:** "
        yield _Moment(name, number, (prefix, "forced"), None)
        for piece in _pieces(text):
            yield _Moment(name, number, piece, None)
        if number < len(texts):
            yield _Moment(name, number, ("\n\n", "sampled"), prefix + text + "\n\n")


def _pieces(text: str) -> Iterator[Piece]:
    for part in re.split(r"(⟨.*?⟩)", text):
        if part.startswith("⟨"):
            yield part[1:-1], "forced"
        else:
            yield from ((token, "sampled") for token in re.findall(r"\s*\S+", part))


def result_of(
    *,
    answer: str | None = "7, 7, 5, 17, 12, 21",
    author: str | None = "Alice",
    reason: str = "answer",
    ticks: int = 47,
    tokens: int = 133,
    seconds: float = 2.35,
) -> RunResult:
    """Return a result, to end a scripted run with."""
    return RunResult(
        answer=answer,
        author=author,
        reason=reason,
        texts={},
        steps=(),
        ticks=ticks,
        tokens=tokens,
        seconds=seconds,
    )
