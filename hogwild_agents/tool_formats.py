"""Tool formats: how a model writes calls and is told of tools, by its own chat template.

A made-up call is rendered by the template, and the syntax that reads this very call back is the
model's: one of those that are known here, or the one that the tokenizer's ``response_template``
describes (transformers' own way to say how a model's answers are read). If none of them reads it,
the template knows no tools, or spells them in a way of its own: then it is the plain format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hogwild_agents.spelling import THINK, THINK_END
from hogwild_agents.tool_calls import CallScanner, write_call
from hogwild_agents.tool_syntax import PLAIN, SYNTAXES, Syntax, behind, read_call
from hogwild_agents.tools import Tool, ToolCall

_SYSTEM, _PROBLEM, _RESULT = "Some rules", "Solve this", "What came of the call"
_FRAME = re.compile(rf"(<(\w+)>\s*){_RESULT}(\s*</\2>)")
_CLEAR = 4  # an opening that begins with fewer fixed characters would be seen everywhere


def _probe(first: str, second: str) -> str:
    """Stands for any tool.

    Args:
        first: anything.
        second: anything else.
    """
    return first + second


_TOOL = Tool(_probe, name="some_tool")
_CALL = ToolCall(name="some_tool", arguments={"first": "one", "second": "another"})


@dataclass(frozen=True, kw_only=True)
class ToolFormat:
    """How a model writes calls.

    Attributes:
        syntax: how they are recognised.
        example: a call as the model's template writes it; "" for the plain format.
        frame: what the template has around a result; None for our own way.
    """

    syntax: Syntax
    example: str = ""
    frame: tuple[str, str] | None = None


def find_format(tokenizer: Any, unwritable: Iterable[str] = ()) -> ToolFormat:
    """Return how a model writes calls.

    Args:
        tokenizer: the model's.
        unwritable: texts of tokens that no worker can write, such as that of the end of a turn: a
            call that cannot do without them is not recognised.
    """
    rendered = _render_call(tokenizer)
    for text in filter(None, unwritable):
        rendered = rendered.replace(text, "\n")
    own = _own_syntax(tokenizer)
    for syntax in (*SYNTAXES, own) if own else SYNTAXES:
        example = _recognise(syntax, rendered.partition(_RESULT)[0])
        if example:
            frame = _FRAME.search(rendered)
            return ToolFormat(
                syntax=syntax, example=example, frame=(frame[1], frame[3]) if frame else None
            )
    return ToolFormat(syntax=PLAIN)


def describe(tools: Sequence[Tool], tokenizer: Any, form: ToolFormat) -> str:
    """Return what a worker is told of its tools, for the private block of its role.

    Args:
        tools: at least one.
        tokenizer: the model's.
        form: what :func:`find_format` found.
    """
    words = _own_words(tokenizer, tools) if form.syntax is not PLAIN else ""
    if not words:
        listed = "\n".join(json.dumps(tool.schema["function"]) for tool in tools)
        words = f"I can call these tools:\n{listed}\n\n{_how(tools, form)}"
    return f"### My tools\n\n{words}\n\n"


def _how(tools: Sequence[Tool], form: ToolFormat) -> str:
    if form.syntax is PLAIN:
        sample = write_call(ToolCall(name=tools[0].name, arguments=_sample(tools[0])))
        how = (
            "To call one, I write a line of its own, with @, its name and its arguments as a JSON "
            f"object on the same line:\n{sample}\n"
            "To call several at once, I write such lines one below the other. "
        )
    else:
        how = f"A call of some_tool with two arguments looks like this:\n{form.example}\n"
    return f"{how}Then I stop: the results appear below the calls."


def _sample(tool: Tool) -> dict[str, Any]:
    """Return arguments that show how a call looks."""
    kinds = {"integer": 1, "number": 0.5, "boolean": True, "array": [], "object": {}, "null": None}
    properties = tool.parameters.get("properties", {})
    return {
        name: kinds.get(properties[name].get("type"), "...")
        for name in tool.parameters.get("required", [])
    }


def control_tokens(tokenizer: Any) -> list[str]:
    """Return the spellings of tokens that are no plain text, the longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    found = {THINK, THINK_END, *(token.content for token in added if token.content.strip())}
    return sorted(found, key=len, reverse=True)


# -- by the chat template


def _render_call(tokenizer: Any) -> str:
    """Return what the template makes of a call and its result; "" if it has no place for them."""
    for arguments in (dict(_CALL.arguments), json.dumps(_CALL.arguments)):  # some want a text
        function = {"name": _CALL.name, "arguments": arguments}
        called = [{"id": "abcdefghi", "type": "function", "function": function}]
        turn = {"role": "assistant", "content": "", "tool_calls": called}
        result: dict[str, Any] = {"role": "tool", "name": _CALL.name, "content": _RESULT}
        asked: dict[str, Any] = {"role": "user", "content": _PROBLEM}
        for messages in ([asked, turn, {**result, "tool_call_id": "abcdefghi"}], [asked, turn]):
            rendered = _render(tokenizer, messages, [_TOOL])
            if rendered and _CALL.name in (answer := rendered.rpartition(_PROBLEM)[2]):
                return answer
    return ""


