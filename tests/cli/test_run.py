"""``hogwild run`` and ``hogwild replay`` on the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hogwild_agents import read_transcript
from hogwild_agents.bundled.task import Distribution, held_out_problems, is_correct
from hogwild_agents.cli.app import call
from tests.cli.first_run import unprompted

PROBLEM = held_out_problems(1, 1, Distribution(tasks=(5, 5), terms=(3, 4)))[0]
COMMAND = [sys.executable, "-m", "hogwild_agents.cli"]


def hogwild(
    *arguments: str, cwd: Path, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, with pipes for a terminal."""
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )


def called(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command in this process; return what it printed."""
    assert call(arguments) == 0
    return capsys.readouterr().out


def test_solves_a_problem_in_lines(tmp_path: Path) -> None:
    done = hogwild("run", PROBLEM.text, "--save", "run.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert unprompted(done.stderr) == ""
    lines = done.stdout.splitlines()
    assert lines[-1] == "Transcript: run.jsonl"
    assert lines[-2].startswith("Answer: ")
    assert is_correct(lines[-2].removeprefix("Answer: "), PROBLEM)
    assert lines[0] == f"Problem: {PROBLEM.text}"
    assert {line.partition(" [")[0] for line in lines[1:5]} <= {"Alice", "Bob", "Carol"}
    again = hogwild("replay", "run.jsonl", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == lines[:-1]


def test_ends_when_nobody_reads(tmp_path: Path) -> None:
    command = [*COMMAND, "run", PROBLEM.text, "--no-policies", "--save", "run.jsonl"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"Problem: {PROBLEM.text}\n"
        assert "[1]: " in process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 141
        assert unprompted(process.stderr.read()) == ""
    result = read_transcript(tmp_path / "run.jsonl").result
    assert result is not None
    assert result.reason == "nobody reads"


def test_two_runs_at_once_do_not_write_one_transcript(tmp_path: Path) -> None:
    endless = ["run", PROBLEM.text, "--no-policies", "--plain", "--save", "run.jsonl"]
    path = tmp_path / "run.jsonl"
    with subprocess.Popen(
        [*COMMAND, *endless], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        done = hogwild("run", "--save", "run.jsonl", cwd=tmp_path)
        first.kill()
        first.communicate(timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert unprompted(done.stderr) == (
        "hogwild: The transcript's file 'run.jsonl' is being written by another run: name another "
        "one.\n"
    )
    assert read_transcript(path, allow_partial=True).header.problem == PROBLEM.text
    again = hogwild("run", "--quiet", "--save", "run.jsonl", cwd=tmp_path)
    assert again.returncode == 0, again.stderr  # what was killed holds nothing
    assert read_transcript(path).result is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_transcript_may_go_into_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", "pipe"], cwd=tmp_path, stdout=subprocess.PIPE) as reader:
        done = hogwild("run", PROBLEM.text, "--quiet", "--save", "pipe", cwd=tmp_path)
        written, _ = reader.communicate(timeout=60)
    assert done.returncode == 0, done.stderr
    (tmp_path / "run.jsonl").write_bytes(written)
    assert read_transcript(tmp_path / "run.jsonl").result is not None


def test_result_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    arguments = ["run", PROBLEM.text, "--json", "-n", "2", "--seed", "5", "--save", str(path)]
    found: dict[str, Any] = json.loads(called(arguments, capsys))
    result = read_transcript(path).result
    assert result is not None
    assert (found["answer"], found["author"]) == (result.answer, result.author)
    assert (found["ticks"], found["tokens"]) == (result.ticks, result.tokens)
    assert found["reason"] == "answer"
    assert (found["problem"], found["seed"], found["layout"]) == (PROBLEM.text, 5, "combined")
    assert found["workers"] == list(found["texts"]) == ["Alice", "Bob"]
    assert [step["text"] for step in found["steps"]] == [step.text for step in result.steps]
    assert found["transcript"] == str(path)


def test_quiet_is_the_answer_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "problem.txt").write_text(PROBLEM.text)
    out = called(["run", "-q", "--file", str(tmp_path / "problem.txt")], capsys)
    assert is_correct(out.rstrip("\n"), PROBLEM)


@pytest.mark.parametrize("how", ["--plain", "--quiet", "--json"])
def test_a_problem_that_is_drawn_is_told(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = held_out_problems(1, 3)[0]
    assert call(["run", "--seed", "3", how]) == 0
    out, err = capsys.readouterr()
    assert drawn.text in (err if how == "--quiet" else out)
    if how == "--quiet":
        assert is_correct(out.rstrip("\n"), drawn)


def test_quiet_warns_of_an_answer_that_means_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call(["run", "7 + 1", "--quiet", "--budget", "4"])
    captured = capsys.readouterr()
    assert unprompted(captured.err).startswith(
        "hogwild: the bundled model is a toy that knows nothing but "
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--cache-tokens 60", "the cache is full"),
        ("--no-policies --budget 2", "the budget of ticks is spent"),
    ],
)
def test_quiet_says_why_there_is_no_answer(
    options: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = "Tasks: a) 7 + 1 - 3 b) 4 + 9"
    assert call(["run", problem, "--quiet", *options.split()]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert unprompted(captured.err) == f"hogwild: no answer ({why}).\n"


def test_standard_input_and_a_config(tmp_path: Path) -> None:
    (tmp_path / "team.toml").write_text(
        'layout = "contiguous"\nworkers = ["Ada", "Ben"]\nbudget = 3\n'
        'policies = ["stop-on-answer"]\n'
    )
    done = hogwild(
        "run", "-", "--config", "team.toml", "--budget", "6", cwd=tmp_path, given=PROBLEM.text
    )
    assert done.returncode == 1, done.stderr  # it ended in order, but without an answer
    lines = done.stdout.splitlines()
    assert lines[1] == "(the limit of ticks is reached)"
    assert lines[-2].startswith("(The budget of ticks is spent · 6 ticks · 12 tokens · ")
    assert lines[-1] == "No answer"
    assert {line.partition(" [")[0] for line in lines[2:-2]} == {"Ada", "Ben"}


def test_sample_problem_is_the_seeds_own(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--no-policies", "--budget", "2", "--json", "--seed", "3"]
    assert call(arguments) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["problem"] == held_out_problems(1, 3)[0].text


@pytest.mark.parametrize(
    ("problem", "warned"),
    [
        ("Tasks: a) 7 + 1 b) 4 + 9", False),
        ("Tasks: a) 7 + 1", True),
        ("Tasks: a) 50 + 50", True),
        ("Tasks: a) 1 - 5 b) 3 + 1", True),
    ],
)
def test_sums_that_the_bundled_model_was_not_trained_on_get_its_warning(
    problem: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["run", problem, "--budget", "2"])
    assert ("is a toy" in capsys.readouterr().err) is warned


def test_finisher_and_check_follow_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", PROBLEM.text, "--budget", "20", "--check-every", "5", "--json"]
    found = json.loads(called(arguments, capsys))
    assert found["reason"] == "finisher"
    assert "Quick check: am I doing redundant work? (yes/no): " in found["texts"]["Alice"]
    assert found["ticks"] == 20


def test_policy_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_policy.py").write_text(
        "from hogwild_agents import Finish, Policy\n"
        "class Enough(Policy):\n"
        "    async def on_tick_ended(self, event):\n"
        "        return [Finish(answer='enough')] if event.tick == 3 else []\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert (
        called(["run", PROBLEM.text, "-q", "--policy", "own_policy:Enough"], capsys) == "enough\n"
    )


def test_failed_run_shows_what_there_is_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_policy.py").write_text(
        "from hogwild_agents import Policy\n"
        "class Broken(Policy):\n"
        "    async def on_tick_ended(self, event):\n"
        "        if event.tick == 4:\n"
        "            raise ValueError('out of luck')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    arguments = ["run", PROBLEM.text, "--policy", "broken_policy:Broken", "--save", "run.jsonl"]
    assert call(arguments) == 2
    captured = capsys.readouterr()
    assert unprompted(captured.err).startswith("hogwild: ")
    assert unprompted(captured.err).count("\n") == 1
    assert "out of luck" in captured.err
    assert "Alice [1]: " in captured.out
    assert "(Failed · 4 ticks · " in captured.out
    result = read_transcript(tmp_path / "run.jsonl").result
    assert result is not None
    assert result.reason == "failed"


def test_problem_longer_than_the_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.jsonl"
    assert call(["run", "x" * 9000, "--save", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert unprompted(captured.err).count("\n") == 1
    assert "4096" in captured.err
    assert not path.exists()


def test_transcript_that_is_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    called(["run", PROBLEM.text, "--json", "--save", str(path)], capsys)
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[: len(rows) // 2]) + rows[len(rows) // 2][:9])
    assert call(["replay", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert unprompted(captured.err).startswith(
        f"hogwild: The transcript '{path}' is cut short: give --partial"
    )
    assert unprompted(captured.err).count("\n") == 1
    partial = called(["replay", "--partial", str(path)], capsys).splitlines()
    assert partial[-2].startswith("(The transcript is cut short here · ")


def test_model_info(capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(called(["model", "info", "--json"], capsys))
    assert facts["architecture"] in ("Qwen3ForCausalLM", "LlamaForCausalLM")
    assert facts["parameters"] < 4_000_000
    assert (facts["dtype"], facts["device"], facts["context"]) == ("float32", "cpu", 4096)
    assert facts["chat_template"]
    assert not facts["opens_think"]
    assert facts["banned_while_reasoning"] > 0
    table = called(["model", "info"], capsys)
    assert f"{facts['parameters']:,}" in table
    assert "<think> is opened by the runtime" in table
