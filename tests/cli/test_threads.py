"""The command leaves the cores to other programs while torch's threads wait."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from hogwild_agents.cli.build import loaded
from hogwild_agents.config import RunConfig

SHOW = """
import os, sys
from hogwild_agents.cli.app import main
sys.argv = ["hogwild", "--help"]
try:
    main()
finally:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000 False"),  # before torch is there, which looks but once
        ({"GOMP_SPINCOUNT": "7"}, "7 False"),
        ({"OMP_WAIT_POLICY": "active"}, "None False"),
    ],
)
def test_threads_sleep_soon_unless_the_environment_says_how_they_wait(
    given: dict[str, str], expected: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=environment | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == expected


def test_what_was_loaded_is_left_out_of_collections_until_it_is_closed() -> None:
    before = gc.get_freeze_count()
    with loaded(RunConfig(), quiet=True):
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
