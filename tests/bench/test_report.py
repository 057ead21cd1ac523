"""The table, the JSON and the plot hold what they promise, from made-up numbers."""

from __future__ import annotations

import io
import json
import re
from xml.etree import ElementTree

import pytest
from rich.console import Console

from hogwild_agents.bench import table
from hogwild_agents.bench.plot import as_svg
from hogwild_agents.bench.report import (
    BATCH,
    CONCATENATING,
    ENGINE,
    PLAIN,
    PRODUCTS,
    SINGLE,
    as_json,
    short,
)
from hogwild_agents.bench.table import as_plain, heading, tables
from tests.bench.rig import cell, report, timing

SVG = "{http://www.w3.org/2000/svg}"


def test_gains_are_ratios_of_tokens_per_second() -> None:
    one = cell(workers=2)
    assert one.tokens_per_second == 20
    assert one.gain(SINGLE) == pytest.approx(2 * 90 / 100)
    assert one.gain(PLAIN) == pytest.approx(2 * 110 / 100)
    assert one.gain(BATCH) == pytest.approx(150 / 100)
    assert one.gain(CONCATENATING) == pytest.approx(200 / 100)
    assert one.over(PRODUCTS) == pytest.approx(100 / 80)


def test_the_floor_is_every_byte_once() -> None:
    assert cell().floor(20e9) == pytest.approx(50)


def test_json_has_every_number() -> None:
    found = json.loads(as_json(report(cell(workers=2), cell(workers=4, context=4096))))
    assert found["format"] == 1
    assert found["complete"] is True
    assert {"machine", "model", "settings", "ways", "bandwidth", "peak_bytes"} <= found.keys()
    one = found["cells"][0]
    assert (one["workers"], one["context"], one["own_tokens"]) == (2, 1024, 100)
    assert one["ms_per_tick"].keys() == {ENGINE, SINGLE, PLAIN, BATCH, CONCATENATING, PRODUCTS}
    assert one["ms_per_tick"][ENGINE] == {
        "median": 100,
        "low": 100,
        "high": 100,
        "rounds": [100, 100, 100],
    }
    assert one["tokens_per_second_over"][SINGLE] == pytest.approx(1.8)
    assert one["floor_ms"] == {"read": 50, "copy": 100}
    assert one["tick_over"] == {"products": 1.25, "read": 2, "copy": 1}
    shares = {name: share for name, share in one["shares"].items() if name != "how"}
    assert sum(shares.values()) == pytest.approx(1)
    assert one["memory_bytes"][ENGINE] == {"cache": 2**20, "peak": 2**21}
    assert found["runtime"][0]["added_over_bare"] == pytest.approx(0.03)
    assert found["runtime"][0]["team_over_bare"] == pytest.approx(1.03)


def test_tables_have_a_row_for_each_cell() -> None:
    whole = report(cell(workers=2), cell(workers=4, context=4096))
    for _, heads, rows in tables(whole):
        assert len(rows) == 2
        assert all(len(row) == len(heads) for row in rows)
    speed, floors, shares = (
        [dict(zip(heads, row, strict=True)) for row in rows] for _, heads, rows in tables(whole)
    )
    assert [(row["context"], row["workers"]) for row in speed] == [("1k", "2"), ("4k", "4")]
    assert speed[0]["x single"] == "1.80"
    assert speed[1]["x single"] == "3.60"
    assert floors[0]["floor"] == "50"
    assert floors[0]["products"] == "80"
    assert shares[0]["attention"] == "15.0%"
    assert shares[0]["runtime adds"] == "+3.0%"
    assert shares[1]["runtime adds"] == "-"


def test_what_was_left_out_is_a_dash_and_a_sentence() -> None:
    times = {name: one for name, one in cell().times.items() if name != BATCH}
    lacking = cell(workers=1, notes=("batch is left out.",), shares=None, memory={})
    object.__setattr__(lacking, "times", times)
    text = as_plain(report(lacking))
    (row,) = [
        dict(zip(heads, rows[0], strict=True))
        for _, heads, rows in tables(report(lacking))
        if "x batch" in heads
    ]
    assert row["x batch"] == "-"
    assert "1 worker at context 1k: batch is left out." in text
    assert json.loads(as_json(report(lacking)))["cells"][0]["tokens_per_second_over"][BATCH] is None


