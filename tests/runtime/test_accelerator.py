"""A team on a device that is not the CPU writes the same, and reads from it twice a tick."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_team_there_writes_the_same_and_reads_twice_a_tick() -> None:
    command = [sys.executable, "-m", "tests.runtime.far_team"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here, there = map(json.loads, done.stdout.splitlines())
    assert there["texts"] == here["texts"]
    assert there["ticks"] == here["ticks"] > 50
    assert here["read"] == {}
    # Whether the logits are numbers, and the logits (or, where there is float64, the tokens).
    assert sorted(there["read"]) == ["item", "to"]
    assert there["read"]["to"] <= there["read"]["item"] <= there["ticks"] + 10
