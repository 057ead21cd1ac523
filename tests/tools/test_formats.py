"""A model's own way to call tools is found by its chat template; else there is a plain one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hogwild_agents.bundled import bundled_path
from hogwild_agents.tool_calls import CallScanner
from hogwild_agents.tool_formats import control_tokens, describe, find_format
from hogwild_agents.tool_syntax import PLAIN
from hogwild_agents.tools import Tool, ToolCall
from tests.tools.templates import (
    CHATML,
    FAMILIES,
    HERMES,
    LLAMA,
    MISTRAL,
    STOPS,
    STRICT,
    tokenizer_with,
)


def add(a: int, b: int = 2) -> int:
    """Adds two numbers."""
    return a + b


def now() -> str:
    """Tells the time."""
    return "noon"


TOOLS = [Tool(add), Tool(now)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_format_of_a_family_is_found_by_its_template(family: str) -> None:
    tokenizer = tokenizer_with(FAMILIES[family])
    form = find_format(tokenizer, STOPS)
    assert form.syntax.name == family.partition(",")[0]
    scanner = CallScanner(form.syntax)
    scanner.push(f"So I ask.\n{form.example}\nWell")
    expected = ToolCall(name="some_tool", arguments={"first": "one", "second": "another"})
    assert scanner.take() == [expected]


@pytest.mark.parametrize("template", [None, STRICT, "{{ messages[0].nothing.at.all }}", CHATML])
def test_without_a_known_format_it_is_the_plain_one(template: str | None) -> None:
    form = find_format(tokenizer_with(template), STOPS)
    assert form.syntax is PLAIN
    assert form.frame is None


def test_the_bundled_model_calls_in_the_plain_format() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundled_path())
    assert find_format(tokenizer, ["<|end|>"]).syntax is PLAIN


def test_results_stand_where_the_template_has_them() -> None:
    frame = ("<tool_response>\n", "\n</tool_response>")
    assert find_format(tokenizer_with(HERMES), STOPS).frame == frame
    assert find_format(tokenizer_with(LLAMA), STOPS).frame is None


# -- what a worker is told


def told(template: str | None, tools: list[Tool] = TOOLS) -> str:
    tokenizer = tokenizer_with(template)
    text = describe(tools, tokenizer, find_format(tokenizer, STOPS))
    assert text.startswith("### My tools\n\n")
    assert text.endswith("\n\n")
    return text


def test_tools_are_told_in_the_template_s_own_words_where_they_can_be_had() -> None:
    text = told(HERMES)
    assert text.startswith("### My tools\n\n# Tools\n\nYou may call functions")
    assert text.endswith("within <tool_call></tool_call>.\n\n")
    assert "<|im_" not in text
    for tool in TOOLS:
        assert json.dumps(tool.schema) in text or f'"name": "{tool.name}"' in text
    assert told(LLAMA).startswith("### My tools\n\nAnswer with a JSON object: {")
    text = told(MISTRAL)
    assert text.startswith("### My tools\n\n[AVAILABLE_TOOLS][{")
    assert text.endswith("}][/AVAILABLE_TOOLS]\n\n")


def test_words_that_hold_turns_of_the_conversation_are_not_taken() -> None:
    turns = HERMES.replace("# Tools", "<|im_end|>\n<|im_start|>system\n# Tools")
    text = told(turns)
    assert "<|im_" not in text
    assert text.startswith("### My tools\n\nI can call these tools:\n")
    assert text.count("<tool_call>") == 1


@pytest.mark.parametrize("family", ["Qwen3-Coder", "GLM", "DeepSeek"])
def test_otherwise_a_worker_is_shown_a_call(family: str) -> None:
    text = told(FAMILIES[family])
    example = find_format(tokenizer_with(FAMILIES[family]), STOPS).example
    assert "some_tool" in example
    assert f"looks like this:\n{example}\n" in text
    for tool in TOOLS:
        assert json.dumps(tool.schema["function"]) in text


def test_the_plain_format_is_explained_by_a_call_that_is_one() -> None:
    def take(
        text: str, many: list[int], flag: bool, share: float, kind: Any, spare: int = 1
    ) -> None:
        """Takes it."""

    for tool in [*TOOLS, Tool(take)]:
        text = told(None, [tool])
        scanner = CallScanner(PLAIN)
        scanner.push(text)
        (call,) = scanner.take()
        assert call.name == tool.name
        assert list(call.arguments) == tool.parameters.get("required", [])


# -- transformers' own description of a model's answers

RESPONSE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<<call>>",
            "close_pattern": r"<<end>>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
UNHEARD_OF = HERMES.replace("<tool_call>", "<<call>>").replace("</tool_call>", "<<end>>")


def response(**changes: Any) -> dict[str, Any]:
    """The response template with another field for calls."""
    field = {**RESPONSE["fields"]["tool_calls"], **changes}
    field = {key: value for key, value in field.items() if value is not None}
    return {**RESPONSE, "fields": {**RESPONSE["fields"], "tool_calls": field}}


def test_a_response_template_tells_a_format_that_nobody_has_heard_of() -> None:
    assert find_format(tokenizer_with(UNHEARD_OF), STOPS).syntax is PLAIN
    tokenizer = tokenizer_with(UNHEARD_OF, response_template=RESPONSE)
    form = find_format(tokenizer, STOPS)
    assert form.syntax.name == "the model's own"
    scanner = CallScanner(form.syntax)
    for one in f"Hm.\n{form.example}\n{form.example}":
        scanner.push(one)
    assert scanner.waiting
    assert scanner.goes_on("\n<<ca")
    assert not scanner.goes_on("\nSo")
    scanner.push("\nSo")
    assert [call.name for call in scanner.take()] == ["some_tool", "some_tool"]
    scanner.push("<<call>>oops<<end>>")
    scanner.end_step()
    (call,) = scanner.take()
    assert "it is not written as it should be (" in call.broken


@pytest.mark.parametrize(
    "template",
    [
        {},
        {"fields": {"tool_calls": None}},
        response(open=None),
        response(open=3),
        response(close_pattern=None),
        response(open=None, open_pattern="(?P<"),
        response(open=None, open_pattern=r"(?:<<call>>|,)"),
        response(close_pattern=r"<<end>>\s*<\|im_end\|>"),
        response(content="no such parser"),
        "no template",
    ],
)
def test_a_response_template_that_cannot_serve_is_passed_over(template: Any) -> None:
    tokenizer = tokenizer_with(UNHEARD_OF, response_template=template)
    assert find_format(tokenizer, STOPS).syntax is PLAIN


def test_several_literals_may_open_a_call() -> None:
    changed = response(open=["<<call>>", "<<call>>>"], close_pattern=None, close="<<end>>")
    tokenizer = tokenizer_with(UNHEARD_OF, response_template=changed)
    assert find_format(tokenizer, STOPS).syntax is PLAIN  # what is common to them is not told
    changed = response(open=["<<call>>"], close_pattern=None, close=["<<end>>"])
    tokenizer = tokenizer_with(UNHEARD_OF, response_template=changed)
    assert find_format(tokenizer, STOPS).syntax.name == "the model's own"


def test_control_tokens_are_those_that_are_no_plain_text() -> None:
    tokens = control_tokens(tokenizer_with(None))
    assert {"<s>", "<|im_end|>", "<tool_response>", "<think>", "</think>"} <= set(tokens)
    assert tokens == sorted(tokens, key=len, reverse=True)
