"""Store: what was kept is there again, whatever broke it off; what is no store is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from hogwild_agents.errors import ConfigError
from hogwild_agents.experiment.cells import cells_of
from hogwild_agents.experiment.store import Store, read_store
from tests.experiment.plans import PROBLEMS, outcome, plan

COMMON = {"model": "bundled", "task.terms": (3, 6), "revision": None}
(CELL,) = cells_of(plan())
FOUR = [outcome(CELL, problem, ticks=number) for number, problem in enumerate(PROBLEMS)]


def fill(path: Path) -> bytes:
    with Store(path, COMMON) as store:
        for one in FOUR:
            store.add(one)
    return path.read_bytes()


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    fill(tmp_path / "new folder" / "results.jsonl")
    with Store(tmp_path / "new folder" / "results.jsonl", COMMON) as store:
        assert list(store.outcomes.values()) == FOUR


def test_the_first_result_of_a_run_stays(tmp_path: Path) -> None:
    content = fill(tmp_path / "results.jsonl")
    with Store(tmp_path / "results.jsonl", COMMON) as store:
        store.add(FOUR[0].model_copy(update={"ticks": 99}))
        assert store.outcomes[FOUR[0].key].ticks == 0
    assert (tmp_path / "results.jsonl").read_bytes() == content


def test_one_experiment_at_a_time_adds_to_a_store(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with Store(path, COMMON) as store:
        store.add(FOUR[0])
        with pytest.raises(ConfigError, match=r"Another experiment adds to the store .*: wait for"):
            Store(path, COMMON)
        assert list(read_store(path, COMMON).values()) == FOUR[:1]
        store.add(FOUR[1])
    with Store(path, COMMON) as store:
        assert list(store.outcomes.values()) == FOUR[:2]


def test_reading_a_store_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "results.jsonl"
    assert read_store(path, COMMON) == {}
    assert not path.parent.exists()
    cut = fill(path)[:-3]
    path.write_bytes(cut)
    assert list(read_store(path, COMMON).values()) == FOUR[:-1]
    assert path.read_bytes() == cut


@given(st.data())
def test_a_store_cut_short_anywhere_holds_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("store") / "results.jsonl"
    content = fill(path)
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    with Store(path, COMMON) as store:
        kept = max(content[:cut].count(b"\n") - 1, 0)
        assert list(store.outcomes.values()) == FOUR[:kept]
        for one in FOUR:
            store.add(one)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"my thesis", 1),
        (b"my thesis\n", 1),
        (b'{"answer": 3}\n', 1),
        (b"\xff\xfe\n", 1),
        (b'{"hogwild_experiment":2,"common":{}}\n', 1),
    ],
)
def test_another_file_is_left_alone(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"Line {line} of .* is no line of an experiment's store"):
        Store(path, COMMON)
    assert path.read_bytes() == content


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = fill(path).splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"oops\n", *lines[2:]]))
    with pytest.raises(ConfigError, match="Line 3 of "):
        Store(path, COMMON)


def test_a_store_without_results_is_that_of_the_plan_as_it_was_mended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Store(path, COMMON | {"model": "mistyped"}).close()
    assert fill(path) == fill(tmp_path / "another.jsonl")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "other"}, "whose model is 'bundled' and not 'other'"),
        ({"revision": "v2"}, "whose revision is None and not 'v2'"),
        ({"task.terms": (3, 4)}, r"whose task\.terms is \[3, 6\] and not \[3, 4\]"),
        ({"new": 1}, "whose new is None and not 1"),
    ],
)
def test_another_plans_store_is_refused(
    tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    path = tmp_path / "results.jsonl"
    content = fill(path)
    with pytest.raises(ConfigError, match=f"was made by another plan, {expected}: name another"):
        Store(path, {**COMMON, **change})
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"The store .* cannot be used"):
        Store(tmp_path / "file" / "results.jsonl", COMMON)
