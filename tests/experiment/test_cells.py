"""Cells: what a grid comes to, who sees whom, and what is compared with what."""

from __future__ import annotations

import pytest

from hogwild_agents.errors import ConfigError
from hogwild_agents.experiment.cells import Cell, baselines, cells_of, labels_of
from tests.experiment.plans import plan


def labels(cells: list[Cell]) -> list[str]:
    named = labels_of(cells)
    return [named[cell.key] for cell in cells]


def test_every_combination_is_a_cell() -> None:
    cells = cells_of(plan(grid={"layout": ["combined", "isolated"], "workers": [1, 2]}))
    assert labels(cells) == [
        "combined · 1 worker",
        "combined · 2 workers",
        "isolated · 1 worker",
        "isolated · 2 workers",
    ]
    assert [len(cell.config.team) for cell in cells] == [1, 2, 1, 2]


def test_grids_are_joined_and_equal_cells_are_one() -> None:
    cells = cells_of(plan(grid=[{"workers": [1]}, {"workers": [1, 2], "layout": ["combined"]}]))
    assert [cell.axes["workers"] for cell in cells] == [1, 2]


def test_without_a_grid_there_is_one_cell() -> None:
    (cell,) = cells_of(plan(run={"budget": 7}))
    assert labels([cell]) == ["combined · 3 workers"]
    assert (cell.config.budget, cell.config.policies[0]) == (7, "redundancy-check")


def test_grid_goes_before_what_all_have_in_common() -> None:
    cells = cells_of(plan(run={"budget": 7, "layout": "isolated"}, grid={"budget": [8, 9]}))
    assert [(cell.config.budget, cell.config.layout) for cell in cells] == [
        (8, "isolated"),
        (9, "isolated"),
    ]


def test_values_for_a_policy_that_a_cell_lacks_make_no_cells() -> None:
    grid = {"policies": ["unchecked", "checked"], "check_every": [16, 64]}
    cells = cells_of(plan(grid=grid))
    assert labels(cells) == [
        "unchecked",
        "checked · check every 16",
        "checked · check every 64",
    ]
    assert "check_every" not in cells[0].config.model_fields_set


def test_one_value_for_a_policy_is_not_in_the_names() -> None:
    grid = {"policies": ["unchecked", "checked"], "check_every": [16]}
    assert labels(cells_of(plan(grid=grid))) == ["unchecked", "checked"]


def test_names_differ_where_the_model_decides() -> None:
    cells = cells_of(plan(grid=[{}, {"temperature": [0.6]}]))
    assert labels(cells) == ["the model's temperature", "temperature 0.6"]


def test_who_sees_whom() -> None:
    rules = {"one-way": [["Alice", "Bob"], ["Alice", "Carol"]]}
    grid = {"visibility": ["all", "none", "ring", "one-way"]}
    seen = [
        [cell.sees(name) for name in ("Alice", "Bob", "Carol")]
        for cell in cells_of(plan(visibility=rules, grid=grid))
    ]
    assert seen == [
        [None, None, None],
        [(), (), ()],
        [("Carol",), ("Alice",), ("Bob",)],
        [None, ("Carol",), ("Bob",)],
    ]


def test_rules_that_come_to_the_same_are_one_cell() -> None:
    cells = cells_of(plan(run={"workers": 2}, grid={"visibility": ["all", "ring", "none"]}))
    assert [cell.axes["visibility"] for cell in cells] == ["all", "none"]


def test_keys_tell_contents_and_not_names() -> None:
    (first,) = cells_of(plan(grid={"policies": ["checked"]}))
    (renamed,) = cells_of(plan(policies={"new": POLICIES}, grid={"policies": ["new"]}))
    (changed,) = cells_of(plan(policies={"new": POLICIES[1:]}, grid={"policies": ["new"]}))
    (said,) = cells_of(plan(run={"budget": 4096, "check_every": 1024}))
    assert first.key == renamed.key == said.key
    assert changed.key != first.key


POLICIES = ["redundancy-check", "stop-on-answer", "finisher"]


def test_each_cell_has_its_own_baseline() -> None:
    values = plan(
        baseline={"policies": "unchecked"},
        grid={"layout": ["combined", "isolated"], "policies": ["unchecked", "checked"]},
    )
    cells = cells_of(values)
    named = labels_of(cells)
    against = {named[key]: named[cell.key] for key, cell in baselines(values, cells).items()}
    assert against == {
        "combined · checked": "combined · unchecked",
        "isolated · checked": "isolated · unchecked",
    }


def test_one_baseline_for_all() -> None:
    values = plan(
        baseline={"layout": "combined", "workers": 1},
        grid=[{"workers": [1]}, {"layout": ["combined", "isolated"], "workers": [2]}],
    )
    cells = cells_of(values)
    assert list(baselines(values, cells).values()) == [cells[0], cells[0]]


def test_a_baseline_that_lacks_a_policy_is_found() -> None:
    values = plan(
        baseline={"policies": "unchecked"},
        grid={"policies": ["unchecked", "checked"], "check_every": [8, 16]},
    )
    cells = cells_of(values)
    assert [cell.axes["policies"] for cell in baselines(values, cells).values()] == [
        "unchecked"
    ] * 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"grid": {"policies": ["cheked"]}},
            "grid.policies cannot be 'cheked' in the experiment: did you mean 'checked'",
        ),
        (
            {"grid": {"policies": ["zzz"]}},
            "grid.policies cannot be 'zzz' in the experiment: add it under [policies].",
        ),
        (
            {"run": {"policies": "zzz"}},
            "run.policies cannot be 'zzz' in the experiment: add it under [policies].",
        ),
        (
            {"grid": {"workers": ["pair"]}},
            "grid.workers cannot be 'pair' in the experiment: add it under [teams].",
        ),
        (
            {"grid": {"visibility": ["rin"]}},
            "grid.visibility cannot be 'rin' in the experiment: did you mean 'ring'?",
        ),
        (
            {"visibility": {"x": [["Alice", "Dave"]]}, "grid": {"visibility": ["x"]}},
            "visibility.x hides 'Alice' from 'Dave' in the experiment, but the team is Alice, Bob",
        ),
        (
            {"visibility": {"x": [["Bob", "Bob"]]}, "grid": {"visibility": ["x"]}},
            "visibility.x hides 'Bob' from 'Bob' in the experiment, but ",
        ),
        (
            {"grid": {"policies": ["unchecked"], "check_every": [16]}},
            "grid.check_every is [16] in the experiment, but no set of policies there has 'redund",
        ),
        (
            {"run": {"check_every": 16}, "grid": {"policies": ["unchecked"]}},
            "run.check_every is 16 in the experiment, but no set of policies there has 'redundanc",
        ),
    ],
)
def test_what_no_cell_can_have(values: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cells_of(plan(**values))
    assert str(caught.value).startswith(expected)


def test_a_baseline_that_names_nothing_is_named_itself() -> None:
    values = plan(baseline={"policies": "zzz"}, grid={"workers": [1, 2]})
    with pytest.raises(ConfigError, match=r"^baseline\.policies cannot be 'zzz'"):
        baselines(values, cells_of(values))


@pytest.mark.parametrize("baseline", [{"workers": 9}, {"layout": "combined"}, {}])
def test_baseline_that_leaves_nothing_to_compare(baseline: dict[str, object]) -> None:
    values = plan(baseline=baseline, grid={"workers": [1, 2]})
    with pytest.raises(ConfigError, match="leaves nothing to compare"):
        baselines(values, cells_of(values))
