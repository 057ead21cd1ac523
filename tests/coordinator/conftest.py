from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.coordinator.rig import WatchedEngine, engine_for


@pytest.fixture
def engine() -> Iterator[WatchedEngine]:
    """A watched engine on the tiny Qwen3."""
    with engine_for() as engine:
        yield engine
