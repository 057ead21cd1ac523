"""Frame: always as large as asked for, everything in its place, forced text told from sampled."""

from __future__ import annotations

import io
from itertools import islice

import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console, Group
from rich.text import Text

from hogwild_agents.cli.frame import Frame, Title, clock, grid
from hogwild_agents.cli.record import Record
from hogwild_agents.events import LimitReached, RunEnded, WorkerLeft
from tests.cli.scripted import SUMS, result_of, script

TITLE = Title(facts=("bundled", "combined", "seed 0"), budget=4096)
NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi", "Worker9")
PROSE = [
    "The sum telescopes, since 1/(n(n+1)) = 1/n - 1/(n+1), and only the ends of it survive.",
    "⟨Quick check: am I doing redundant work? (yes/no): ⟩no. I go on with the even terms.",
    "```python\nfor n in range(4):\n    print(中文(n))\n```\nIt prints what it should.",
]

EXPECTED = """\
 hogwild                                            bundled · combined · seed 0
 Tasks: a) 7 + 1 - 3 + 2 b) 4 + 9 - 6 c) 2 + 9 - 8 + 2 d) 12 - 4 + 9 e) 9 + 3
 f) 15 + 6

─ Alice ──────────────────┬─ Bob ────────────────────┬─ Carol ──────────────────
 **Alice [2]:** b) 4 + 9  │ **Bob [3]:** d)▌         │ **Carol [3]:** ... ...
 = 13 - 6 =▌              │                          │ ... ... ...▌
                          │  2  e) 9 + 3 = 12.       │
  1  a) 7 + 1 = 8 - 3 =…  │  1  f) 15 + 6 = 21 - 2…  │  2  c) 2 + 9 = 11 - 8 …
                          │                          │  1  b) taken.
                          │                          │
                          │                          │
─ Past steps · seen by all 5 ────────────────────────┴──────────────────────────
 **Carol [1]:** b) taken.
 **Alice [1]:** a) 7 + 1 = 8 - 3 = 5 + 2 = 7.
 **Bob [1]:** f) 15 + 6 = 21 - 2 = 19 + 2 = 21.
 **Carol [2]:** c) 2 + 9 = 11 - 8 = 3 + 2 = 5.
 **Bob [2]:** e) 9 + 3 = 12.




────────────────────────────────────────────────────────────────────────────────
 tick 26 of 4,096   70 tokens   56 tokens/s   0:01               italic: forced
"""


def at(stop: int | None, steps: object = SUMS, **options: object) -> tuple[Record, Frame]:
    """A record after so many events, and its frame."""
    record = Record()
    frame = Frame(record, TITLE)
    for event in islice(script(steps, **options), stop):  # type: ignore[arg-type]
        record.handle(event)
    return record, frame


def plain(lines: list[Text]) -> str:
    return "\n".join(line.plain.rstrip() for line in lines) + "\n"


def styles(line: Text, part: str) -> set[str]:
    """The styles that hold at the first character of a part of a line."""
    index = line.plain.index(part)
    return {str(span.style) for span in line.spans if span.start <= index < span.end and span.style}


def test_looks_like_this() -> None:
    _, frame = at(110)
    assert plain(frame.draw(80, 24)) == EXPECTED


@settings(max_examples=60)
@given(
    width=st.integers(1, 220),
    height=st.integers(1, 70),
    team=st.integers(1, 9),
    events=st.integers(0, 400),
    tight=st.booleans(),
)
def test_has_the_size_that_was_asked_for(
    width: int, height: int, team: int, events: int, tight: bool
) -> None:
    _, frame = at(events, dict.fromkeys(NAMES[:team], PROSE))
    lines = frame.draw(width, height, tight=tight)
    assert len(lines) <= height if tight else len(lines) == height
    assert all(line.cell_len == width for line in lines)
    assert all("\n" not in line.plain for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (160, 45), (40, 30)])
@pytest.mark.parametrize("team", [1, 2, 3, 4, 6, 8])
def test_every_worker_has_a_pane_that_stays(width: int, height: int, team: int) -> None:
    record = Record()
    frame = Frame(record, TITLE)
    places = set()
    for event in script(dict.fromkeys(NAMES[:team], PROSE)):
        record.handle(event)
        text = plain(frame.draw(width, height))
        rows = text.splitlines()
        heads = [row for row, line in enumerate(rows) if line.startswith("─ ")]
        places.add((tuple(heads), rows[heads[0]].index("Alice")))
        assert all(f" {name} " in text for name in NAMES[:team])
    assert len(places) == 1


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
def test_forced_text_is_told_from_sampled(size: tuple[int, int]) -> None:
    _, frame = at(40, {"Alice": [PROSE[1]]})
    line = next(line for line in frame.draw(*size) if "Quick check" in line.plain)
    assert styles(line, "**Alice") == {"italic cyan"}
    assert styles(line, "Quick") == {"italic yellow"}
    assert not styles(line, "no. I go")
    assert styles(frame.draw(*size)[-1], "forced") == {"italic yellow"}


