"""``hogwild experiment`` on the bundled model: from end to end, broken off, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from hogwild_agents.cli import experiment
from hogwild_agents.cli.app import call
from hogwild_agents.experiment.cells import baselines, cells_of
from hogwild_agents.experiment.plan import Plan
from hogwild_agents.experiment.report import Report
from hogwild_agents.experiment.tasks import problems_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
seeds = [0]
baseline = { layout = "combined" }

[task]
kind = "bundled"
problems = 2
tasks = [2, 2]
terms = [2, 2]

[run]
budget = 60
workers = 2

[grid]
layout = ["combined", "isolated"]
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def end_by_signals(program: str, signs: Sequence[str], number: signal.Signals) -> tuple[int, str]:
    """Run a program, and send it a signal at each sign; return its code, and what it said then."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for sign in signs:
            while sign not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
        _, said = process.communicate(timeout=10)
    return process.returncode, said


def stored(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()[1:]]


def lines_of(text: str) -> dict[str, dict[str, float]]:
    """Return the means of each cell, by label and measure."""
    return {
        line["label"]: {name: mean["value"] for name, mean in line["means"].items()}
        for line in json.loads(text)["lines"]
    }


def no_model(*_: object, **__: object) -> None:
    raise AssertionError("a model is loaded, though there is nothing to run")


