"""Tasks: the problems of a plan, and how answers are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogwild_agents.bundled.task import held_out_problems
from hogwild_agents.errors import ConfigError, ProblemError
from hogwild_agents.experiment.plan import BundledTask, FileTask
from hogwild_agents.experiment.tasks import problems_of, scorer_of

LINE = '{"problem": "What is 1 + 1?", "answer": "2"}\n'


def file_task(folder: Path, content: str, **values: object) -> FileTask:
    path = folder / "problems.jsonl"
    path.write_text(content, encoding="utf-8")
    return FileTask.model_validate({"kind": "file", "file": path, **values})


def test_bundled_problems_are_the_held_out_ones() -> None:
    found = problems_of(BundledTask(kind="bundled", problems=3, seed=7))
    assert [one.text for one in found] == [one.text for one in held_out_problems(3, 7)]


def test_more_problems_begin_with_the_same_ones() -> None:
    few, many = (problems_of(BundledTask(kind="bundled", problems=n)) for n in (2, 5))
    assert many[:2] == few


def test_bounds_of_bundled_problems() -> None:
    found = problems_of(BundledTask(kind="bundled", problems=9, tasks=(2, 3), terms=(2, 2)))
    assert {one.answer.count(",") for one in found} == {1, 2}


def test_lines_of_a_file(tmp_path: Path) -> None:
    content = LINE + LINE.replace("1", "2").replace('"2"', '"4"')
    (first, second) = problems_of(file_task(tmp_path, content))
    assert (first.text, first.answer) == ("What is 1 + 1?", "2")
    assert first.id != second.id
    assert problems_of(file_task(tmp_path, content, problems=1)) == [first]


def test_another_answer_makes_another_problem(tmp_path: Path) -> None:
    (two,) = problems_of(file_task(tmp_path, LINE))
    (three,) = problems_of(file_task(tmp_path, LINE.replace('"2"', '"3"')))
    assert two.id != three.id


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "There are no problems in "),
        ("nonsense", "Line 1 of "),
        (LINE + '{"problem": "x"}', "Line 2 of "),
        (LINE + LINE, "Line 2 of "),
        (LINE.replace("What is 1 + 1?", " "), "Line 1 of "),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(ProblemError) as caught:
        problems_of(file_task(tmp_path, content))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="cannot be read"):
        problems_of(FileTask(kind="file", file=tmp_path / "no.jsonl"))


def test_box_is_compared_as_a_string(tmp_path: Path) -> None:
    is_right = scorer_of(file_task(tmp_path, LINE))
    assert is_right(" 2 ", "2")
    assert not is_right("2.0", "2")


OWN = """
def close(answer, expected):
    return abs(float(answer) - float(expected)) < 0.1

nothing = None
"""


def test_scorer_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_scorer.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    is_right = scorer_of(file_task(tmp_path, LINE, scorer="own_scorer:close"))
    assert is_right("2.01", "2") is True
    with pytest.raises(ConfigError, match=r"The scorer 'own_scorer:close' has failed \(ValueError"):
        is_right("two", "2")
    for name in ("own_scorer:none", "no_such_module:x", "own_scorer:nothing", "exact"):
        with pytest.raises(ConfigError, match="give module:function"):
            scorer_of(file_task(tmp_path, LINE, scorer=name))


def test_a_scorer_says_true_or_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_scorer.py").write_text("def half(answer, expected):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    is_right = scorer_of(file_task(tmp_path, LINE, scorer="half_scorer:half"))
    with pytest.raises(ConfigError, match=r"'half_scorer:half' has returned 0\.5: return True or"):
        is_right("1", "1")
