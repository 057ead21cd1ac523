"""Every example is short, stands on the public names, and prints what it says that it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.examples.outputs import EXAMPLES, PATHS, mask, read, run
from tests.packaging.source_tree import PACKAGE, imports_of

PUBLIC = {PACKAGE, f"{PACKAGE}.policies", f"{PACKAGE}.testing"}
each_example = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@each_example
def test_it_prints_what_it_says(path: Path) -> None:
    assert mask(run(path)) == mask(read(path)) != ""


@each_example
def test_it_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


@each_example
def test_it_needs_public_names_only(path: Path) -> None:
    found = imports_of(path.read_text(encoding="utf-8"), path.stem)
    assert {one.module for one in found if one.top == PACKAGE} <= PUBLIC


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_the_keyboard_tells_what_to_type_and_ends_plainly_on_ctrl_c() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLES / "keyboard.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    ) as example:
        assert example.stdin is not None
        assert example.stdout is not None
        assert example.stderr is not None
        assert "an empty line ends it" in example.stdout.readline()
        example.stdin.write("I have 7.\n")
        example.stdin.flush()
        assert [example.stdout.readline()[:7] for _ in range(2)] == ["**Ann [", "**Bob ["]
        time.sleep(1)
        for _ in range(9):  # the loop does not hear a signal that comes just as it falls asleep
            example.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                example.wait(10)
                break
        rest, complaint = example.stdout.read(), example.stderr.read()
    assert (example.returncode, rest, complaint) == (0, "\nInterrupted.\n", "")


def test_what_differs_between_machines_is_masked() -> None:
    assert mask("12 ticks, 0.41 s, 8.5 tokens per second ") == "12 ticks, _ s, _ tokens per second"
    assert mask("2 voters: about 5 right, 31 ticks\n1.5") == "2 voters: about _ right, _ ticks\n1.5"
