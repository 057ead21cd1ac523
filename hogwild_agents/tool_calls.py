"""Tool calls: found in what a worker writes, and answered in the same text.

A call is none inside of a code block or a span of code, and in a line that is quoted (``>``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hogwild_agents.steps import StepScanner
from hogwild_agents.tool_syntax import Syntax
from hogwild_agents.tools import ToolCall, ToolResult, is_name

MAX_CALL = 20_000
"""How many characters a call may have."""

_WINDOW = 256  # an opening is shorter than this
_PART = r'"(?:[^"\\\n]|\\[^\n])*(?:(?P<end>"|\\?\n)|\\?\Z)|[{}\[\]]'
_BACKTICKS = re.compile("`+")


class CallScanner:
    """Finds the calls in a text that grows piece by piece; each piece is looked at once.

    Calls that stand together are one message: it is over when something follows that cannot
    become another call.

    Args:
        syntax: how calls are spelt.
    """

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax
        end = f"|{re.escape(syntax.trailing.strip())}" if syntax.trailing else ""
        self._part = re.compile(_PART + end)
        self._text = ""
        self._from = 0  # where to look on
        self._opening: re.Match[str] | None = None  # of the call whose body is being written
        self._depth = 0
        self._calls: list[ToolCall] = []
        self._begin = self._behind = 0  # from the first call to the end of the last
        self._over = False
        self._blocks, self._read = _Blocks(), 0  # of the lines from there on, up to this place

    @property
    def waiting(self) -> bool:
        """Whether there is a message of whole calls to which more may come."""
        return bool(self._calls) and self._opening is None and not self._over

    @property
    def span(self) -> tuple[int, int]:
        """From where to where the calls of the message stand in the step's text."""
        return self._begin, self._behind

    def push(self, text: str) -> None:
        """Append text of the same step."""
        self._text += text
        while self._advance():
            pass
        if self.waiting and not self.goes_on(""):
            self._over = True

    def goes_on(self, text: str) -> bool:
        """Whether the message still goes on if this text comes next; only while waiting."""
        syntax, more = self._syntax, self._text + text
        if syntax.again.fullmatch(more, self._behind):
            return True
        return syntax.opening.search(more, self._behind) is not None

    def close(self) -> None:
        """Let the message be over; only while waiting, or when it is over already."""
        self._over = True

    def end_step(self) -> None:
        """Begin another step: a call that is under way is broken off, a message is over."""
        if self._opening is not None:
            self._break("its step ended in the middle of it: leave no empty line in a call")
        self._text, self._from, self._over = "", 0, bool(self._calls)
        self._go_behind(0)

    def take(self) -> list[ToolCall]:
        """Take the calls of a message that is over; an empty list if there is none."""
        if self._opening is not None or not self._over:
            return []
        calls, self._calls, self._over = self._calls, [], False
        return calls

    # -- inside

    def _advance(self) -> bool:
        """Go on to the next opening, or to the end of a body; return whether it was there.

        One of them is there only so many times: what comes next is looked for further on. Only an
        opening without a length may leave that place where it was, but then the end of its body,
        which has at least a bracket, does not.
        """
        return self._open() if self._opening is None else self._close(self._opening)

    def _open(self) -> bool:
        found = self._syntax.opening.search(self._text, self._from)
        if found is None:
            self._from = max(self._from, len(self._text) - _WINDOW)
            return False
        if self._quotes(found.start()):
            self._from = max(found.end(), found.start() + 1)  # an opening may have no length
        else:
            self._from = found.end()
            self._opening, self._depth = found, 0
            self._begin = self._begin if self._calls else found.start()
        return True

    def _quotes(self, place: int) -> bool:
        """Whether a place is inside of code or in a quoted line, as seen from the last call on."""
        trailing = self._syntax.trailing.strip()
        if self._behind and trailing and self._read == self._behind:
            rest = self._text[self._behind : place].lstrip()
            if rest.startswith(trailing):
                self._read = place - len(rest) + len(trailing)
        begin = max(self._read, self._text.rfind("\n", self._read, place) + 1)
        self._blocks = self._blocks.after(self._text[self._read : begin])
        self._read = begin
        line = self._text[begin:place]
        return line.lstrip().startswith(">") or _opens_span(line) or bool(self._blocks.code)

    def _go_behind(self, place: int) -> None:
        """Note the end of a call: no code goes on from before it."""
        self._behind = self._read = place
        self._blocks = _Blocks()

    def _close(self, opening: re.Match[str]) -> bool:
        closing = self._syntax.closing
        try:
            end = self._json_end() if closing is None else self._find(closing)
            if end is None:
                if len(self._text) - opening.start() > MAX_CALL:
                    raise ValueError(f"it is longer than {MAX_CALL} characters")
                return False
            self._calls += self._syntax.read(opening, self._text[opening.end() : end])
        except ValueError as error:
            self._break(str(error))
        else:
            self._opening = None
            self._go_behind(self._from)
        return True

    def _json_end(self) -> int | None:
        """Return where the JSON value ends, if it does."""
        for part in self._part.finditer(self._text, self._from):
            mark = part[0]
            if mark[0] == '"' and part["end"] is None:  # the string goes on
                self._from = part.start()
                return None
            self._from = part.end()
            if mark[0] == '"' and part["end"] != '"':
                raise ValueError(r"a string in it has a line break, which is \n in JSON")
            if mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
                if not self._depth:
                    return self._from
            elif mark[0] != '"':
                raise ValueError("a bracket in its JSON is not closed")
        return None

    def _find(self, closing: re.Pattern[str]) -> int | None:
        found = closing.search(self._text, self._from)
        if found is None:
            start = self._from if self._opening is None else self._opening.end()
            self._from = max(start, len(self._text) - _WINDOW)
            return None
        self._from = found.end()
        return found.start()

    def _break(self, reason: str) -> None:
        """Give up the call whose body is being written."""
        opening, self._opening = self._opening, None
        if opening is not None and not self._syntax.lenient:
            name = opening.groupdict().get("name") or ""
            self._calls.append(ToolCall(name=name, broken=reason))
            self._go_behind(self._from)
            self._over = True