def test_on_a_gpu_the_floor_is_told_by_the_copy() -> None:
    machine = {"kind": "cuda", "device": "H0", "threads": 1, "date": "2026-01-01"}
    _, (title, heads, rows), _ = tables(report(cell(), machine=machine))
    assert "copy bandwidth" in title
    assert rows[0][list(heads).index("floor")] == "100"


def test_one_thread_is_no_plural() -> None:
    for number, words in ((1, "on H0, 1 thread, "), (2, "on H0, 2 threads, ")):
        machine = {"kind": "cuda", "device": "H0", "threads": number, "date": "2026-01-01"}
        assert words in heading(report(cell(), machine=machine))


def test_many_noisy_cells_are_one_sentence() -> None:
    noisy = {SINGLE: timing(80, 100, 140)}
    made = report(cell(), *(cell(workers=number, times=noisy) for number in (2, 4, 8)))
    assert len(json.loads(as_json(made))["noise"]) == 3
    (said,) = [line for line in as_plain(made).splitlines() if "noisy" in line]
    assert said.startswith("Too noisy in 3 of 4 cells (context × workers: 1k × 2, 4, 8): a single ")


def test_noisy_cells_are_named_as_far_as_a_sentence_goes() -> None:
    noisy = {SINGLE: timing(80, 100, 140)}
    places = [(workers, context) for context in (1024, 4096) for workers in range(1, 7)]
    made = report(*(cell(workers=one, context=other, times=noisy) for one, other in places))
    (said,) = [line for line in as_plain(made).splitlines() if "noisy" in line]
    assert "1k × 1, 2, 3, 4, 5, 6; 4k × 1, 2; and 4 more, which --json names): a" in said


def test_plain_text_has_no_line_that_a_terminal_breaks() -> None:
    lines = as_plain(report(cell(), cell(workers=16, context=32768))).splitlines()
    numbers = [line for line in lines if re.match(r" *(\d+k|context) ", line)]
    assert len(numbers) == 9
    assert max(map(len, numbers)) <= 110


@pytest.mark.parametrize("width", [40, 80, 100, 300])
def test_tables_that_are_too_wide_go_on_below(width: int) -> None:
    whole = report(cell(), cell(workers=16, context=32768))
    lines = as_plain(whole, width).splitlines()
    titles = [title for title, _, _ in tables(whole)]
    starts = [lines.index(title) for title in titles]
    for (_, heads, rows), start in zip(tables(whole), starts, strict=True):
        block = lines[start + 1 : lines.index("", start)]
        assert max(map(len, block)) <= width
        pieces = [block[one : one + 3] for one in range(0, len(block), 3)]
        for number, row in enumerate((heads, *rows)):
            parts = [re.split(" {2,}", piece[number].strip()) for piece in pieces]
            assert all(part[:2] == list(row[:2]) for part in parts)
            assert [*row[:2], *(text for part in parts for text in part[2:])] == list(row)


@pytest.mark.parametrize("width", [160, 60])
def test_a_terminal_gets_the_same_numbers(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=width, record=True, file=io.StringIO())
    monkeypatch.setattr("rich.console.Console", lambda: console)
    noisy = report(cell(), cell(workers=4, times={SINGLE: timing(80, 100, 140)}))
    table.show(noisy)
    text = console.export_text()
    for _, heads, rows in tables(noisy):
        for row in (heads, *rows):
            if width > 100:
                assert re.search(r"[│┃\s]+".join(map(re.escape, row)), text), row
            assert all(part in text for part in row)
    assert width > 100 or max(map(len, re.findall(r"^ *(?:\d+k|context) .*", text, re.M))) <= width
    assert "Too noisy with 4 workers" in text


def test_the_plot_has_a_dot_for_every_contestant_and_cell() -> None:
    drawn = ElementTree.fromstring(as_svg(report(cell(2), cell(4), cell(4, 4096))))
    legend = 4
    assert len(drawn.findall(f"{SVG}circle")) == 3 * 3 + legend
    texts = [one.text for one in drawn.iter(f"{SVG}text")]
    assert "context 1k" in texts
    assert "context 4k" in texts


@pytest.mark.parametrize(("tokens", "text"), [(1024, "1k"), (32768, "32k"), (1000, "1000")])
def test_contexts_are_written_as_people_do(tokens: int, text: str) -> None:
    assert short(tokens) == text