def test_from_end_to_end(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(["experiment", str(plan), "--format", "json"]) == 0
    out = capsys.readouterr().out
    means = lines_of(out)
    assert list(means) == ["combined", "isolated"]
    assert means["combined"]["ticks"] < means["isolated"]["ticks"]
    assert means["isolated"]["duplicated"] == 2  # both work on both tasks
    folder = plan.parent / "small"
    assert {path.name for path in folder.iterdir()} == {"results.jsonl", *experiment.WRITERS}
    assert (folder / "table.json").read_text() == out
    assert len(stored(folder)) == 4

    monkeypatch.setattr(experiment, "loaded", no_model)
    assert call(["experiment", str(plan)]) == 0
    table = capsys.readouterr().out
    assert "isolated" in table
    assert "4 runs of bundled on 2 problems; seed 0." in " ".join(table.split())
    assert call(["experiment", str(plan), "--format", "markdown"]) == 0
    assert capsys.readouterr().out == (folder / "table.md").read_text()


def test_what_others_write_is_seen_or_not(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(
        SMALL.replace('layout = ["combined", "isolated"]', 'visibility = ["all", "none"]').replace(
            'layout = "combined"', 'visibility = "all"'
        )
    )
    assert call(["experiment", str(plan), "--format", "json"]) == 0
    means = lines_of(capsys.readouterr().out)
    assert means["visibility none"]["duplicated"] == 2
    assert means["visibility none"]["ticks"] > means["visibility all"]["ticks"]


def test_it_grows_and_is_not_mixed_with_another(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = SMALL.replace("budget = 60", "budget = 3")
    plan.write_text(short)
    assert call(["experiment", str(plan), "--out", "there"]) == 0
    first = stored(Path("there"))
    plan.write_text(
        short.replace("seeds = [0]", "seeds = [0, 1]").replace("problems = 2", "problems = 3")
    )
    assert call(["experiment", str(plan), "--out", "there"]) == 0
    both = stored(Path("there"))
    assert (len(first), len(both), both[:4]) == (4, 12, first)
    assert "No run depended on its seed." in " ".join(capsys.readouterr().out.split())
    plan.write_text(short.replace("terms = [2, 2]", "terms = [2, 3]"))
    assert call(["experiment", str(plan), "--out", "there"]) == 2
    assert "whose task.terms is [2, 2] and not [2, 3]: name another" in capsys.readouterr().err
    assert stored(Path("there")) == both


def test_report_runs_nothing(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "loaded", no_model)
    assert call(["experiment", str(plan), "--report"]) == 0
    assert capsys.readouterr().err == "hogwild: nothing is done of 4 runs yet.\n"


def test_who_writes_a_report_last_leaves_what_is_done_by_then(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the last run is done, and reported, while an older report is written."""
    assert call(["experiment", str(plan)]) == 0
    folder = plan.parent / "small"
    whole = {name: (folder / name).read_text() for name in experiment.WRITERS}
    store = folder / "results.jsonl"
    *lines, last = store.read_text().splitlines(keepends=True)
    store.write_text("".join(lines))
    as_markdown = experiment.WRITERS["table.md"]

    def overtaken(report: Report) -> str:
        if report.runs == 3:
            with store.open("a") as file:
                file.write(last)
            assert call(["experiment", str(plan), "--report"]) == 0
        return as_markdown(report)

    monkeypatch.setattr(experiment, "WRITERS", {**experiment.WRITERS, "table.md": overtaken})
    capsys.readouterr()
    assert call(["experiment", str(plan), "--report", "--format", "json"]) == 0
    assert capsys.readouterr().out.endswith(whole["table.json"])
    assert {name: (folder / name).read_text() for name in experiment.WRITERS} == whole
    assert {path.name for path in folder.iterdir()} == {"results.jsonl", *experiment.WRITERS}


def test_a_report_that_is_written_twice_at_once_is_whole(plan: Path) -> None:
    assert call(["experiment", str(plan)]) == 0
    folder = plan.parent / "small"
    whole = {name: (folder / name).read_text() for name in experiment.WRITERS}
    codes: list[int] = []

    def report() -> None:
        codes.extend(call(["experiment", str(plan), "--report"]) for _ in range(10))

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert {name: (folder / name).read_text() for name in experiment.WRITERS} == whole
    assert codes == [0] * 40
    assert {path.name for path in folder.iterdir()} == {"results.jsonl", *experiment.WRITERS}


STUBBORN = """
import time
from pathlib import Path

import anyio
from hogwild_agents import Policy


class Stubborn(Policy):
    async def on_tick_ended(self, event):
        try:
            await anyio.sleep(60)
        finally:
            Path("ending").touch()
            {wait}
"""
WAITS = {
    "busy": "time.sleep(60)",
    "waiting": "with anyio.CancelScope(shield=True): await anyio.sleep(60)",
}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(
    ("command", "wait", "number", "code"),
    [
        ("eval", "waiting", signal.SIGTERM, 143),
        ("experiment", "busy", signal.SIGTERM, 143),
        ("experiment", "waiting", signal.SIGINT, 130),
    ],
)
def test_a_second_signal_ends_it_at_once(
    command: str, wait: str, number: signal.Signals, code: int, plan: Path
) -> None:
    folder = plan.parent
    (folder / "mine.py").write_text(STUBBORN.replace("{wait}", WAITS[wait]))
    (folder / "mine.toml").write_text("policies = ['mine:Stubborn']\n")
    plan.write_text(
        SMALL.replace("workers = 2", "workers = 2\npolicies = 'mine'")
        + "[policies]\nmine = ['mine:Stubborn']\n"
    )
    options = ["--config", "mine.toml"] if command == "eval" else [str(plan)]
    arguments = [sys.executable, "-m", "hogwild_agents.cli", command, *options]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as process:
        assert process.stderr is not None
        while " runs ..." not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(1)  # for the first tick
        process.send_signal(number)
        deadline = time.monotonic() + 20
        while not (folder / "ending").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Traceback" not in said
    if command == "experiment":
        assert {path.name for path in (folder / "small").iterdir()} == {"results.jsonl"}
        assert stored(folder / "small") == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_second_signal_ends_it_at_once_while_it_reports(plan: Path) -> None:
    plan.write_text(SMALL.replace("problems = 2", "problems = 40"))
    program = (
        "import sys, time\n"
        "from hogwild_agents.cli import experiment\n"
        "from hogwild_agents.cli.app import call\n"
        "def slow(report):\n"
        "    print('reporting', file=sys.stderr, flush=True)\n"
        "    time.sleep(60)\n"
        "experiment.WRITERS = {**experiment.WRITERS, 'table.csv': slow}\n"
        f"sys.exit(call(['experiment', {str(plan)!r}]))\n"
    )
    code, said = end_by_signals(program, ["runs done", "reporting"], signal.SIGTERM)
    assert code == 143
    assert "Traceback" not in said
    files = {path.name for path in (plan.parent / "small").iterdir()}
    assert files == {"results.jsonl", "table.md"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(
    ("report", "number", "code"),
    [
        (False, signal.SIGTERM, 143),
        (False, signal.SIGINT, 130),
        (True, signal.SIGTERM, -signal.SIGTERM),
        (True, signal.SIGINT, 130),
    ],
)
def test_who_ends_it_while_it_writes_a_table_finds_no_part_of_one(
    report: bool, number: signal.Signals, code: int, plan: Path
) -> None:
    """Be it by a second signal, or by the only one while it reports and does nothing else."""
    if report:
        assert call(["experiment", str(plan)]) == 0
        (plan.parent / "small" / "table.csv").unlink()
    else:
        plan.write_text(SMALL.replace("problems = 2", "problems = 40"))
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from hogwild_agents.cli.app import call\n"
        "write = Path.write_text\n"
        "def slow(path, text, **options):\n"
        "    write(path, text, **options)\n"
        "    if path.name.startswith('table.csv'):\n"
        "        print('writing', path.name, file=sys.stderr, flush=True)\n"
        "        time.sleep(60)\n"
        "Path.write_text = slow\n"
        f"sys.exit(call(['experiment', {str(plan)!r}, *{['--report'] * report}]))\n"
    )
    signs = ["writing"] if report else ["runs done", "writing"]
    ended, said = end_by_signals(program, signs, number)
    assert ended == code
    assert "Traceback" not in said
    files = {path.name for path in (plan.parent / "small").iterdir()}
    others = {*experiment.WRITERS} - {"table.csv"} if report else {"table.md"}
    assert files == {"results.jsonl", *others}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_broken_off_it_can_be_gone_on_with(
    number: signal.Signals, code: int, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.write_text(
        SMALL.replace("problems = 2", "problems = 40").replace(
            "workers = 2", "workers = 2\nconcurrency = 2"
        )
    )
    command = [sys.executable, "-m", "hogwild_agents.cli", "experiment", str(plan)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    results = plan.parent / "small" / "results.jsonl"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 120
        while not results.exists() or results.read_bytes().count(b"\n") < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert call(["experiment", str(plan), "--out", str(results.parent)]) == 2
        assert "Another experiment adds to the store" in capsys.readouterr().err
        assert call(["experiment", str(plan), "--report"]) == 0
        process.send_signal(number)
        table, _ = process.communicate(timeout=60)
    assert process.returncode == code
    done = len(stored(results.parent))
    assert 3 <= done < 80
    assert f"{done} of 80 runs of bundled" in " ".join(table.split())
    plan.write_text(SMALL)
    assert call(["experiment", str(plan)]) == 0
    assert len(stored(results.parent)) <= done + 4


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        (SMALL, ["--format", "pdf"], "--format cannot be 'pdf': choose from table, markdown, "),
        (SMALL, ["--out", "small.toml"], "The store 'small.toml/results.jsonl' cannot be used"),
        (
            SMALL + "policies = ['x']",
            [],
            "grid.policies cannot be 'x' in the experiment {plan}: add it under [policies].",
        ),
        (
            SMALL + "policies = ['mine']\n[policies]\nmine = ['finishr']",
            [],
            "There is no policy 'finishr' (policies.mine in the experiment {plan}): did you "
            "mean 'finisher'?",
        ),
        (
            SMALL + "policies = ['mine']\n[policies]\nmine = ['no_such_module:Mine']",
            [],
            "The policy 'no_such_module:Mine' cannot be made (ModuleNotFoundError",
        ),
        (
            SMALL + "prompt = ['colaborate']",
            [],
            "prompt cannot be 'colaborate' in the experiment {plan}: there is no prompt "
            "'colaborate' in the package: did you mean 'collaborate'",
        ),
        (
            SMALL.replace('"combined" }', '"contiguous" }'),
            [],
            "The baseline (layout = 'contiguous')",
        ),
        (SMALL.replace("budget", "bugdet"), [], "'bugdet' is no option of run in the experiment"),
    ],
)
def test_what_cannot_be_done(
    plan: Path,
    text: str,
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(experiment, "loaded", no_model)
    plan.write_text(text)
    assert call(["experiment", str(plan), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"hogwild: {expected.replace('{plan}', str(plan))}")
    assert captured.err.count("\n") == 1
    assert not (plan.parent / "small").exists()


def test_a_run_that_fails_is_named(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_policy.py").write_text(
        "from hogwild_agents import Policy\n\n\nclass Failing(Policy):\n"
        "    async def on_run_started(self, event):\n        raise ValueError('oh')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plan.write_text(
        SMALL.replace("workers = 2", 'workers = 2\npolicies = "mine"')
        + "[policies]\nmine = ['failing_policy:Failing']"
    )
    assert call(["experiment", str(plan)]) == 2
    error = capsys.readouterr().err
    assert "The run of problem " in error
    assert "with seed 0 has failed (" in error
    assert "oh" in error


EXAMPLES = sorted((ROOT / "examples" / "experiments").glob("*.toml"))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_plans(path: Path) -> None:
    plan = Plan.load(path)
    cells = cells_of(plan)
    assert len(cells) > 1
    assert baselines(plan, cells)
    assert problems_of(plan.task)


def test_the_manual_shows_plans() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in page.split("```toml\n")[1:]]
    whole = [block for block in blocks if "[task]" in block]
    assert whole
    for block in whole:
        plan = Plan.check(tomllib.loads(block))
        assert baselines(plan, cells_of(plan))
