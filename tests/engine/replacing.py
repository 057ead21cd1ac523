"""Replacing: modules that compute by the engine's kernels for a while, without an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from hogwild_agents.engine.replaced import Replaced
from hogwild_agents.engine.threads import limited


@contextmanager
def replacing(find: Callable[[], Replaced], threads: int) -> Iterator[None]:
    """Let what is found be replaced, of which there has to be some, with so many threads."""
    with torch.no_grad(), limited(threads):
        found = find()
        assert found.count
        try:
            yield
        finally:
            found.undo()
