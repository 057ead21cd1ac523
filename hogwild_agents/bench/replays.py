"""Replays: ticks of an engine that records its forwards, against ticks of one that does not.

Its layers may be compiled, too; those of the other one never are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.bench.contents import fill_cache
from hogwild_agents.bench.timing import timed
from hogwild_agents.engine import Engine, Feed
from hogwild_agents.engine.graphs import SETTLED

OWN = 20
"""Tokens of each worker's own block at the beginning."""


@dataclass(frozen=True)
class Replays:
    """What the same ticks gave both ways.

    Attributes:
        ticks: how many there were.
        replayed: how many of them were replayed.
        error: the largest difference of a logit, as a share of the largest logit.
        ms: of a tick that was replayed, the median; None if none was.
        plain_ms: of a plain one.
    """

    ticks: int
    replayed: int
    error: float
    ms: float | None
    plain_ms: float


def measure_replays(
    model: Any,
    device: torch.device,
    *,
    workers: int = 4,
    shared: int = 300,
    ticks: int = 60,
    compile_layers: bool = False,
) -> Replays:
    """Let workers write the same tokens with and without recordings, and compare.

    Args:
        model: a model that no engine has.
        device: where it lies.
        workers: how many write.
        shared: tokens of the block that all see, of random keys and values.
        ticks: how many tokens each writes; contexts grow, so that tables are laid out anew.
        compile_layers: whether the engine that records has compiled the layers, too.
    """
    write = partial(_write, model, device, workers, shared, ticks)
    logits, times, replayed = write(compile_layers=compile_layers)
    expected, plain, _ = write(graphs=False)
    error = max(
        float((one - other).abs().max() / other.abs().max())
        for one, other in zip(logits, expected, strict=True)
    )
    quick = [spent for spent, was in zip(times, replayed, strict=True) if was]
    return Replays(
        ticks=ticks,
        replayed=len(quick),
        error=error,
        ms=median(quick) if quick else None,
        plain_ms=median(plain[SETTLED:] or plain),
    )


def _write(
    model: Any, device: torch.device, workers: int, shared: int, ticks: int, **options: Any
) -> tuple[list[Tensor], list[float], list[bool]]:
    """Return the logits of each tick on the host, its milliseconds, and whether it was replayed."""
    logits: list[Tensor] = []
    times: list[float] = []
    replayed: list[bool] = []
    with Engine(model, **options) as engine:
        views = fill_cache(engine, workers, shared, OWN).views

        def tick(number: int) -> None:
            found = engine.forward(
                [
                    Feed(view[-1], view, ((31 * number + 7 * place) % engine.vocab_size,))
                    for place, view in enumerate(views)
                ]
            )
            logits.append(found.cpu())

        for number in range(ticks):
            times.append(timed(partial(tick, number), device))
            replayed.append(engine.replayed is not None)
    return logits, times, replayed
