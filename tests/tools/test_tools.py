"""Tools: schemas from signatures, checked arguments, and nothing but text when it fails."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import anyio
import pytest
from anyio import from_thread
from anyio.lowlevel import checkpoint
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field

from hogwild_agents.errors import ConfigError
from hogwild_agents.tools import Tool, ToolCall, ToolResult, call_tools, make_tools

pytestmark = pytest.mark.anyio


class Unit(Enum):
    METRE = "m"
    FOOT = "ft"


class Place(BaseModel):
    name: str
    height: float = 0.0


@dataclass
class Weather:
    city: str
    degrees: list[float]


async def add(a: int, b: int = 2) -> int:
    """Adds two numbers.

    Args:
        a: the first
            of them.
        b (int): the second.

    Returns:
        their sum.
    """
    return a + b


def slow(seconds: float) -> str:
    """Sleeps in its thread."""
    time.sleep(seconds)
    return "slept"


async def one(tool: Tool | Callable[..., Any], **arguments: Any) -> ToolResult:
    (made,) = make_tools([tool])
    (result,) = await call_tools([made], [ToolCall(name=made.name, arguments=arguments)])
    assert result.failed is result.text.startswith("Error: ")
    return result


async def told(tool: Tool | Callable[..., Any], **arguments: Any) -> str:
    """What a call comes to; a failure is one sentence."""
    result = await one(tool, **arguments)
    if result.failed:
        assert result.text.endswith(".")
        assert "\n" not in result.text
    return result.text


# -- what a model is told of a tool


def test_schema_comes_from_signature_and_docstring() -> None:
    assert Tool(add).schema == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "the first of them."},
                    "b": {"type": "integer", "default": 2, "description": "the second."},
                },
                "required": ["a"],
            },
        },
    }


def test_schema_speaks_of_what_types_allow() -> None:
    def find(
        title: str,
        kind: Literal["a", "b"],
        count: Annotated[int, Field(gt=0, description="how many")],
        place: Place | None = None,
        unit: Unit = Unit.METRE,
    ) -> None: ...

    parameters = Tool(find).parameters
    properties = parameters["properties"]
    assert properties["title"] == {"type": "string"}
    assert properties["kind"]["enum"] == ["a", "b"]
    assert properties["count"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "description": "how many",
    }
    assert parameters["required"] == ["title", "kind", "count"]
    assert parameters["$defs"]["Place"]["properties"]["name"] == {"type": "string"}
    json.dumps(parameters)


def test_a_name_and_a_description_of_ones_own_take_precedence() -> None:
    tool = Tool(lambda: 1, "one", "Gives one.")
    assert (tool.name, tool.description, tool.parameters["properties"]) == ("one", "Gives one.", {})
    assert repr(tool) == "Tool('one')"


class Clock:
    def now(self, zone: str) -> str:
        """Tells the time."""
        return f"noon in {zone}"

    async def __call__(self, zone: str) -> str:
        return f"called in {zone}"


def test_methods_partials_and_objects_can_be_tools() -> None:
    assert Tool(Clock().now).parameters["required"] == ["zone"]
    assert Tool(Clock().now).description == "Tells the time."
    assert "required" not in Tool(functools.partial(add, 1, b=3), "add_one").parameters
    assert Tool(functools.partial(add, 1), "add_one").description == "Adds two numbers."
    assert Tool(Clock(), "clock").parameters["required"] == ["zone"]


async def test_methods_partials_and_objects_are_called() -> None:
    assert await told(Clock().now, zone="Rome") == "noon in Rome"
    assert await told(Tool(Clock(), "clock"), zone="Rome") == "called in Rome"
    assert await told(Tool(functools.partial(add, 1), "add_one"), b=5) == "6"


def untyped(a) -> None:  # type: ignore[no-untyped-def]
    ...


def of_thread(a: threading.Thread) -> None: ...
def of_callable(a: Callable[[], int]) -> None: ...
def of_unknown(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def of_many(*numbers: int) -> None: ...
def of_options(**options: int) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tool(untyped), "The parameter a of the tool untyped has no type"),
        (lambda: Tool(of_thread), "has a type that pydantic does not know"),
        (lambda: Tool(of_callable), "has a type without a JSON schema"),
        (lambda: Tool(of_unknown), "The signature of the tool of_unknown cannot be read"),
        (lambda: Tool(of_many), r"takes \*numbers: int, but"),
        (lambda: Tool(of_options), r"takes \*\*options: int, but"),
        (lambda: Tool(lambda: 1), "A tool is called '<lambda>'"),
        (lambda: Tool(add, name="my tool"), "A tool is called 'my tool'"),
        (lambda: Tool(add, timeout=0), "timeout of add is 0, but must be a number of seconds"),
        (lambda: Tool(add, timeout="9"), "timeout of add is '9', but must be a number"),  # type: ignore[arg-type]
        (lambda: Tool(add, timeout=True), "timeout of add is True, but must be a number"),
        (lambda: Tool(add, max_characters=1.5), "max_characters of add is 1.5, but must be a"),  # type: ignore[arg-type]
        (lambda: Tool(add, timeout=float("nan")), "timeout of add is nan"),
        (lambda: Tool(add, max_characters=0), "max_characters of add is 0"),
        (lambda: Tool("add"), "A tool is 'add', but must be a function or a Tool"),  # type: ignore[arg-type]
        (lambda: make_tools(add), "give a list"),  # type: ignore[arg-type]
        (lambda: make_tools([add, Tool(slow, "add")]), "Two tools are called 'add'"),
    ],
)
def test_what_cannot_serve_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# -- arguments


async def test_arguments_arrive_as_their_types_say() -> None:
    seen: list[object] = []

    def take(day: date, place: Place, unit: Unit, tags: set[int], *, model_config: str) -> None:
        seen.extend([day, place, unit, tags, model_config])

    arguments: dict[str, Any] = {
        "day": "2026-02-03",
        "place": {"name": "Rome"},
        "unit": "ft",
        "tags": [1, 1, 2],
        "model_config": "a name that pydantic has, too",
    }
    assert await told(take, **arguments) == "null"
    assert seen == [
        date(2026, 2, 3),
        Place(name="Rome"),
        Unit.FOOT,
        {1, 2},
        "a name that pydantic has, too",
    ]


async def test_positional_only_parameters_and_defaults_are_kept() -> None:
    sentinel = object()

    def take(a: int, /, b: Annotated[Any, Field()] = sentinel) -> bool:
        return b is sentinel

    assert await told(take, a=1) == "true"

    def last(a: int = 1, b: int = 2, /, c: int = 3) -> list[int]:
        return [a, b, c]

    assert await told(last, b=5) == "[1,5,3]"


async def test_a_text_is_read_as_json_only_where_no_text_may_stand() -> None:
    async def take(
        number: int, numbers: list[float], text: str, either: int | str, unit: Unit
    ) -> Any:
        return [number, numbers, text, either, unit]

    given: dict[str, Any] = {
        "number": "3",
        "numbers": "[1, 2.5]",
        "text": "[1]",
        "either": "4",
        "unit": "m",
    }
    assert await told(take, **given) == '[3,[1.0,2.5],"[1]","4","m"]'


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "a is missing: its arguments are a, b"),
        ({"a": 1, "c": 2}, "there is no argument c: its arguments are a, b"),
        ({"a": "x"}, "a is 'x' (input should be a valid integer"),
        ({"a": 1.5}, "a is 1.5 (input should be"),
        ({"a": None}, "a is None (input should be"),
        ({"a": "x" * 999}, "a is 'xxx"),
        ({"a": [1] * 4000, "b": "y", "c": 1, "d": 1}, "and 1 more things are wrong"),
        ({"a": "\ud800"}, "not called"),
    ],
)
async def test_wrong_arguments_are_told(arguments: dict[str, Any], problem: str) -> None:
    text = await told(add, **arguments)
    assert text.startswith("Error: add was not called, because ")
    assert problem in text
    assert len(text) < 600


@given(st.dictionaries(st.text(max_size=3), st.from_type(object) | st.text(), max_size=4))
def test_whatever_the_arguments_are_the_answer_is_text(arguments: dict[str, Any]) -> None:
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        return
    result = anyio.run(functools.partial(Tool(add).call, arguments))
    result.text.encode()


# -- what goes wrong


async def test_an_exception_is_told_and_goes_no_further() -> None:
    def fail(message: str) -> None:
        raise LookupError(message)

    async def fail_in_group() -> None:
        async with anyio.create_task_group():
            raise OSError("no\nnetwork.")

    async def fail_silently() -> None:
        raise RuntimeError

    assert await told(fail, message="gone.") == "Error: fail failed with LookupError: gone."
    text = await told(fail_in_group)
    assert text == "Error: fail_in_group failed with OSError: no network."
    assert await told(fail_silently) == "Error: fail_silently failed with RuntimeError."
    assert len(await told(fail, message="x" * 9999)) < 600


async def test_an_unknown_tool_and_a_broken_call_are_told() -> None:
    calls = [ToolCall(name="ad"), ToolCall(name="add", broken="its JSON is broken (oh)")]
    unknown, broken = await call_tools([Tool(add), Tool(slow)], calls)
    assert unknown.text == "Error: There is no tool 'ad': the tools are add, slow."
    assert broken.text == "Error: The call cannot be read, because its JSON is broken (oh)."
    assert unknown.failed
    assert broken.failed


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    cancelled: list[bool] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    text = "Error: wait was given up, because it took longer than 0.01 seconds."
    assert await told(Tool(wait, timeout=0.01)) == text
    assert cancelled == [True]
    with anyio.fail_after(1):  # nobody waits for the thread
        assert "given up" in await told(Tool(slow, timeout=0.01), seconds=1.5)


async def test_a_tool_may_raise_a_timeout_of_its_own() -> None:
    async def inner() -> None:
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()

    assert await told(inner) == "Error: inner failed with TimeoutError."


def test_a_tool_that_is_cancelled_from_within_says_so() -> None:
    async def give_up() -> None:
        raise anyio.get_cancelled_exc_class()  # as where it awaits a task that was cancelled

    result = anyio.run(one, give_up, backend="asyncio")
    assert result.text == "Error: give_up was cancelled by something in it."


async def test_many_threads_that_hang_hold_up_nobody() -> None:
    gate = threading.Event()

    def hang() -> None:
        gate.wait(20)

    try:
        calls = [ToolCall(name="hang")] * 60
        results = await call_tools([Tool(hang, timeout=0.05)], calls)
        assert all("given up" in result.text for result in results)
        assert await told(slow, seconds=0) == "slept"
        assert await anyio.to_thread.run_sync(lambda: 1) == 1
    finally:
        gate.set()


async def test_a_tool_in_a_thread_can_call_back() -> None:
    async def answer() -> str:
        return "from the loop"

    def ask() -> str:
        return from_thread.run(answer)

    assert await told(ask) == "from the loop"


async def test_what_a_thread_returns_may_be_awaited() -> None:
    @functools.wraps(add)
    def decorated(*args: Any, **options: Any) -> Any:
        return add(*args, **options)

    assert await told(decorated, a=1) == "3"


# -- results


class Odd:
    """No JSON."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("", ""),
        (None, "null"),
        (1.5, "1.5"),
        ("a\ud800b", "a?b"),
        ({"é": (1, None)}, '{"é":[1,null]}'),
        (Place(name="Rome"), '{"name":"Rome","height":0.0}'),
        (Weather("Rome", [1.0]), '{"city":"Rome","degrees":[1.0]}'),
        (date(2026, 2, 3), '"2026-02-03"'),
        (Unit.FOOT, '"ft"'),
    ],
)
async def test_results_are_strings_or_json(value: Any, text: str) -> None:
    assert (await one(Tool(lambda: value, "give"))).text == text


