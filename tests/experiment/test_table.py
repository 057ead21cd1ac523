"""Tables and the plot: the same numbers in every form."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from hogwild_agents.cli.columns import print_table
from hogwild_agents.experiment.cells import cells_of
from hogwild_agents.experiment.plot import as_svg
from hogwild_agents.experiment.report import Report, make_report
from hogwild_agents.experiment.table import as_csv, as_json, as_markdown, as_tables
from hogwild_agents.svg import ticks_of
from tests.experiment.plans import POLICIES, outcomes, plan

PLAN = plan(
    policies={"a|b": POLICIES["checked"], "[bold]<&": POLICIES["unchecked"]},
    baseline={"policies": "a|b"},
    grid={"policies": ["a|b", "[bold]<&"]},
)
CELLS = cells_of(PLAN)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def report() -> Report:
    found = [
        *outcomes(CELLS[0], [True, True, False, True], [10, 20, 30, 40]),
        *outcomes(CELLS[1], [True, False, False, True], [6, 12, 16, 22]),
    ]
    return make_report("my plan", PLAN, CELLS, found, planned=10)


def test_csv_has_a_row_for_each_cell_and_measure(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert len(rows) == 2 * 5
    ticks = next(row for row in rows if row["cell"] != "a|b" and row["measure"] == "ticks")
    assert (ticks["mean"], ticks["difference"], ticks["p"]) == ("14.0", "-11.0", "0.125")
    assert (ticks["baseline"], ticks["pairs"], ticks["check_every"]) == ("a|b", "4", "")
    assert (ticks["workers"], ticks["layout"], ticks["runs"]) == ("3", "combined", "4")
    assert rows[0]["difference"] == ""


def test_json_has_everything(report: Report) -> None:
    found = json.loads(as_json(report))
    assert (found["name"], found["runs"], found["planned"]) == ("my plan", 8, 10)
    pair = found["lines"][1]
    assert pair["means"]["accuracy"]["value"] == 0.5
    assert pair["comparisons"]["ticks"]["difference"]["value"] == -11
    assert pair["axes"]["policies"] == "[bold]<&"


def test_markdown_rows_have_as_many_cells_as_their_head(report: Report) -> None:
    text = as_markdown(report)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7, 5}
    assert "| a\\|b | 75.0 [" in text
    assert "8 of 10 runs of bundled on 4 problems; seed 0." in text
    assert "-11.0 [-" in text


def test_terminal_shows_names_as_they_are(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(report, Console(width=100, force_terminal=True, color_system=None), capsys)
    assert "[bold]<&  50.0 [" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert "answer 4" in shown


def printed(report: Report, console: Console, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a console shows of the tables."""
    for table in as_tables(report):
        print_table(console, table)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 60, 80])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_number_is_cut_where_there_is_little_room(
    width: int, terminal: bool, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(report, Console(width=width, force_terminal=terminal), capsys)
    rows = [line for line in as_markdown(report).splitlines() if line.startswith("| [bold]")]
    assert rows
    for row in rows:
        for text in row.strip("| ").split(" | ")[1:]:
            assert text in shown
    assert "…" not in shown
    assert not any(line.endswith(" ") for line in shown.splitlines())


def test_without_a_baseline_there_are_no_differences(report: Report) -> None:
    bare = plan(policies=PLAN.policies, grid={"policies": ["a|b"]})
    found = make_report("x", bare, CELLS[:1], outcomes(CELLS[0], [True] * 4, [1] * 4), planned=4)
    assert "Difference" not in as_markdown(found)
    assert "Holm" not in as_markdown(found)


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.get(name, "nan")) for name in names]


def test_plot_has_a_panel_for_each_measure_and_a_dot_for_each_cell(report: Report) -> None:
    svg = ElementTree.fromstring(as_svg(report))
    width, height = numbers(svg, "width", "height")
    dots = svg.findall(f"{SVG}circle")
    assert len(dots) == 5 * 2
    for dot in dots:
        x, y = numbers(dot, "cx", "cy")
        assert 0 < x < width
        assert 0 < y < height
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"my plan", "a|b", "[bold]<&", "Right answers, %", "Seconds"} <= set(texts)
    assert [dot.get("fill") for dot in dots[:2]] == ["#ffffff", "#0969da"]


def test_dots_stand_on_their_intervals(report: Report) -> None:
    svg = ElementTree.fromstring(as_svg(report))
    lines = [line for line in svg.findall(f"{SVG}line") if line.get("stroke-width") == "2"]
    for line, dot in zip(lines, svg.findall(f"{SVG}circle"), strict=True):
        left, right, y = numbers(line, "x1", "x2", "y1")
        x, height = numbers(dot, "cx", "cy")
        assert left <= x <= right
        assert y == height


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_are_few_and_hold_what_they_should(low: float, length: float) -> None:
    high = low + length
    found = ticks_of(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1.0)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 8
    steps = [after - before for before, after in pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps), abs=slack)


def test_plot_of_equal_numbers_can_be_drawn() -> None:
    found = outcomes(CELLS[0], [True] * 4, [1] * 4)
    svg = as_svg(make_report("x", plan(), CELLS[:1], found, planned=4))
    assert "nan" not in svg
