"""Many runs: how far they have come is told without a terminal too, and Ctrl-C is answered."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hogwild_agents.cli.app import call
from hogwild_agents.cli.tally import Tally

PLAN = """
seeds = [0]

[task]
kind = "bundled"
problems = {problems}

[run]
budget = {budget}
workers = 1

[grid]
layout = ["combined"]
"""
TENTHS = ["20 runs ...", *(f"{done} of 20 runs done." for done in range(2, 21, 2))]


@pytest.mark.parametrize(
    "command",
    ["eval --problems 20 --workers 1 --no-isolated --budget 2", "experiment plan.toml"],
)
def test_in_a_pipe_each_tenth_of_the_runs_is_a_line(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN.format(problems=20, budget=2))
    assert call(command.split()) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "Loading" not in line]
    assert said == TENTHS


def test_few_runs_are_few_lines_and_those_of_before_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Tally(3, 1) as tally:
        tally.advance()
        tally.advance()
    assert capsys.readouterr().err.splitlines() == [
        "3 runs, 1 of them done before ...",
        "2 of 3 runs done.",
        "3 of 3 runs done.",
    ]


def test_one_run_is_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("eval --problems 1 --workers 1 --no-isolated --budget 1".split()) == 0
    told = capsys.readouterr()
    said = [line for line in told.err.splitlines() if "Loading" not in line]
    assert said == ["1 run ...", "1 of 1 run done."]
    assert "\n1 run of bundled in " in told.out
    assert "at most 1 tick each; seed 0." in " ".join(told.out.split())


@pytest.mark.sweep
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_an_experiment_that_is_broken_off_says_how_it_goes_on(tmp_path: Path) -> None:
    from tests.cli.terminal import Terminal

    (tmp_path / "plan.toml").write_text(PLAN.format(problems=2000, budget=60))
    with Terminal("experiment", "plan.toml", cwd=tmp_path) as terminal:
        terminal.read_until(rb"Runs .* [1-9]\d*/2000")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert terminal.text.endswith("Interrupted: the same command goes on.\n")
    assert terminal.is_given_back
