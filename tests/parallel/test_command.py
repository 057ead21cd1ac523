"""``hogwild`` under torchrun: process 0 is the command, the others are silent and end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hogwild_agents import read_transcript

pytestmark = pytest.mark.sweep

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RUN = ["-m", "hogwild_agents", "run", "Tasks: a) 7 + 1 - 3 b) 4 + 9 c) 5 + 5", "--seed", "3"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def ended(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=280
    )


def test_a_run_in_two_processes_answers_once_and_as_in_one() -> None:
    alone = ended([sys.executable, *RUN, "--quiet"])
    shared = ended([*TORCHRUN, *RUN, "--quiet"])
    assert (alone.returncode, shared.returncode) == (0, 0), alone.stderr + shared.stderr
    assert shared.stdout == alone.stdout
    assert shared.stdout.strip()


def test_the_program_of_the_page_answers_once(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "large-models.md").read_text(encoding="utf-8")
    program = tmp_path / "solve.py"
    program.write_text(page.partition("```python title=solve.py\n")[2].partition("```\n")[0])
    shared = ended([*TORCHRUN, str(program)])
    assert (shared.returncode, shared.stdout) == (0, "5, 13\n"), shared.stderr


def test_a_command_that_needs_no_model_is_run_once() -> None:
    listed = ended([*TORCHRUN, "-m", "hogwild_agents", "policies"])
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("stop-on-agreement") == 1


def test_what_is_wrong_is_said_once() -> None:
    refused = ended([*TORCHRUN, *RUN, "--model", "/nowhere"])
    assert refused.returncode
    assert refused.stderr.count("There is no model folder '/nowhere'") == 1
    assert not refused.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_ctrl_c_ends_the_run_in_order(tmp_path: Path) -> None:
    saved = tmp_path / "run.jsonl"
    endless = [*RUN, "--temperature", "1", "--no-policies", "--plain", "--save", str(saved)]
    with subprocess.Popen(
        [*TORCHRUN, *endless],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as torchrun:
        assert torchrun.stdout is not None
        torchrun.stdout.readline()
        torchrun.send_signal(signal.SIGINT)
        rest = torchrun.stdout.read()
    assert "Interrupted" in rest
    result = read_transcript(saved).result
    assert result is not None
    assert result.reason == "interrupted"
