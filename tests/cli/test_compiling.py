"""Kernels that have to be compiled: said once, on a terminal and in a pipe; then never again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hogwild_agents.cli.compiling import noticed
from hogwild_agents.cli.progress import Progress

RUN = ["run", "Tasks: a) 7 + 1 - 3 b) 4 + 9", "--budget", "1", "--plain"]


@pytest.mark.sweep
def test_a_first_run_in_a_pipe_says_what_it_waits_for(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    said = [
        subprocess.run(
            [sys.executable, "-m", "hogwild_agents.cli", *RUN],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        ).stderr
        for _ in range(2)
    ]
    assert said == ["Loading bundled · compiling kernels, the first time on this machine ...\n", ""]


def test_what_is_compiled_is_noticed_once() -> None:
    numba = pytest.importorskip("numba")
    told: list[str] = []
    signature = numba.types.int64(numba.types.int64)
    with noticed(lambda: told.append("now")):
        assert told == []
        numba.cfunc(signature)(lambda number: number + 1)
        numba.cfunc(signature)(lambda number: number + 2)
    numba.cfunc(signature)(lambda number: number + 3)
    assert told == ["now"]


def test_without_a_terminal_it_is_a_line_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, said in ((False, "Compiling ...\n"), (True, "")):
        with Progress(quiet=quiet) as progress:
            progress.show("Loading")
            progress.tell("Compiling")
        assert capsys.readouterr().err == said


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_the_line_is_never_two(tmp_path: Path) -> None:
    from tests.cli.terminal import ENTER, Terminal, without_escapes

    with Terminal(*RUN[:-1], cwd=tmp_path, width=40) as terminal:
        assert terminal.finish() == 0
    loading = terminal.written.partition(ENTER)[0]
    shown = [without_escapes(one).strip() for one in loading.split(b"\r\x1b[2K")]
    assert any("comparing" in one and one.endswith("…") for one in shown)
    assert all("\n" not in one and len(one) < 40 for one in shown)
