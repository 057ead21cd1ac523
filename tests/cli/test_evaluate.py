"""``hogwild eval``: scores from outcomes, and a small evaluation from end to end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hogwild_agents.cli.app import call
from hogwild_agents.cli.evaluate import Arm, Outcome, Plan, Score, score
from hogwild_agents.errors import ProblemError
from hogwild_agents.experiment.task_file import read_tasks


def outcome(arm: Arm, seed: int, problem: str, correct: bool, ticks: int) -> Outcome:
    return Outcome(
        arm=arm, seed=seed, problem=problem, correct=correct, ticks=ticks, reason="answer"
    )


def test_scores_compare_teams_on_the_same_problems() -> None:
    one, two = Arm("combined", 1), Arm("combined", 2)
    outcomes = [
        outcome(one, 0, "a", True, 100),
        outcome(one, 0, "b", True, 300),
        outcome(one, 1, "c", False, 200),
        outcome(two, 0, "a", True, 50),
        outcome(two, 0, "b", True, 150),
    ]
    single, pair = score(outcomes, [one, two])
    assert (single.runs, single.accuracy.value, single.ticks.value) == (3, 2 / 3, 200)
    assert single.accuracy_by_seed == {0: 1.0, 1: 0.0}
    assert pair.ratio is not None
    assert pair.ratio.value == pytest.approx(0.5)
    assert pair.reasons == {"answer": 2}


def test_without_one_worker_there_is_no_ratio() -> None:
    arm = Arm("combined", 3)
    (only,) = score([outcome(arm, 0, "a", True, 9)], [arm])
    assert only.ratio is None


def test_more_seeds_on_a_problem_are_not_more_problems() -> None:
    one, two = Arm("combined", 1), Arm("combined", 2)

    def scores(seeds: range) -> list[Score]:
        """Two problems, and for all seeds the same runs."""
        outcomes = [
            outcome(arm, seed, problem, problem == "a", ticks * (2 if arm is one else 1))
            for arm in (one, two)
            for seed in seeds
            for problem, ticks in (("a", 40), ("b", 70))
        ]
        return score(outcomes, [one, two])

    for once, often in zip(scores(range(1)), scores(range(9)), strict=True):
        assert often.runs == 9 * once.runs
        assert (often.accuracy, often.ticks, often.ratio) == (once.accuracy, once.ticks, once.ratio)


def test_arms_are_listed_once() -> None:
    assert Plan(teams=(1, 2)).arms == (
        Arm("combined", 1),
        Arm("combined", 2),
        Arm("isolated", 2),
    )
    assert len(Plan(teams=(2,), layouts=("isolated",)).arms) == 1
    assert len(Plan(teams=(2,), isolated=False).arms) == 1


def test_bundled_model_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "eval --problems 2 --seeds 0,1 --workers 1,2 --no-isolated --budget 9 --json"
    assert call(arguments.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["budget"], found["seeds"]) == ("bundled", 9, [0, 1])
    assert [(arm["layout"], arm["workers"], arm["runs"]) for arm in found["arms"]] == [
        ("combined", 1, 4),
        ("combined", 2, 4),
    ]
    for arm in found["arms"]:  # nobody is done after 9 ticks
        assert arm["reasons"] == {"finisher": 4}
        assert arm["ticks"]["value"] == 9
        assert arm["accuracy"]["value"] == 0


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ("layout = 'isolated'\nseed = 3\nbudget = 4", "", ("isolated", [3], 4)),
        ("layout = 'isolated'\nseed = 3\nbudget = 4", "--budget 2", ("isolated", [3], 2)),
        ("layout = 'isolated'", "--layout interleaved --seeds 1", ("interleaved", [1], 512)),
        ("workers = ['Zoe']\nproblem = 'x'\nsave = 'run.jsonl'", "", ("combined", [0], 512)),
    ],
)
def test_what_a_config_says_counts_unless_an_option_says_otherwise(
    file: str,
    options: str,
    expected: tuple[str, list[int], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("team.toml").write_text(file)
    arguments = "eval --config team.toml --problems 1 --workers 2 --no-isolated --json"
    assert call([*arguments.split(), *options.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["arms"][0]["layout"], found["seeds"], found["budget"]) == expected
    assert not Path("run.jsonl").exists()


@pytest.mark.parametrize("width", ["30", "200"])
def test_no_number_of_the_table_is_cut(
    width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert call("eval --problems 2 --workers 1,2 --no-isolated --budget 3".split()) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "×" in line]
    assert len(rows) == 2
    assert all(row.startswith("combined × ") for row in rows)
    assert all("0.0 % [0.0, 65.8]  3.0 [3.0, 3.0]  1" in row for row in rows)


def test_problems_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "Tasks: a) 1 + 1 + 1 b) 2 + 2 + 2", "answer": "3, 6"}\n' * 2)
    assert call(f"eval --file {path} --workers 1 --no-isolated --budget 5".split()) == 0
    table = capsys.readouterr().out
    assert "combined × 1" in table
    assert "2 runs of bundled" in table
    assert max(map(len, table.splitlines())) <= 80


def test_a_run_that_fails_is_told_and_no_wrong_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text(
        "from hogwild_agents import TickEnded, controller\n"
        "@controller\n"
        "async def fails(event: TickEnded):\n"
        "    raise LookupError('nothing there')\n"
    )
    (tmp_path / "failing.toml").write_text('policies = ["failing:fails"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ["--config", "failing.toml", "--problems", "1", "--workers", "2", "--no-isolated"]
    assert call(["eval", *options]) == 2
    said = capsys.readouterr().err
    assert "A run of 2 workers with seed 0 has failed on 'Tasks: a) " in said
    assert "nothing there" in said


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_signal_to_end_has_its_own_exit_code() -> None:
    command = [sys.executable, "-m", "hogwild_agents.cli", "eval", "--problems", "60"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "runs done" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Interrupted: this is what was measured until then." in out


def test_a_problem_may_hold_any_character_and_the_file_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    rows = '{"problem": "1 + 1\u2028is", "answer": "2"}\n{"problem": "2", "answer": "2"}\n\n'
    path.write_text(rows, encoding="utf-8-sig")
    assert [task.problem for task in read_tasks(path)] == ["1 + 1\u2028is", "2"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"problem": " ", "answer": "2"}', "has an empty problem"),
        ('{"problem": "1", "answer": "2", "id": 3}', r"is no problem \('id' has no meaning"),
        ('{"problem": 1, "answer": "2"}', r"is no problem \(problem cannot be 1, it should be a t"),
        ("[1]", r"is no problem \(it is \[1\], no object\): write"),
    ],
)
def test_a_bad_line_is_told_before_anything_is_run(row: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1 + 1", "answer": "2"}\n' + row)
    with pytest.raises(ProblemError, match=f"Line 2 of .* {fault}"):
        read_tasks(path)
