"""The plain view: the problem, a line for each finished step with its author, and the answer."""

from __future__ import annotations

import io

import pytest

from hogwild_agents.cli.plain import PlainView
from hogwild_agents.cli.progress import Progress
from hogwild_agents.events import Event, LimitReached, RunEnded, TokensWritten, WorkerLeft
from tests.cli.scripted import PROBLEM, result_of, script


def shown(events: list[Event]) -> str:
    out = io.StringIO()
    view = PlainView(out, Progress(quiet=True))
    with view:
        for event in events:
            view.handle(event)
            view.refresh()
    view.conclude()
    return out.getvalue()


def test_run_in_lines() -> None:
    assert shown([*script(), RunEnded(result=result_of())]) == (
        f"Problem: {PROBLEM}\n"
        "Carol [1]: b) taken.\n"
        "Alice [1]: a) 7 + 1 = 8 - 3 = 5 + 2 = 7.\n"
        "Bob [1]: f) 15 + 6 = 21 - 2 = 19 + 2 = 21.\n"
        "Carol [2]: c) 2 + 9 = 11 - 8 = 3 + 2 = 5.\n"
        "Bob [2]: e) 9 + 3 = 12.\n"
        "Alice [2]: b) 4 + 9 = 13 - 6 = 7.\n"
        "Bob [3]: d) taken.\n"
        "Alice [3]: d) 12 - 4 = 8 + 9 = 17.\n"
        "Alice [4]: ... ... ... \\boxed{7, 7, 5, 17, 12, 21} …\n"
        "Bob [4]: ... ... ... ... ... ... ... ... ... ... ... …\n"
        "Carol [3]: ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... ... …\n"
        "(Boxed by Alice · 47 ticks · 133 tokens · 2.4 s · 57 tokens/s)\n"
        "Answer: 7, 7, 5, 17, 12, 21\n"
    )


def test_lines_of_a_step_stand_below_each_other() -> None:
    lines = shown(list(script({"Al": ["Look:\n```\nx\n```\nSo."]}))).splitlines()
    assert lines[1].startswith("Al [1]: Look:")
    assert all(line.startswith(" " * 8) for line in lines[2:5])


def test_lines_of_a_problem_stand_below_each_other() -> None:
    begin, *_ = script(problem="Add:\n\n7 + 1\n")
    assert shown([begin]).startswith("Problem: Add:\n\n         7 + 1\n(")


def test_empty_lines_of_a_step_stay_empty() -> None:
    texts = ("**Al [1]:** ", "So.\n\nWait")
    begin, *_ = script({"Al": ["So."]})
    events = [
        TokensWritten(worker="Al", step=1, tick=9, tokens=(1,), text=text, source="forced")
        for text in texts
    ]
    assert "\nAl [1]: So.\n\n        Wait …\n" in shown([begin, *events])


@pytest.mark.parametrize(
    ("reason", "limit", "verdict"),
    [
        ("interrupted", None, "(Interrupted · "),
        ("ticks", "ticks", "(The budget of ticks is spent · "),
        ("finisher", "cache", "(The cache is full · "),
        ("my own words", None, "(My own words · "),
    ],
)
def test_end_without_an_answer(reason: str, limit: str | None, verdict: str) -> None:
    limits: list[Event] = [LimitReached(limit=limit, tick=9)] if limit else []
    result = result_of(answer=None, author=None, reason=reason)
    lines = shown([*script(), *limits, RunEnded(result=result)]).splitlines()
    assert lines[-1] == "No answer"
    assert lines[-2].startswith(verdict)


def test_one_tick_is_one_tick() -> None:
    result = result_of(ticks=1, tokens=1, seconds=0.1)
    lines = shown([*script(), RunEnded(result=result)])
    assert "(Boxed by Alice · 1 tick · 1 token · " in lines


def test_conclusion_names_its_reason() -> None:
    result = result_of(reason="finisher", author="Carol")
    lines = shown([*script(), LimitReached(limit="ticks", tick=9), RunEnded(result=result)])
    assert "(Concluded by Carol: the budget of ticks is spent · " in lines


def test_failed_worker_is_told() -> None:
    failed = WorkerLeft(worker="Bob", tick=3, error="ValueError: no")
    assert "(Bob left: ValueError: no)\n" in shown([*script(), failed])


def test_text_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in shown(list(script({"Al\x1b[2J": ["\x1b[2J\x07", "\x1b]0;x\x07"]})))
