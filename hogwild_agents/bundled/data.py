"""Endless batches of oracle traces, from easy to the widest variety; reproducible by seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from hogwild_agents.bundled.rows import HEADERS, Batch, Row, collate, make_row
from hogwild_agents.bundled.task import DEFAULT, WIDEST, Distribution, held_out_problems
from hogwild_agents.bundled.traces import Layout, Scenario, draw_names, draw_scenario, run_oracle

_TEAM_SIZES = (1, 2, 3, 4, 5)
_TEAM_WEIGHTS = (14, 24, 24, 32, 6)
_POOL = 48
_ROUND = 16
_EASY = 0.3  # the share of the training in which problems grow


def draw_distribution(rng: random.Random, progress: float) -> Distribution:
    """Small problems first; then mostly those of the default size, and all others.

    Some have sums of one length, so that workers come to the end in the same tick.
    """
    if progress < _EASY:
        grown = progress / _EASY
        return Distribution(
            tasks=(2, 3 + round(9 * grown * rng.random())),
            terms=(2, 3 + round(4 * grown * rng.random())),
        )
    kind = rng.random()
    if kind < 0.5:
        return DEFAULT
    if kind < 0.65:
        length = rng.randint(2, 6)
        return Distribution(tasks=WIDEST.tasks, terms=(length, length))
    return WIDEST


def batches(
    seed: int, pool: int, tokens: int, progress: Callable[[], float]
) -> Iterator[tuple[Batch, int]]:
    """Batches of about ``tokens`` tokens, each with the number of the pool it is from.

    A pool holds teams of every size; traces of similar length are padded together.
    """
    while True:
        rng = random.Random(f"pool {seed} {pool}")
        groups: dict[tuple[int, bool], list[Row]] = {}
        for size in rng.choices(_TEAM_SIZES, _TEAM_WEIGHTS, k=_POOL * 3):
            scenario = draw_scenario(rng, draw_distribution(rng, progress()), size)
            row = make_row(run_oracle(scenario))
            groups.setdefault((size, any(row.roles)), []).append(row)
        chunks = [chunk for rows in groups.values() for chunk in _cut(rows, tokens)]
        rng.shuffle(chunks)
        pool += 1
        for chunk in chunks:
            yield pad_rows(chunk), pool


def pad_rows(rows: list[Row]) -> Batch:
    """Collate at rounded lengths, so that few shapes occur."""
    prompt, length = _lengths(rows)
    return collate(rows, prompt, length)


def evaluation_rows(
    number: int, workers: int, layout: Layout = Layout.COMBINED, seed: int = 0
) -> list[Row]:
    """The oracle on held-out problems of the default distribution, undisturbed."""
    rng = random.Random(f"teams {seed} {workers}")
    scenarios = [
        Scenario(problem=problem, names=draw_names(rng, workers), layout=layout)
        for problem in held_out_problems(number, seed)
    ]
    return [make_row(run_oracle(scenario)) for scenario in scenarios]


def _cut(rows: list[Row], tokens: int) -> Iterator[list[Row]]:
    rows = sorted(rows, key=lambda row: _lengths([row])[::-1])
    chunk: list[Row] = []
    for row in rows:
        prompt, length = _lengths([*chunk, row])
        size = prompt + HEADERS + length * len(row.workers)
        if chunk and size * (len(chunk) + 1) > tokens:
            yield chunk
            chunk = []
        chunk.append(row)
    yield chunk


def _lengths(rows: list[Row]) -> tuple[int, int]:
    prompt = max(len(row.prompt) for row in rows)
    length = max(len(column.tokens) for row in rows for column in row.workers)
    return -(-prompt // _ROUND) * _ROUND, -(-length // _ROUND) * _ROUND
