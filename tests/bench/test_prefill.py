"""A prompt that is read while others think is measured in one run, and nothing is left of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from hogwild_agents.bench.prefill import CHUNKS, Prefill, measure_prefill
from hogwild_agents.bench.report import as_json
from hogwild_agents.bench.table import as_plain
from hogwild_agents.engine import Engine, Feed
from tests.bench.rig import CPU, cell, report, rig, timing


def test_those_who_think_go_on_while_each_chunk_is_read_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[list[int]] = []
    forward = Engine.forward

    def counted(engine: Engine, feeds: Sequence[Feed], **options: Any) -> torch.Tensor:
        sizes.append(sorted(len(feed.tokens) for feed in feeds))
        return forward(engine, feeds, **options)

    with rig(3) as made:
        monkeypatch.setattr(Engine, "forward", counted)
        used = made.engine.used_tokens
        found = measure_prefill(made.engine, made.contents, CPU, rounds=2, chunk=16)
        assert made.engine.used_tokens == used
        made.engine.check_integrity()
    assert sizes.count([1, 1, 1, 16]) == 2 * CHUNKS
    assert sizes.count([16]) == 2 * CHUNKS  # alone
    assert all(size in ([1, 1, 1], [1, 1, 1, 16], [16]) for size in sizes)
    assert (found.workers, found.chunk) == (3, 16)
    for one in (found.tick, found.alone, found.together):
        assert len(one.values) == 2
        assert all(value > 0 for value in one.values)


def test_a_tick_with_a_chunk_is_told_over_both_one_after_the_other() -> None:
    prefill = Prefill(
        workers=4,
        chunk=512,
        tick=timing(10, 20),
        alone=timing(90, 80),
        together=timing(110, 90),
    )
    assert prefill.over == pytest.approx(1.0)
    made = report(cell(), prefill=prefill)
    assert "in one tick with 4 workers it takes 100 ms, 1.00 times as long" in as_plain(made)
    assert json.loads(as_json(made))["prefill"]["together_over_both"] == pytest.approx(1.0)
    assert json.loads(as_json(report(cell())))["prefill"] is None
