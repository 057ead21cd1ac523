"""The fastest way of transformers is found by trying, and what does not run is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch

from hogwild_agents.bench import ways as module
from hogwild_agents.bench.baselines import PLAIN, Sequences, Way
from hogwild_agents.bench.contents import read_view
from hogwild_agents.bench.ways import Transformers
from hogwild_agents.errors import ModelError
from tests.bench.rig import CPU, rig


def speeds(monkeypatch: pytest.MonkeyPatch, of: Callable[[Way], float]) -> None:
    """Let each way take a made-up time."""
    monkeypatch.setattr(module, "turn", lambda single, device, ticks: of(single._way))


def test_the_fastest_way_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Way("static", "eager")
    speeds(monkeypatch, lambda way: 1.0 if way == fast else 2.0)
    with rig(1) as made:
        found = Transformers(made.plain, room=4, compiling=False, say=print).choose(
            read_view(made.engine, made.contents.views[0]), 1, CPU
        )
    assert found.fastest == found.uncompiled == fast
    assert found.tried_ms[str(fast)] == 1.0
    assert found.tried_ms[str(PLAIN)] == 2.0
    assert len(found.tried_ms) == 4
    assert not found.notes


def test_a_way_that_does_not_run_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(way: Way) -> float:
        if way.cache == "static":
            raise RuntimeError("no static caches here.\nmore")
        return 1.0

    speeds(monkeypatch, fail)
    with rig(1) as made:
        found = Transformers(made.plain, room=4, compiling=False, say=print).choose(
            read_view(made.engine, made.contents.views[0]), 1, CPU
        )
    assert found.fastest == PLAIN
    assert "StaticCache, sdpa does not run (no static caches here)." in found.notes


def test_a_model_that_transformers_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(way: Way) -> float:
        raise RuntimeError("nothing works")

    speeds(monkeypatch, fail)
    with rig(1) as made:
        context = read_view(made.engine, made.contents.views[0])
        transformers = Transformers(made.plain, room=4, compiling=False, say=print)
        with pytest.raises(ModelError, match=r"no baseline: DynamicCache, sdpa .*nothing works"):
            transformers.choose(context, 1, CPU)


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("default")
def test_the_compiled_way_computes_the_same() -> None:
    with rig(1) as made:
        contexts = [read_view(made.engine, made.contents.views[0])]
        ways = Transformers(made.plain, room=4, compiling=True, say=print)
        compiled: Sequences = ways.sequences(Way("static", "sdpa", compiled=True), contexts)
        plain = ways.sequences(PLAIN, contexts)
        for _ in range(3):
            torch.testing.assert_close(compiled.logits(), plain.logits(), atol=1e-4, rtol=0)
            compiled.fed = plain.fed = [5]