# -- writing


@dataclass(frozen=True, kw_only=True)
class Text:
    """A piece of what is written for a worker.

    Attributes:
        text: the piece.
        quoted: whether it comes from outside, so that control tokens spelt in it are plain text.
    """

    text: str
    quoted: bool = False


def write_call(call: ToolCall) -> str:
    """Return a call in the plain format, less the end of its line."""
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return f"@{call.name} {arguments}".replace("#", "\\u0023")


def write_results(
    results: Sequence[ToolResult], before: str, frame: tuple[str, str] | None = None
) -> list[Text]:
    """Return what tells a worker the results of its calls, in lines of their own.

    A code block or a formula that a result leaves open is closed behind it: otherwise the worker's
    step could not end any more.

    Args:
        results: in order.
        before: the worker's step so far.
        frame: what the model has around a result; None for ours.
    """
    texts: list[Text] = []
    if before and not before.endswith("\n"):
        texts.append(Text(text="\n"))
    for result in results:
        texts += _write_result(result, frame)
        closing = _close_blocks(before + "".join(one.text for one in texts))
        if closing:
            texts.append(Text(text=closing))
    return texts


def _write_result(result: ToolResult, frame: tuple[str, str] | None) -> list[Text]:
    text = result.text
    if frame is not None:
        start, end = frame
        return [Text(text=start), Text(text=text, quoted=True), Text(text=f"{end}\n")]
    # The name of a tool that does not exist may be any text.
    title = f"Result of {result.name}:" if is_name(result.name) else "Result:"
    line = text.rstrip("\n")
    if "\n" not in line:
        return [Text(text=f"{title} "), Text(text=line, quoted=True), Text(text="\n")]
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [
        Text(text=f"{title}\n{fence}\n"),
        Text(text=line, quoted=True),
        Text(text=f"\n{fence}\n"),
    ]


# -- code blocks


class _Blocks(StepScanner):
    """Which code block or formula a text leaves open, by the rule that ends steps."""

    def after(self, text: str) -> _Blocks:
        """Read on; ends of steps in the text, as forced text may have, are passed."""
        blocks, start = self, self._length
        while (end := blocks.push(text)) is not None:
            blocks, text, start = _Blocks(), text[end - start :], 0
        return blocks

    @property
    def code(self) -> str:
        """The marks that opened the code block; "" outside of one."""
        return self._fence

    @property
    def mark(self) -> str:
        """What closes the code block or the formula; "" where none is open."""
        return self._fence or ("$$" if self._formula else "")


def _opens_span(line: str) -> bool:
    """Whether a span of code goes on at the end of a line; as many backticks end it as begin it."""
    mark = ""
    for run in _BACKTICKS.findall(line):
        if not mark:
            mark = run
        elif run == mark:
            mark = ""
    return bool(mark)


def _close_blocks(text: str) -> str:
    mark = _Blocks().after(text).mark
    return f"{mark}\n" if mark else ""
