"""What every test stands on: two event loops, one thread for torch, no network, a fixed seed."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# No test module has been imported yet, so torch and transformers will read these, and so will the
# commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile(
    "dev", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of an async test: each runs on both, and neither may be missing."""
    backend: str = request.param
    return backend


@pytest.fixture(autouse=True)
def _torch_seed() -> None:
    """Start every test from the same random state, where torch is in use at all."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Refuse a session in which nothing passed, for instance because every test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus or session.config.option.collectonly or reporter is None:
        return
    if not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