def test_the_legend_says_in_words_what_styles_mean() -> None:
    _, frame = at(110)
    wide, narrow = (frame.draw(width, 24)[-1] for width in (100, 70))
    for line in (wide, narrow):
        assert " 56 tokens/s   0:01 " in line.plain
        assert styles(line, "italic: forced") == {"italic yellow"}
    assert wide.plain.endswith(" plain: sampled · italic: forced ")
    assert not styles(wide, "plain: sampled")
    assert narrow.plain.endswith(" italic: forced ")


def test_history_shows_the_latest_steps() -> None:
    steps = {"Alice": [f"step number {number}." for number in range(60)]}
    _, frame = at(None, steps)
    text = plain(frame.draw(80, 24))
    assert "step number 58." in text
    assert "step number 3." not in text


def test_the_frame_that_stays_tells_how_many_steps_it_lacks() -> None:
    steps = {"Alice": [f"step number {number}." for number in range(60)]}
    _, frame = at(None, steps)
    lines = plain(frame.draw(80, 24, tight=True)).splitlines()
    (title,) = [line for line in lines if "Past steps" in line]
    below = lines[lines.index(title) :]
    written = 59  # the last one is not finished
    shown = sum("step number" in line for line in below)
    assert 0 < shown < written
    assert f" seen by all {written} · {written - shown} earlier ─" in title
    assert "earlier" not in plain(frame.draw(80, 200, tight=True))
    assert "earlier" not in plain(frame.draw(80, 24)), "it would change all the time"


def test_unfinished_step_shows_its_end() -> None:
    _, frame = at(None, {"Alice": [" ".join(f"word{n}" for n in range(500))]})
    text = plain(frame.draw(80, 24))
    assert "word499▌" in text
    assert "word3 " not in text


@pytest.mark.parametrize(
    ("layout", "title"),
    [
        ("combined", "Past steps · seen by all"),
        ("interleaved", "Past steps · all that the others see"),
        ("contiguous", "Finished steps · seen by all"),
        ("isolated", "Finished steps · seen by their authors only"),
        ("my-own", "Finished steps "),
    ],
)
def test_history_is_called_what_it_is(layout: str, title: str) -> None:
    _, frame = at(None, layout=layout)
    assert title in plain(frame.draw(80, 24))


def test_who_has_left_writes_no_more() -> None:
    record, frame = at(110)
    record.handle(WorkerLeft(worker="Bob", tick=30, error="ValueError: no"))
    record.handle(WorkerLeft(worker="Carol", tick=30))
    text = plain(frame.draw(80, 24))
    assert "─ Bob failed ─" in text
    assert "─ Carol left ─" in text
    assert text.count("▌") == 1
    assert "─ Carol left" in text


def test_notice_stands_in_the_line_below() -> None:
    record, frame = at(110)
    before = plain(frame.draw(80, 24)).splitlines()
    record.handle(LimitReached(limit="ticks", tick=26))
    after = plain(frame.draw(80, 24)).splitlines()
    assert after[-2].startswith("─ the limit of ticks is reached ─")
    assert after[:-2] + after[-1:] == before[:-2] + before[-1:]


def test_before_the_run_it_says_what_goes_on() -> None:
    frame = Frame(Record(), TITLE)
    frame.waiting = "Reading the prompt · 512 tokens"
    assert "Reading the prompt · 512 tokens" in plain(frame.draw(80, 24))


def test_end_has_no_cursor() -> None:
    record, frame = at(None)
    record.handle(RunEnded(result=result_of()))
    text = plain(frame.draw(80, 20, tight=True))
    assert "▌" not in text
    assert "tick 47 of 4,096   133 tokens" in text


def test_console_prints_it_as_it_is() -> None:
    """What the lines say is what a terminal gets: nothing is wrapped, marked up or highlighted."""
    steps = {"Alice": ["[bold]no markup[/bold] :smile: 'x' 12 http://example.org"], "Bob": PROSE}
    _, frame = at(None, steps)
    lines = frame.draw(80, 24)
    console = Console(file=io.StringIO(), width=80, height=24, record=True, legacy_windows=False)
    console.print(Group(*lines), end="")
    printed = console.export_text().splitlines()
    assert [line.rstrip() for line in printed] == plain(lines).splitlines()


def test_grid_is_balanced() -> None:
    assert [grid(number, 80) for number in (1, 2, 3, 4, 5, 6, 8)] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (2, 2),
        (3, 2),
        (3, 2),
        (3, 3),
    ]
    assert grid(3, 20) == (1, 3)


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0.9, 61, 3600 + 62)] == ["0:00", "1:01", "1:01:02"]
