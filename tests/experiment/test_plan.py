"""Plan: a file's values, and one sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogwild_agents.config import RunConfig
from hogwild_agents.errors import ConfigError
from hogwild_agents.experiment.plan import AXES, FileTask, Grid, Plan, RunSettings

TASK = "[task]\nkind = 'bundled'\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        seeds = [0, 3]
        baseline = { policies = "plain" }

        [task]
        kind = "file"
        file = "problems/hard.jsonl"

        [run]
        model = "some/model"
        budget = 99

        [policies]
        plain = ["stop-on-answer"]

        [teams]
        pair = ["Ada", { name = "Ben", role = "I check." }]

        [visibility]
        one-way = [["Alice", "Bob"]]

        [[grid]]
        workers = [1, "pair"]

        [[grid]]
        layout = ["isolated"]
        temperature = [0, 0.5]
        """,
    )
    plan = Plan.load(path)
    assert isinstance(plan.task, FileTask)
    assert plan.task.file == tmp_path / "problems" / "hard.jsonl"
    assert (plan.seeds, plan.run.model, plan.run.budget) == ((0, 3), "some/model", 99)
    assert plan.baseline is not None
    assert plan.baseline.policies == "plain"
    assert [grid.workers for grid in plan.grid] == [(1, "pair"), None]
    assert plan.grid[1].temperature == (0.0, 0.5)
    assert [worker.name for worker in plan.teams["pair"]] == ["Ada", "Ben"]
    assert plan.visibility == {"one-way": (("Alice", "Bob"),)}


def test_one_grid_needs_no_list(tmp_path: Path) -> None:
    plan = Plan.load(write(tmp_path, f"{TASK}[grid]\nworkers = [1, 2]"))
    assert [grid.workers for grid in plan.grid] == [(1, 2)]


def test_grids_and_runs_have_the_same_axes() -> None:
    assert tuple(Grid.model_fields) == AXES
    assert set(AXES) <= set(RunSettings.model_fields)
    assert set(AXES) - set(RunConfig.model_fields) == {"visibility"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "task is missing in the experiment {path}: add it."),
        ("[task]", "task in the experiment {path} needs kind = 'bundled' or kind = 'file': "),
        (
            "[task]\nkind = 'x'",
            "task.kind cannot be 'x' in the experiment {path}: it should be 'bundled' or 'file'.",
        ),
        ("task = 5", "task cannot be 5 in the experiment {path}: it should be a table."),
        ("[task]\nkind = 'file'", "task.file is missing in the experiment {path}: add it."),
        (
            "[task]\nkind = 'bundled'\nproblms = 3",
            "'problms' is no option of task in the experiment {path}: did you mean 'problems'?",
        ),
        (
            "[task]\nkind = 'bundled'\nproblems = 0",
            "task.problems cannot be 0 in the experiment {path}: it should be at least 1.",
        ),
        (
            "[task]\nkind = 'bundled'\nproblems = true",
            "task.problems cannot be True in the experiment {path}: it should be a whole number.",
        ),
        (
            TASK + "problems = 1000000000",
            "task.problems cannot be 1000000000 in the experiment {path}: it should be at most 10",
        ),
        (
            TASK + "tasks = [3, 2]",
            "task.tasks cannot be [3, 2] in the experiment {path}: write [from, to], at most 12.",
        ),
        (TASK + "terms = [3, 13]", "task.terms cannot be [3, 13] in the experiment {path}: write"),
        (
            "sedes = [1]\n" + TASK,
            "'sedes' is no option of an experiment in the experiment {path}: did you mean 'seeds'?",
        ),
        (TASK + "[zzz]", "'zzz' is no option of an experiment in the experiment {path}: use task"),
        (
            "seeds = [1, 1]\n" + TASK,
            "seeds cannot be [1, 1] in the experiment {path}: write different ones.",
        ),
        ("seeds = []\n" + TASK, "seeds cannot be [] in the experiment {path}: "),
        ("seeds = [-1]\n" + TASK, "seeds cannot be -1 in the experiment {path}: it should be at"),
        (
            TASK + "[grid]\nlayout = ['mesh']",
            "grid.layout cannot be 'mesh' in the experiment {path}: it should be 'combined'",
        ),
        (
            TASK + "[grid]\nlayout = ['combind']",
            "grid.layout cannot be 'combind' in the experiment {path}: did you mean 'combined'?",
        ),
        (TASK + "[grid]\nlayout = []", "grid.layout cannot be [] in the experiment {path}: "),
        (TASK + "[grid]\nworkers = 3", "grid.workers cannot be 3 in the experiment {path}: "),
        (TASK + "[grid]\nworkers = [0]", "grid.workers cannot be 0 in the experiment {path}: it"),
        (
            TASK + "[grid]\nworkers = [100000000]",
            "grid.workers cannot be 100000000 in the experiment {path}: it should be at most 1000.",
        ),
        (
            TASK + "[run]\ntemperature = inf",
            "run.temperature cannot be inf in the experiment {path}: it should be a finite number.",
        ),
        (
            TASK + "[[grid]]\nworker = [0]",
            "'worker' is no option of grid in the experiment {path}: did you mean 'workers'?",
        ),
        (TASK + "[run]\nbudget = 0", "run.budget cannot be 0 in the experiment {path}: it should"),
        (TASK + "[run]\ntop_p = 2", "run.top_p cannot be 2 in the experiment {path}: it should be"),
        (
            TASK + "[policies]\npaper = []",
            "policies.paper in the experiment {path} has a name that means something already: ",
        ),
        (
            TASK + "[visibility]\nring = []",
            "visibility.ring in the experiment {path} has a name that means something already: ",
        ),
        (
            TASK + "[teams]\npair = ['Al', 'Al']",
            "teams.pair in the experiment {path} has two workers called 'Al': give each a name ",
        ),
        (
            TASK + "[visibility]\nhalf = [['Al']]",
            "visibility.half cannot be ['Al'] in the experiment {path}: it is too short.",
        ),
        (
            TASK + "[teams]\npair = [{name = 'Al', rol = 'x'}]",
            "'rol' is no option of teams.pair in the experiment {path}: did you mean 'role'?",
        ),
        (
            TASK + "[visibility]\nhalf = [['Al', 'Bo', 'Cy']]",
            "visibility.half cannot be ['Al', 'Bo', 'Cy'] in the experiment {path}: it is too long",
        ),
        (
            TASK + "[teams]\npair = [1]",
            "teams.pair cannot be 1 in the experiment {path}: it should be a name or a table.",
        ),
        (
            TASK + "[run]\nworkers = [1]",
            "run.workers cannot be [1] in the experiment {path}: it should be a whole number or a ",
        ),
        ("run = 5\n" + TASK, "run cannot be 5 in the experiment {path}: it should be a table."),
        (TASK + "[teams]\nx = []", "teams.x cannot be [] in the experiment {path}: "),
        ("seeds = ", "The experiment {path} is no valid TOML: "),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Plan.load(path)
    message = str(caught.value)
    assert message.startswith(expected.format(path=path))
    assert "\n" not in message
    assert message[-1] in ".?"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"plan\.toml"):
        Plan.load(path)
