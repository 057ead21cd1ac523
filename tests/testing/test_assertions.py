"""Assertions: silent where they hold, one sentence where they don't."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogwild_agents import (
    Feed,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    read_transcript,
)
from hogwild_agents.testing import (
    Recorder,
    assert_integrity,
    assert_order,
    assert_said,
    scripted_model,
    tiny_model,
)
from tests.testing.rig import PROBLEM, make_team

pytestmark = pytest.mark.anyio

SCRIPTS = {"Alice": ["One.\n\n", "Two."], "Bob": "Only this, but in many words."}


async def test_who_said_what_is_found_in_every_kind_of_record(tmp_path: Path) -> None:
    recorder = Recorder()
    team = make_team(scripted_model(SCRIPTS))
    result = await team.solve(PROBLEM, on_event=recorder, transcript=tmp_path / "t.jsonl")
    for record in (recorder, recorder.events, result, read_transcript(tmp_path / "t.jsonl")):
        assert_said(record, "Alice", "One.\n\n**Alice [2]:** Two.")
        with pytest.raises(AssertionError, match=r"^Alice has not written 'Only', but '\*\*Alice"):
            assert_said(record, "Alice", "Only")
        with pytest.raises(AssertionError, match=r"^Carol has written nothing; .* Alice, Bob\.$"):
            assert_said(record, "Carol", "Only")


async def test_order_is_that_of_the_events() -> None:
    recorder = Recorder()
    await make_team(scripted_model(SCRIPTS)).solve(PROBLEM, on_event=recorder)
    assert_order(recorder)
    assert_order(
        recorder,
        RunStarted,
        ("Alice", "One."),
        ("Bob", "Only"),
        StepEnded,
        lambda event: isinstance(event, TickEnded) and event.tick > 7,
        ("Alice", "Two."),
        ("Bob", "many words."),
        RunEnded,
    )
    with pytest.raises(
        AssertionError,
        match=r"^Of 3 moments in order, 2 came: after 'Two\.' by Alice there is no 'Only' by Bob\.",
    ):
        assert_order(recorder, StepEnded, ("Alice", "Two."), ("Bob", "Only"))
    with pytest.raises(AssertionError, match="0 came: there is no 'Three' by Alice"):
        assert_order(recorder, ("Alice", "Three"))
    with pytest.raises(AssertionError, match="after StepEnded there is no StepEnded"):
        assert_order(recorder, StepEnded, StepEnded)


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(TypeError, match="7 is no event: give a Recorder"):
        assert_said([7], "Alice", "x")  # type: ignore[list-item]


def test_integrity_is_that_of_the_cache() -> None:
    with tiny_model().engine as engine:
        assert_integrity(engine, used_tokens=0)
        block = engine.block("text")
        engine.forward([Feed(block, [block], [1, 2, 3])])
        assert_integrity(engine, used_tokens=3)
        with pytest.raises(AssertionError, match=r"holds 3 tokens, but should hold 0\.$"):
            assert_integrity(engine, used_tokens=0)
        block._tokens.append(4)
        with pytest.raises(AssertionError, match=r"The cache is not whole: .* owns 3 slots"):
            assert_integrity(engine)
        block._tokens.pop()
