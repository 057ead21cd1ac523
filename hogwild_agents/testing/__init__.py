"""Testing: models, an observer and assertions for tests of policies and agents.

No GPU, no download, no test framework: everything is made in memory, and each assertion raises an
AssertionError that says in one sentence what was found. Each name is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hogwild_agents.testing.assertions import (
        assert_integrity as assert_integrity,
        assert_order as assert_order,
        assert_said as assert_said,
    )
    from hogwild_agents.testing.recorder import Recorder as Recorder
    from hogwild_agents.testing.replay import assert_replays as assert_replays
    from hogwild_agents.testing.script import Line as Line, Reply as Reply, Script as Script
    from hogwild_agents.testing.scripted import scripted_model as scripted_model
    from hogwild_agents.testing.tiny import tiny_model as tiny_model
    from hogwild_agents.testing.tokenizer import ByteTokenizer as ByteTokenizer

_HOMES = {
    "ByteTokenizer": "tokenizer",
    "Line": "script",
    "Recorder": "recorder",
    "Reply": "script",
    "Script": "script",
    "assert_integrity": "assertions",
    "assert_order": "assertions",
    "assert_replays": "replay",
    "assert_said": "assertions",
    "scripted_model": "scripted",
    "tiny_model": "tiny",
}

__all__ = [
    "ByteTokenizer",
    "Line",
    "Recorder",
    "Reply",
    "Script",
    "assert_integrity",
    "assert_order",
    "assert_replays",
    "assert_said",
    "scripted_model",
    "tiny_model",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