async def test_what_is_no_json_is_told() -> None:
    text = await told(Tool(Odd, "odd"))
    assert text.startswith("Error: odd returned a value (Odd) that cannot be written as JSON (")
    loop: list[Any] = []
    loop.append(loop)
    assert "cannot be written as JSON" in await told(Tool(lambda: loop, "loop"))
    assert "cannot be written as JSON" in await told(Tool(lambda: b"\xff", "bytes"))


async def test_long_results_are_cut_with_a_note() -> None:
    assert await told(Tool(lambda: "x" * 10, "give", max_characters=10)) == "x" * 10
    text = await told(Tool(lambda: "x" * 11, "give", max_characters=10))
    assert text == "x" * 10 + "... (cut: these are the first 10 of 11 characters)"
    assert len(await told(Tool(lambda: "x" * 99_999, "give"))) < 4100


# -- several at once


async def test_calls_run_at_once_and_results_keep_their_order() -> None:
    inside, most = 0, 0

    @contextmanager
    def counted() -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        yield
        inside -= 1

    async def wait(turns: int) -> int:
        with counted():
            for _ in range(turns):
                await checkpoint()
        return turns

    calls = [ToolCall(name="wait", arguments={"turns": turns}) for turns in (9, 3, 6)]
    calls.append(ToolCall(name="none"))
    *results, last = await call_tools([Tool(wait)], calls)
    assert [result.text for result in results] == ["9", "3", "6"]
    assert last.failed
    assert most == 3


async def test_cancellation_passes_and_leaves_nothing_behind() -> None:
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await anyio.sleep_forever()
        except Exception:
            pytest.fail("a tool's cancellation is no exception")
        finally:
            ended.append(number)

    calls = [ToolCall(name="wait", arguments={"number": number}) for number in range(3)]
    with anyio.move_on_after(0.01) as scope:
        await call_tools([Tool(wait)], calls)
    assert scope.cancelled_caught
    assert sorted(ended) == [0, 1, 2]


async def test_cancellation_does_not_wait_for_a_thread() -> None:
    started = time.monotonic()
    with anyio.move_on_after(0.01) as scope:
        await told(slow, seconds=1.5)
    assert scope.cancelled_caught
    assert time.monotonic() - started < 1