def _render(tokenizer: Any, messages: list[dict[str, Any]], tools: Sequence[Tool]) -> str | None:
    """Return what the template renders, or None if it refuses."""
    schemas = [tool.schema for tool in tools]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tools=schemas or None, tokenize=False, enable_thinking=True, thinking=True
            )
        )
    except Exception:  # a template is somebody else's program: it may raise anything
        return None


def _recognise(syntax: Syntax, text: str) -> str:
    """Return how the probe is spelt in a text, if this syntax reads exactly that out of it."""
    scanner = CallScanner(syntax)
    scanner.push(text)
    start, stop = scanner.span
    scanner.end_step()
    if scanner.take() != [_CALL]:
        return ""
    if syntax.lenient and not text[:start].endswith("\n\n"):  # some unknown mark stands before it
        return ""
    rest, trailing = text[stop:], syntax.trailing.strip()
    if trailing and rest.lstrip().startswith(trailing):
        stop += rest.index(trailing) + len(trailing)
    return text[start:stop].strip()


def _own_syntax(tokenizer: Any) -> Syntax | None:
    """Return the syntax that a tokenizer's ``response_template`` describes, if it can serve."""
    template = getattr(tokenizer, "response_template", None)
    fields = template.get("fields") if isinstance(template, Mapping) else None
    field = fields.get("tool_calls") if isinstance(fields, Mapping) else None
    if not isinstance(field, Mapping):
        return None
    opening, closing = (_anchor(field, name) for name in ("open", "close"))
    if opening is None or closing is None:
        return None
    try:
        patterns = re.compile(opening, re.DOTALL), re.compile(closing, re.DOTALL)
    except re.error:  # transformers reads patterns that re does not
        return None
    fixed = _fixed(opening)
    if len(fixed) < _CLEAR:
        return None
    reduced = {"start_anchor": fixed, "fields": {"tool_calls": dict(field)}}

    def read(opening: re.Match[str], body: str) -> list[ToolCall]:
        try:
            parsed = tokenizer.parse_response(opening[0] + body, reduced, prefix="")
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ValueError(f"it is not written as it should be ({reason})") from None
        values = parsed.get("tool_calls", [])
        return [read_call(one) for one in (values if isinstance(values, list) else [values])]

    return Syntax(
        name="the model's own",
        opening=patterns[0],
        closing=patterns[1],
        again=behind(fixed, r"[^{]{0,120}"),
        read=read,
    )


def _anchor(field: Mapping[str, Any], name: str) -> str | None:
    """Return a pattern for what opens or closes a field."""
    literals, pattern = field.get(name), field.get(f"{name}_pattern")
    if isinstance(pattern, str):
        return pattern
    if isinstance(literals, str):
        literals = [literals]
    if not isinstance(literals, list) or not all(isinstance(one, str) for one in literals):
        return None
    return "|".join(re.escape(one) for one in sorted(literals, key=len, reverse=True))


def _fixed(pattern: str) -> str:
    """Return the fixed characters that a pattern begins with."""
    found = re.match(r"(?:\\[^\w\s]|[^\\.^$*+?{}\[\]|()])*(?![*?{])", pattern)
    if "|" in pattern or found is None:
        return ""
    return re.sub(r"\\(.)", r"\1", found[0])


def _own_words(tokenizer: Any, tools: Sequence[Tool]) -> str:
    """Return the words in which the template tells of tools; "" if they cannot be had alone.

    They are what a prompt with tools has more than the same prompt without, if that is one piece,
    and free of the tokens that conversations are made of.
    """
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _PROBLEM}]
    told, plain = (_render(tokenizer, messages, given) for given in (tools, ()))
    if not told or not plain:
        return ""
    control = control_tokens(tokenizer)
    turns = [token for token in control if token in plain]
    for start, stop in _insertions(told, plain):
        words = told[start:stop]
        if any(token in words for token in turns) or not all(one.name in words for one in tools):
            continue
        if not any(_cuts(token, told, at) for token in control for at in (start, stop)):
            return words.strip()
    return ""


def _insertions(told: str, plain: str) -> Iterator[tuple[int, int]]:
    """Yield every way to see one text as the other with one piece put in, the last start first."""
    extra = len(told) - len(plain)
    pairs = enumerate(zip(told, plain, strict=False))
    start = next((at for at, (one, other) in pairs if one != other), len(plain))
    while extra > 0 and start >= 0 and told[start + extra :] == plain[start:]:
        yield start, start + extra
        start -= 1


def _cuts(token: str, text: str, at: int) -> bool:
    """Whether a token stands across a place in a text."""
    begin = max(0, at - len(token) + 1)
    return token in text[begin : at + len(token) - 1]
