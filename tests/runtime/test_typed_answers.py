"""Typed answers: what fits is a value, what doesn't is asked for once more, and then told."""

from __future__ import annotations

from typing import Any, Literal, assert_type

import pytest
from pydantic import BaseModel

from hogwild_agents import (
    ActionTaken,
    AnswerError,
    CacheCoordinator,
    ConfigError,
    Event,
    Prompt,
    RunEnded,
    RunResult,
    Team,
    TypedResult,
)
from hogwild_agents.answer_type import AnswerType
from hogwild_agents.policies import StopOnAnswer
from hogwild_agents.testing import scripted_model

pytestmark = pytest.mark.anyio
PLAIN = Prompt(name="plain", description="", text="Think.")


class Point(BaseModel):
    """A place."""

    x: int
    y: int


def team(*steps: str) -> Team:
    return Team(
        scripted_model({"Ada": list(steps)}),
        workers=["Ada"],
        policies=[StopOnAnswer()],
        prompt=PLAIN,
    )


@pytest.mark.parametrize(
    ("type_", "answer", "value"),
    [
        (int, "42", 42),
        (float, "2.5", 2.5),
        (str, "a, b", "a, b"),
        (str, '"quoted"', "quoted"),
        (list[int], "7, 12, 3", [7, 12, 3]),
        (list[int], "[7, 12]", [7, 12]),
        (Literal["yes", "no"], "yes", "yes"),
        (Point, '{"x": 1, "y": 2}', Point(x=1, y=2)),
        (bool, "true", True),
    ],
)
def test_an_answer_is_read_as_its_type(type_: type, answer: str, value: object) -> None:
    assert AnswerType(type_).parse(answer) == value


def test_what_no_reading_fits_is_said_in_words() -> None:
    with pytest.raises(ValueError, match="unable to parse string as an integer"):
        AnswerType(int).parse("many")
    assert "field required" in str(AnswerType(Point).fault('{"x": 1}'))


@pytest.mark.parametrize("given", [1, "x", {"a": 1}, [1], 1.5])
def test_what_is_no_type_is_refused_in_one_sentence(given: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be the type of an answer") as refused:
        AnswerType(given)
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)


def test_a_type_that_pydantic_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be the type of an answer"):
        AnswerType(type("Odd", (), {}))
    with pytest.raises(ConfigError, match="cannot be the type of an answer"):
        Team(scripted_model({}), answer_type=type("Odd", (), {}))


async def test_a_fitting_answer_is_a_value() -> None:
    result = await team("I see it. \\boxed{7, 12}").solve("2 + 5?", answer_type=list[int])
    assert isinstance(result, TypedResult)
    assert result.parsed == [7, 12]
    assert (result.answer, result.author, result.reason) == ("7, 12", "Ada", "answer")


async def test_a_teams_type_is_that_of_all_its_runs() -> None:
    model = scripted_model({"Ada": "I see it. \\boxed{7, 12}"})
    async with CacheCoordinator(model.engine) as coordinator:
        typed = Team(
            model,
            workers=["Ada"],
            policies=[StopOnAnswer()],
            coordinator=coordinator,
            answer_type=list[int],
        )
        result = await typed.solve("2 + 5?")
        assert_type(result, TypedResult[list[int]])
        assert result.parsed == [7, 12]
        async for one in coordinator.map(typed.solve, ["2 + 5?", "3 + 4?"]):
            assert_type(one, TypedResult[list[int]])
            assert one.parsed == [7, 12]
        other = await typed.solve("2 + 5?", answer_type=str)
        assert_type(other, TypedResult[str])
        assert other.parsed == "7, 12"
        plain: Team = typed
        assert_type(await plain.solve("2 + 5?"), RunResult)


async def test_the_runs_of_a_team_with_a_type_ask_for_it() -> None:
    model = scripted_model({"Ada": ["It is far. \\boxed{far}", "12}"]})
    typed = Team(model, workers=["Ada"], policies=[StopOnAnswer()], answer_type=int)
    events = [event async for event in typed.stream("How far?")]
    assert isinstance(events[-1], RunEnded)
    assert events[-1].result.answer == "12"


async def test_an_answer_that_does_not_fit_is_asked_for_once_more() -> None:
    events: list[Event] = []
    model = team("It is far. \\boxed{far}", '{"x": 1, "y": 2}}')
    result = await model.solve("Where?", answer_type=Point, on_event=events.append)
    assert result.parsed == Point(x=1, y=2)
    (retry,) = [e for e in events if isinstance(e, ActionTaken) and e.policy == "AnswerType"]
    assert "cannot be read" in str(retry.action)
    assert result.texts["Ada"].count("\\boxed{") == 2


async def test_a_second_misfit_fails_with_what_was_written() -> None:
    with pytest.raises(AnswerError, match=r"which is no list\[int\], because") as caught:
        await team("So. \\boxed{many}", "lots}").solve("How many?", answer_type=list[int])
    assert "many" in caught.value.result.texts["Ada"]


@pytest.mark.parametrize(
    ("answer", "reason", "advice"),
    [
        (None, "ticks", "without an answer, so with no int: give it more time, or a Finisher"),
        (None, "finisher", "give it more time, or its Finisher more max_tokens"),
        ("far", "finisher", "give it more time to come to an answer by itself, or another type"),
        ("far", "answer", "say in the problem what the answer looks like, or give another type"),
    ],
)
def test_what_is_advised_fits_what_happened(answer: str | None, reason: str, advice: str) -> None:
    result = RunResult(
        answer=answer, author=None, reason=reason, texts={}, steps=(), ticks=3, tokens=9, seconds=1
    )
    with pytest.raises(AnswerError) as caught:
        AnswerType(int).result(result)
    assert str(caught.value).startswith(f"The run ended ({reason}) with")
    assert str(caught.value).endswith(f"{advice}.")
    assert caught.value.result is result


async def test_a_model_is_described_to_the_workers_and_plain_types_are_not() -> None:
    seen = AnswerType(Point).describe("Where?")
    assert seen.startswith("Where?")
    assert '"properties"' in seen
    assert AnswerType(list[int]).describe("Where?") == "Where?"
