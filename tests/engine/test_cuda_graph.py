"""Recordings on a GPU share memory as long as there are some; what records them stands in here."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hogwild_agents.engine import cuda_graph
from hogwild_agents.engine.graphs import recorder_of

GPU = torch.device("cuda", 1)


class Recorded:
    """What was asked for, and a pool of its own where none was given."""

    def __init__(self, work: Any, device: torch.device, pool: object, stream: object) -> None:
        self.asked, self.stream = pool, stream
        self.pool = pool or object()


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recorder of an engine's on a GPU that is not here."""
    monkeypatch.setattr(cuda_graph, "CudaGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: ("stream", device))
    return recorder_of(SimpleNamespace(device=GPU))  # type: ignore[arg-type]


def test_recordings_share_a_pool_and_a_stream_of_their_device(record: Any) -> None:
    one, two = record(None), record(None)
    assert one.asked is None
    assert two.asked is one.pool
    assert one.stream == two.stream == ("stream", GPU)


def test_the_pool_of_recordings_that_are_gone_is_not_asked_for(record: Any) -> None:
    kept = [record(None), record(None)]
    del kept[0]
    gc.collect()
    assert record(None).asked is kept[0].pool
    kept.clear()
    gc.collect()
    assert record(None).asked is None
