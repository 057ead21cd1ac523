"""Forwards: a clock around those of an engine that somebody else runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from hogwild_agents.engine import Engine

Forward = Callable[..., Tensor]


@contextmanager
def replaced(engine: Engine, around: Callable[[Forward], Forward]) -> Iterator[None]:
    """Let an engine's forwards go through what ``around`` makes of them, while the context lasts.

    Only this one engine's; its class stays as it is.
    """
    engine.forward = around(engine.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del engine.forward
