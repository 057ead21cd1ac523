"""Record: what views know, folded from events."""

from __future__ import annotations

from itertools import takewhile

import pytest

from hogwild_agents.actions import Action, Conclude, Finish, Say
from hogwild_agents.cli.record import Record, printable
from hogwild_agents.events import (
    ActionTaken,
    LimitReached,
    PolicyFailed,
    RunEnded,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerLeft,
)
from hogwild_agents.result import RunResult
from tests.cli.scripted import SUMS, result_of, script


def folded(**options: object) -> Record:
    record = Record()
    for event in script(**options):  # type: ignore[arg-type]
        record.handle(event)
    return record


def test_steps_stand_in_the_order_in_which_they_ended() -> None:
    record = folded()
    ended = [event for event in script() if isinstance(event, StepEnded)]
    assert [(step.worker, step.number, step.text) for step in record.steps] == [
        (event.worker, event.step, event.text) for event in ended
    ]
    assert [worker.current.body for worker in record.workers.values()] == [
        texts[-1] for texts in SUMS.values()
    ]


def test_numbers_are_those_of_the_last_tick() -> None:
    record = folded(tick_seconds=0.1)
    ticks = [event for event in script(tick_seconds=0.1) if isinstance(event, TickEnded)]
    assert (record.tick, record.tokens) == (ticks[-1].tick, ticks[-1].tokens)
    assert record.seconds == pytest.approx(ticks[-1].seconds)


def test_rate_is_that_of_the_last_moments() -> None:
    record = Record()
    for tick in range(1, 101):
        slow = max(tick - 50, 0)
        tokens = 10 * tick - 5 * slow
        record.handle(TickEnded(tick=tick, seconds=0.1 * tick, tokens=tokens))
    assert record.tokens_per_second == pytest.approx(50)


def test_forced_text_is_told_from_sampled() -> None:
    record = Record()
    steps = {"Alice": ["⟨Quick check: redundant? ⟩no. Going on."]}
    for event in takewhile(lambda event: not isinstance(event, StepEnded), script(steps)):
        record.handle(event)
    step = record.workers["Alice"].current
    assert step.spans[0].source == step.spans[1].source == "forced"
    assert step.body == "Quick check: redundant? no. Going on."
    assert step.sampled == "no. Going on."


@pytest.mark.parametrize(
    ("action", "notice"),
    [
        (Say(worker="Bob", text="Look!"), "Coach speaks to Bob"),
        (Conclude(text="So: "), "Coach lets the last worker conclude"),
        (Conclude(text="So: ", worker="Bob"), "Coach lets Bob conclude"),
        (Finish(answer="7", author="Bob"), "Coach takes the answer of Bob"),
        (Finish(), "Coach ends the run"),
    ],
)
def test_actions_are_noticed(action: Action, notice: str) -> None:
    record = Record()
    record.handle(ActionTaken(policy="Coach", action=action, tick=3))
    assert record.notice == notice


def test_failures_and_limits_are_noticed() -> None:
    record = folded()
    record.handle(PolicyFailed(policy="Watch", error="boom", tick=3))
    assert record.notice == "Watch failed: boom"
    record.handle(WorkerLeft(worker="Bob", tick=3, error="ValueError: no"))
    assert record.notice == "Bob left: ValueError: no"
    assert (record.workers["Bob"].left, record.workers["Alice"].left) == (True, False)
    record.handle(LimitReached(limit="ticks", tick=9))
    assert record.limit == "ticks"


def test_result_has_the_last_word() -> None:
    record = folded()
    result: RunResult = result_of(ticks=99, tokens=300, seconds=3.0)
    record.handle(RunEnded(result=result))
    assert (record.tick, record.tokens, record.tokens_per_second) == (99, 300, 100.0)


def test_empty_pieces_leave_no_trace() -> None:
    record = folded()
    before = len(record.workers["Bob"].current.spans)
    record.handle(
        TokensWritten(
            worker="Bob",
            step=record.workers["Bob"].current.number,
            tick=40,
            tokens=(7,),
            text="",
            source="sampled",
        )
    )
    assert len(record.workers["Bob"].current.spans) == before


def test_text_cannot_steer_the_terminal() -> None:
    hostile = "\x1b[2J\x07\x9b31m\x7f\r a\tb\n"
    shown = printable(hostile)
    assert not [c for c in shown if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0]
    assert shown.endswith("b\n")
