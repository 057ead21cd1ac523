"""Ticks that are replayed are told from others, and compared with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hogwild_agents.bench.presets import PRESETS, random_model
from hogwild_agents.bench.replays import measure_replays
from hogwild_agents.engine import compiled_layers, tape
from hogwild_agents.engine.compiled import works
from hogwild_agents.engine.graphs import SETTLED

pytestmark = pytest.mark.skipif(not works(), reason="nothing can be compiled here")
CPU = torch.device("cpu")


def test_replays_equal_plain_ticks() -> None:
    model = random_model(PRESETS["tiny"].config(), torch.float32, CPU)
    found = measure_replays(model, CPU, workers=2, shared=40, ticks=SETTLED + 4)
    assert found.ticks == SETTLED + 4
    assert found.replayed == 4
    assert found.error <= 1e-6
    assert found.ms is not None
    assert found.ms > 0
    assert found.plain_ms > 0


def test_compiled_ticks_are_compared_with_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def traced(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        built.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled_layers, "BACKEND", traced)
    model = random_model(PRESETS["tiny"].config(), torch.float32, CPU)
    found = measure_replays(model, CPU, workers=2, shared=40, ticks=3, compile_layers=True)
    assert built
    assert found.error <= 1e-5
    assert found.replayed == 0  # on a CPU


def test_a_replay_that_gives_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = tape.Tape.replay
    count = []

    def spoiled(self: tape.Tape) -> None:
        replay(self)
        count.append(1)
        if len(count) > 4:  # it was proved by then
            self.result[0, 0] += 5 * self.result.abs().max()

    monkeypatch.setattr(tape.Tape, "replay", spoiled)
    model = random_model(PRESETS["tiny"].config(), torch.float32, CPU)
    assert measure_replays(model, CPU, workers=2, shared=40, ticks=SETTLED + 4).error > 1
