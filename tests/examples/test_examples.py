"""Every example runs, is short, and prints what it is about."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRINTS = {
    "custom_policy.py": ["Alice has finished 1 steps", "5, 7, 15, 9"],
    "own_scheduler.py": ["Alice wrote '**Alice [1]:** ", "the same logits: True"],
    "quickstart.py": ["7, 7, 15, 9, 12  (answer, ", "**Alice [1]:** "],
    "scripted_worker.py": ["Alice leaves", "**Bob [1]:** "],
}


def test_every_example_is_run() -> None:
    assert sorted(PRINTS) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", sorted(PRINTS))
def test_example_prints_what_it_says(name: str) -> None:
    source = EXAMPLES / name
    done = subprocess.run(
        [sys.executable, source], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for expected in PRINTS[name]:
        assert expected in done.stdout
    assert len(source.read_text().splitlines()) < 60
