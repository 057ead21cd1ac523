"""Every engine that a test makes is checked for lost or doubly owned slots."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from hogwild_agents.engine import Engine

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@pytest.fixture(scope="session", autouse=True)
def watched_engines() -> Iterator[None]:
    """Keep note of all engines, whoever makes them."""
    plain_init, plain_close = Engine.__init__, Engine.close

    def init(engine: Engine, *args: Any, **kwargs: Any) -> None:
        plain_init(engine, *args, **kwargs)
        _engines.add(engine)

    def close(engine: Engine) -> None:
        if engine in _engines and not engine.closed:
            engine.check_integrity()
        plain_close(engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "__init__", init)
        patch.setattr(Engine, "close", close)
        yield


@pytest.fixture(autouse=True)
def intact_caches(watched_engines: None) -> Iterator[None]:
    """Check the book-keeping of all engines that are still open; close() checks the others."""
    yield
    for engine in list(_engines):
        if not engine.closed:
            engine.check_integrity()
