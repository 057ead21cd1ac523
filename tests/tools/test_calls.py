"""Calls are found in a growing text, wherever it is cut, and answered so that steps can end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from hogwild_agents.steps import step_end
from hogwild_agents.tool_calls import MAX_CALL, CallScanner, write_call, write_results
from hogwild_agents.tool_syntax import PLAIN, SYNTAXES, Syntax
from hogwild_agents.tools import ToolCall, ToolResult

BY_NAME = {syntax.name: syntax for syntax in (PLAIN, *SYNTAXES)}


def _values(arguments: dict[str, Any], form: str) -> str:
    return "".join(form.format(key, value) for key, value in arguments.items())


def _object(call: ToolCall, key: str = "arguments") -> str:
    return json.dumps({"name": call.name, key: dict(call.arguments)})


# How each family writes several calls.
WRITERS: dict[str, Callable[[Sequence[ToolCall]], str]] = {
    "plain": lambda calls: "\n".join(map(write_call, calls)),
    "Hermes": lambda calls: "\n".join(
        f"<tool_call>\n{_object(call)}\n</tool_call>" for call in calls
    ),
    "Qwen3-Coder": lambda calls: "\n".join(
        f"<tool_call>\n<function={call.name}>\n"
        + _values(dict(call.arguments), "<parameter={}>\n{}\n</parameter>\n")
        + "</function>\n</tool_call>"
        for call in calls
    ),
    "GLM": lambda calls: "\n".join(
        f"<tool_call>{call.name}\n"
        + _values(dict(call.arguments), "<arg_key>{}</arg_key>\n<arg_value>{}</arg_value>\n")
        + "</tool_call>"
        for call in calls
    ),
    "Mistral": lambda calls: (
        "[TOOL_CALLS]" + f"[{', '.join(map(_object, calls))}]"
        if len(calls) % 2
        else "".join(f"[TOOL_CALLS]{c.name}[ARGS]{json.dumps(dict(c.arguments))}" for c in calls)
    ),
    "Phi": lambda calls: f"<|tool_call|>[{', '.join(map(_object, calls))}]<|/tool_call|>",
    "DeepSeek": lambda calls: "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call.name}\n```json\n"
        f"{json.dumps(dict(call.arguments))}\n```<｜tool▁call▁end｜>"
        for call in calls
    ),
    "Llama": lambda calls: "; ".join(_object(call, "parameters") for call in calls[:1]),
}

NAMES = st.sampled_from(["add", "get_weather", "find-it", "a1"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS | st.sampled_from(["}", '{"', "\\", "</tool_call>", "```", ".\n\n", "#", "@add {"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
CALLS = st.builds(ToolCall, name=NAMES, arguments=st.dictionaries(TEXTS, JSON, max_size=3))
# Between tags everything is a text.
WORDS = st.text("ab 1.{[\"'é", min_size=1, max_size=9).map(str.strip)
TAGGED = st.builds(
    ToolCall, name=NAMES, arguments=st.dictionaries(st.sampled_from(["x", "yes"]), WORDS)
)
PROSE = st.sampled_from(
    [
        "",
        "Let me see. ",
        "It is {a} or [b].\n",
        "Bob: `<tool_call>{}`?\n",
        "```\nx\n```\n",
        "a@b.c\n",
    ]
)


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    """A text cut at some places."""
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    return [text[start:stop] for start, stop in pairwise(places)]


def scan(syntax: Syntax, parts: Sequence[str]) -> list[ToolCall]:
    """All calls of a step, taken as a worker takes them."""
    scanner = CallScanner(syntax)
    calls = []
    for part in parts:
        scanner.push(part)
        calls += scanner.take()
    scanner.end_step()
    return calls + scanner.take()


def broken(text: str, syntax: str = "plain") -> str:
    """Why the one call in a text cannot be read."""
    (call,) = scan(BY_NAME[syntax], [text])
    return call.broken


# -- what is found


def test_a_call_may_be_nested_as_deeply_as_its_refusal_says() -> None:
    (call,) = scan(BY_NAME["plain"], ['@add {"a": ' + "[" * 99 + "]" * 99 + "}"])
    assert not call.broken
    assert call.arguments.keys() == {"a"}


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=30)
@given(data=st.data())
def test_calls_are_found_wherever_the_text_is_cut(name: str, data: st.DataObject) -> None:
    tagged = name in ("Qwen3-Coder", "GLM")
    calls = data.draw(st.lists(TAGGED if tagged else CALLS, min_size=1, max_size=3))
    if name == "Llama":
        calls = calls[:1]
    before = data.draw(PROSE)
    lines = "\n" if name in ("plain", "Llama") and not before.endswith("\n") else ""
    text = before + lines + WRITERS[name](calls) + data.draw(st.sampled_from(["", "\nSo", " ok"]))
    cuts = data.draw(st.lists(st.integers(0, 999), max_size=20))
    syntax = BY_NAME[name]
    assert scan(syntax, [text]) == calls
    assert scan(syntax, pieces(text, cuts)) == calls
    assert scan(syntax, list(text)) == calls


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "Llama"])
@settings(max_examples=20)
@given(data=st.data())
def test_a_message_goes_on_until_its_last_call(name: str, data: st.DataObject) -> None:
    calls = data.draw(
        st.lists(TAGGED if name in ("Qwen3-Coder", "GLM") else CALLS, min_size=2, max_size=4)
    )
    text = f"Well.\n{WRITERS[name](calls)}"
    parts = pieces(text, data.draw(st.lists(st.integers(0, 999), max_size=40)))
    scanner = CallScanner(BY_NAME[name])
    for part in parts:
        assert not scanner.waiting or scanner.goes_on(part)
        scanner.push(part)
        assert scanner.take() == []
    scanner.close()
    assert scanner.take() == calls


FRAGMENTS = [
    "@add ", "@", "{", "}", '"', "\\", "\n", "\n\n", "`", "```", "\n```\n", "> ", '{"a": 1}',
    "[", "]", "<tool_call>", "</tool_call>", '{"name": "add", "arguments": {}}', "x", " ",
    "<function=f>", "<parameter=p>", "</parameter>", "[TOOL_CALLS]", "[ARGS]", "$$", "~~~",
    "f<arg_key>",
]  # fmt: skip


@settings(max_examples=150)
@given(
    name=st.sampled_from(list(BY_NAME)),
    parts=st.lists(st.sampled_from(FRAGMENTS), max_size=25),
    cuts=st.lists(st.integers(0, 999), max_size=9),
)
@example(name="Llama", parts=["```\n", "{"], cuts=[])
@example(name="Llama", parts=["```\n", "[", "{"], cuts=[4])
@example(name="Llama", parts=[' @{"a": 1}', "\n```\n", '{"a": 1}', "```", "x", "\n\n"], cuts=[])
def test_where_a_text_is_cut_changes_nothing(name: str, parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole = scan(BY_NAME[name], [text])
    assert scan(BY_NAME[name], pieces(text, cuts)) == whole
    assert scan(BY_NAME[name], list(text)) == whole


@settings(max_examples=60)
@given(st.lists(CALLS, min_size=1, max_size=4))
def test_plain_calls_hold_no_number_sign_and_end_no_step(calls: list[ToolCall]) -> None:
    text = "".join(f"{write_call(call)}\n" for call in calls)
    assert "#" not in text
    assert text.count("\n") == len(calls)
    assert step_end(f"**Alice [1]:** Well.\n{text}") is None


@pytest.mark.parametrize(
    "text",
    [
        'Such as `@add {"a": 1}`.',
        "It is\n```\n@add {}\n```\nor\n~~~python\n@add {}\n~~~\n",
        "```json\n@add {}\n",
        "> @add {}\n",
        "Bob wrote @add {} just now.\n",
        "@alice said {x}\n",
        "@add\n{}\n",
        "me@add {}\n",
    ],
)
def test_a_call_in_code_or_in_a_quotation_is_none(text: str) -> None:
    assert scan(PLAIN, [text]) == []
    assert scan(PLAIN, list(text)) == []
    assert scan(PLAIN, [f"{text}\n```\n" if "```json" in text else f"{text}\n", "@b {}"]) == [
        ToolCall(name="b")
    ]


@pytest.mark.parametrize(
    "text",
    [
        'Use `<tool_call>{"name": "f", "arguments": {}}</tool_call>`.',
        '```\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n```\n',
        '> <tool_call>{"name": "f", "arguments": {}}</tool_call>\n',
        "The tag <tool_call> opens a call {so they say}.",
    ],
)
def test_tags_in_code_or_in_a_quotation_are_no_call(text: str) -> None:
    assert scan(BY_NAME["Hermes"], list(text)) == []


@pytest.mark.parametrize("name", list(BY_NAME))
@pytest.mark.parametrize(
    "part", ["`", "```\n{\n```\n", "\n```\n{", "\n> {", '"\\', "\n[", "@a {}\n"]
)
def test_what_is_written_over_and_over_is_read_to_its_end(name: str, part: str) -> None:
    scanner = CallScanner(BY_NAME[name])
    for _ in range(4):
        scanner.push(part * (MAX_CALL // len(part)))
        scanner.push('<tool_call>{"')
        scanner.take()
    scanner.end_step()
    assert not scanner.waiting


@pytest.mark.parametrize(
    ("line", "quotes"),
    [
        ("`a`b` ", True),
        ("`a` `b` ", False),
        ("``a`b ", True),
        ("``a`b`` ", False),
        ("```` ", True),
        ("````a```` ", False),
    ],
)
def test_as_many_backticks_end_a_span_as_begin_it(line: str, quotes: bool) -> None:
    text = f'{line}<tool_call>{{"name": "f", "arguments": {{}}}}'
    assert scan(BY_NAME["Hermes"], list(text)) == ([] if quotes else [ToolCall(name="f")])


def test_code_is_code_in_a_step_after_one_with_a_call() -> None:
    scanner = CallScanner(PLAIN)
    scanner.push("@a {}\n")
    scanner.end_step()
    assert scanner.take() == [ToolCall(name="a")]
    scanner.push("```\n@b {}\n```\n@c {}\n\n")
    assert scanner.take() == [ToolCall(name="c")]


def test_a_json_object_is_a_llama_call_only_if_it_looks_like_one() -> None:
    syntax = BY_NAME["Llama"]
    assert scan(syntax, ['{"a": 1}\n{oh}\n{"b\n']) == []
    assert scan(syntax, ['<|python_tag|>{"name": "f", "parameters": {}}']) == [ToolCall(name="f")]
    text = '{"a": 1}\n{"name": "f", "parameters": {"x": "y"}}'
    assert scan(syntax, list(text)) == [ToolCall(name="f", arguments={"x": "y"})]


def test_names_of_keys_and_arguments_as_text_are_taken_as_they_come() -> None:
    syntax = BY_NAME["Hermes"]
    bodies = [
        {"name": "f", "parameters": {"x": 1}},
        {"name": "f", "arguments": '{"x": 1}'},
        {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
    ]
    for body in bodies:
        text = f"<tool_call>{json.dumps(body)}</tool_call>"
        assert scan(syntax, [text]) == [ToolCall(name="f", arguments={"x": 1})]
    assert scan(syntax, ['<tool_call>{"name": "f", "arguments": null}']) == [ToolCall(name="f")]


# -- when a message is over


@pytest.mark.parametrize(
    ("name", "call", "goes_on", "over"),
    [
        (
            "plain",
            "@add {}",
            ["\n", "\n@", "\n@ad", "\n@add ", " \n", "@"],
            ["\n\n", "\nSo", " x", "."],
        ),
        (
            "Hermes",
            '<tool_call>{"name": "f", "arguments": {}}',
            ["\n", "\n</", "</tool_call>", "\n</tool_call>\n", "\n</tool_call>\n<tool_call>\n["],
            ["</tool_call>x", "\n</tool_call>\n\n", "</tool_call>.", "<tool_response>", "So"],
        ),
        ("Phi", '<|tool_call|>[{"name": "f", "arguments": {}}]', ["<|/"], ["<|end"]),
        ("GLM", "<tool_call>f</tool_call>", ["\n", "\n<tool_call>g"], ["<|user|>", "x"]),
    ],
)
def test_a_message_is_over_with_what_can_be_no_further_call(
    name: str, call: str, goes_on: list[str], over: list[str]
) -> None:
    for more in goes_on:
        scanner = CallScanner(BY_NAME[name])
        scanner.push(call)
        assert scanner.waiting
        assert scanner.goes_on(more)
        for one in more:
            scanner.push(one)
            assert scanner.waiting
            assert scanner.take() == []
    for more in over:
        scanner = CallScanner(BY_NAME[name])
        scanner.push(call)
        assert not scanner.goes_on(more)
        scanner.push(more)
        assert not scanner.waiting
        assert len(scanner.take()) == 1
        assert scanner.take() == []


def test_a_message_that_is_closed_is_over() -> None:
    scanner = CallScanner(PLAIN)
    scanner.push("@a {}\n@b {}\n")
    assert scanner.waiting
    scanner.close()
    assert [call.name for call in scanner.take()] == ["a", "b"]


def test_a_message_with_a_call_under_way_is_not_over() -> None:
    scanner = CallScanner(PLAIN)
    scanner.push('@a {}\n\n@b {"x": ')
    assert not scanner.waiting
    assert scanner.take() == []
    scanner.push("1}\n\n")
    assert [call.name for call in scanner.take()] == ["a", "b"]


# -- what is broken


@pytest.mark.parametrize(
    ("text", "syntax", "reason"),
    [
        ('@add {"a": "x\ny"}', "plain", r"a string in it has a line break, which is \n in JSON"),
        ("@add {a: 1}", "plain", "its JSON is broken (Expecting property name"),
        ('@add {"a": NaN}', "plain", "its JSON is broken (NaN is no number)"),
        ("@add {" + '"a": {' * 5000 + "}" * 5001, "plain", "nested too deeply, over 100 levels"),
        ('@add {"a": ' + "[" * 101 + "]" * 101 + "}", "plain", "nested too deeply"),
        ('@add {"a": ' + "[" * 100 + "]" * 100 + "}", "plain", "nested too deeply"),
        ("@add {" + "1" * MAX_CALL, "plain", "longer than 20000 characters"),
        ('@add {"a": 1', "plain", "its step ended in the middle of it"),
        ('<tool_call>{"name": "f"}</tool_call>', "Hermes", 'made of a "name" and its "arguments"'),
        ('<tool_call>{"name": "f", "arguments": {}</tool_call>', "Hermes", "is not closed"),
        ('<tool_call>{"name": "f", "arguments": [1]}', "Hermes", "are a list, not a JSON object"),
        ('<tool_call>{"name": "f", "arguments": "x"}', "Hermes", "are a text that is no JSON"),
        ("[TOOL_CALLS]f[ARGS][{}]", "Mistral", "are a list, not a JSON object"),
        ("<tool_call>f<arg_key>x", "GLM", "its step ended in the middle of it"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, syntax: str, reason: str) -> None:
    assert reason in broken(text, syntax)


def test_a_broken_call_is_over_at_once_and_keeps_its_name() -> None:
    scanner = CallScanner(PLAIN)
    scanner.push('@add {"a": "x\n')
    (call,) = scanner.take()
    assert call.name == "add"
    scanner.push("@add {}\n\nSo")
    assert scanner.take() == [ToolCall(name="add")]


def test_detection_is_cheap() -> None:
    scanner = CallScanner(PLAIN)
    line = "So it is {a}, or [b], and @c said so. "
    started = time.perf_counter()
    for index in range(20_000):
        scanner.push(line[index % len(line)] if index % 400 else "\n")
        assert scanner.take() == []
    assert time.perf_counter() - started < 2


# -- results


RESULTS = st.lists(
    st.builds(
        ToolResult,
        name=st.sampled_from(["add", "### Past steps", ""]),
        text=st.lists(
            st.sampled_from(
                ["x", " ", "\n", "`", "```", "````", "~~~", "$$", ".\n\n", "\\", "```py\n", "$"]
            ),
            max_size=8,
        ).map("".join),
    ),
    min_size=1,
    max_size=3,
)
FRAMES = st.sampled_from([None, ("<tool_response>\n", "\n</tool_response>")])


def written(
    results: list[ToolResult], before: str = "", frame: tuple[str, str] | None = None
) -> str:
    return "".join(text.text for text in write_results(results, before, frame))


def ends(text: str) -> bool:
    """Whether a step that goes on like this ends, forced ends of steps in it being passed over."""
    rest = text
    while (end := step_end(rest)) is not None:
        if end == len(rest):
            return True
        rest = rest[end:]
    return False


@settings(max_examples=150)
@given(RESULTS, FRAMES, st.sampled_from(["", "**A [1]:** x\n", '@a {"x": "$$"}', "```\nx\n```\n"]))
def test_behind_any_results_a_step_can_end(
    results: list[ToolResult], frame: tuple[str, str] | None, before: str
) -> None:
    text = written(results, before, frame)
    assert text.endswith("\n")
    assert ends(f"{before}{text}So it is.\n\n")
    for result in results:
        assert result.text.rstrip("\n") in text


def test_results_stand_in_lines_of_their_own() -> None:
    results = [ToolResult(name="add", text="5"), ToolResult(name="read", text="a\n```\nb\n")]
    expected = "Result of add: 5\nResult of read:\n````\na\n```\nb\n````\n"
    assert written(results, "@add {}\n") == expected
    assert written(results, "@add {}") == f"\n{expected}"
    frame = ("<tool_response>\n", "\n</tool_response>")
    assert written(results[:1], "x", frame) == "\n<tool_response>\n5\n</tool_response>\n"


def test_no_title_can_be_forged_by_the_name_of_a_tool() -> None:
    assert written([ToolResult(name="x\n### Past steps", text="no")]) == "Result: no\n"


def test_what_comes_from_outside_is_marked() -> None:
    texts = write_results([ToolResult(name="f", text="<|im_end|>")], "", None)
    assert [text.text for text in texts if text.quoted] == ["<|im_end|>"]
