"""The log: silent unless structlog was configured."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
import structlog

from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.errors import FeedError
from hogwild_agents.log import get_logger
from tests.coordinator.rig import WatchedEngine, feed, once


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def say_everything() -> None:
    log = get_logger("hogwild_agents.somewhere")
    log.debug("one", number=1)
    log.info("two")
    log.warning("three")
    log.error("four", exc_info=ValueError("wrong"))


def test_nothing_is_said_unless_asked(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    say_everything()
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_a_configured_structlog_gets_every_event() -> None:
    entries = structlog.testing.LogCapture()
    structlog.configure(processors=[entries])
    say_everything()
    assert [entry["event"] for entry in entries.entries] == ["one", "two", "three", "four"]
    assert entries.entries[0] == {"event": "one", "number": 1, "log_level": "debug"}


@pytest.mark.anyio
async def test_the_coordinator_logs_what_fails(
    engine: WatchedEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> None:
        async with CacheCoordinator(engine) as coordinator:
            with pytest.raises(FeedError):
                await once(coordinator.join("Alice"), feed(engine.block("a")))

    await fail()
    assert capfd.readouterr() == ("", "")
    entries = structlog.testing.LogCapture()
    structlog.configure(processors=[entries])
    with anyio.fail_after(5):
        await fail()
    assert [entry["event"] for entry in entries.entries] == [
        *("seat joined", "request failed", "seat left")
    ]
    assert "no tokens" in entries.entries[1]["error"]
