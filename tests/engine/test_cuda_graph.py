"""What is recorded on a GPU does not wait for it, and recordings share memory while there are some.

What records them stands in here, and torch's device without numbers for the GPU.
"""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hogwild_agents.engine import cuda_graph
from hogwild_agents.engine.cuda_graph import WaitError, without_waiting
from hogwild_agents.engine.graphs import recorder_of

GPU = torch.device("cuda", 1)
STATES = torch.empty(3, 4, device="meta")
MASK = torch.empty(3, 4, dtype=torch.bool, device="meta")
NUMBERS = torch.empty(3, dtype=torch.int64, device="meta")


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


@pytest.mark.parametrize(
    "work",
    [
        lambda: STATES[0, 0].item(),
        lambda: bool(MASK.any()),
        lambda: STATES.tolist(),
        lambda: STATES.cpu(),
        lambda: STATES.to("cpu", torch.float64),
        lambda: torch.ones(3).to("meta"),
        lambda: torch.ones(3, 4).copy_(STATES),
        lambda: torch.empty_like(STATES).copy_(torch.ones(3, 4)),
        lambda: STATES[MASK],
        lambda: STATES.clone().index_put_((MASK,), torch.empty(2, device="meta")),
        lambda: STATES[torch.tensor([0, 2])],
        lambda: MASK.nonzero(),
        lambda: torch.where(MASK),
        lambda: torch.equal(STATES, STATES),
        lambda: torch.repeat_interleave(NUMBERS),
        lambda: torch.unique(NUMBERS),
        lambda: nn.functional.one_hot(NUMBERS),
    ],
)
def test_what_waits_for_the_device_is_not_recorded(work: Any) -> None:
    with pytest.raises(WaitError, match="wait for the device"):
        without_waiting(work)


@pytest.mark.parametrize(
    "work",
    [
        lambda: (STATES @ STATES.t()).softmax(-1).half(),
        lambda: STATES[NUMBERS],
        lambda: STATES.masked_fill(MASK, 0.0),
        lambda: STATES.clone().index_put_((MASK,), torch.empty((), device="meta")),
        lambda: STATES * torch.ones(()),
        lambda: STATES.to("meta", torch.float64),
        lambda: torch.full_like(STATES, torch.ones(3).max().item()),
        lambda: STATES[: int(torch.ones(3).bool().nonzero().numel())],
        lambda: nn.functional.one_hot(NUMBERS, 4),
    ],
)
def test_what_does_not_wait_is_computed(work: Any) -> None:
    found = without_waiting(work)
    assert (found.device.type, found.shape) == ("meta", work().shape)
