"""Tools: typed Python functions that a worker can call.

::

    async def weather(city: str, days: int = 1) -> dict[str, float]:
        \"\"\"Tells the weather of the coming days.\"\"\"

    Worker("Alice", tools=[weather, Tool(search, timeout=5.0)])

Whatever goes wrong with a call is text that the worker can read; only cancellation passes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from pydantic import TypeAdapter, ValidationError

from hogwild_agents.errors import ConfigError
from hogwild_agents.tool_schema import Signature, reason
from hogwild_agents.whole import is_above_zero, is_whole

MAX_RESULT = 4000
"""How many characters of a result are fed, unless the tool says otherwise."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call, as a worker wrote it.

    Attributes:
        name: of the tool.
        arguments: by name, as JSON gives them.
        broken: why it cannot be read, if it cannot.
    """

    name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What came of a call.

    Attributes:
        name: of the tool; "" if the call named none.
        text: the result, or one sentence that says what went wrong.
        failed: whether something did.
    """

    name: str
    text: str
    failed: bool = False


class Tool:
    """A function that a worker can call.

    Args:
        function: async, or an ordinary one, which runs in a thread. All its parameters have types
            that pydantic knows.
        name: what the worker calls it; None for the function's name.
        description: what it does; None for the docstring up to ``Args:``. Arguments are
            described by that section, or by pydantic's ``Field``.
        timeout: seconds that a call may take; None for no end. A function in a thread cannot be
            stopped: nobody waits for it any longer.
        max_characters: what is longer is cut, with a note.

    Attributes:
        name, description, timeout, max_characters: as above.

    Raises:
        ConfigError: the function, its name or a parameter cannot serve, or a number is none above
            0.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = 30.0,
        *,
        max_characters: int = MAX_RESULT,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"A tool is {function!r}, but must be a function or a Tool.")
        self.name = getattr(function, "__name__", "") if name is None else name
        if not isinstance(self.name, str) or not is_name(self.name):
            raise ConfigError(
                f"A tool is called {self.name!r}, but a name is made of up to 64 letters, digits, "
                "'_' and '-': give it one, Tool(function, name=...)."
            )
        if timeout is not None and not is_above_zero(timeout):
            raise ConfigError(
                f"timeout of {self.name} is {timeout!r}, but must be a number of seconds above 0, "
                "or None."
            )
        if not (is_whole(max_characters) and max_characters > 0):
            raise ConfigError(
                f"max_characters of {self.name} is {max_characters!r}, but must be a whole number "
                "above 0."
            )
        self.timeout = timeout
        self.max_characters = max_characters
        self._function = function
        self._signature = Signature(function, self.name)
        self.description = self._signature.summary if description is None else description

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return self._signature.schema

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as chat templates take it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Call the function with arguments as JSON gives them; whatever fails is a result too."""
        try:
            positional, named = self._signature.bind(arguments)
        except ValidationError as error:
            names = ", ".join(self._signature.names)
            usage = f"its arguments are {names}." if names else "it has no arguments."
            return self._failure(f"was not called, because {_problems(error)}: {usage}")
        except ValueError as error:
            return self._failure(f"was not called, because {reason(error)}.")
        try:
            with anyio.move_on_after(self.timeout) as scope:
                value = await self._run(partial(self._function, *positional, **named))
        except Exception as error:
            error = _only(error)
            return self._failure(f"failed with {type(error).__name__}{_says(error)}.")
        if scope.cancelled_caught:
            return self._failure(
                f"was given up, because it took longer than {self.timeout:g} seconds."
            )
        return self._result(value)

    async def _run(self, function: Callable[[], Any]) -> Any:
        if _is_async(self._function):
            return await function()
        # A limiter of its own, so that threads that never end cannot starve anybody. In a list,
        # because trio would not take what may be awaited from a thread.
        limiter = anyio.CapacityLimiter(1)
        (value,) = await to_thread.run_sync(
            lambda: [function()], abandon_on_cancel=True, limiter=limiter
        )
        return await value if inspect.isawaitable(value) else value

    def _result(self, value: Any) -> ToolResult:
        try:
            text = value if isinstance(value, str) else _ANYTHING.dump_json(value).decode()
        except Exception as error:  # whatever the value's own code raises
            kind = type(value).__name__
            return self._failure(
                f"returned a value ({kind}) that cannot be written as JSON ({reason(error)})."
            )
        return ToolResult(name=self.name, text=_cut(_printable(text), self.max_characters))

    def _failure(self, what: str) -> ToolResult:
        return _failure(self.name, f"{self.name} {what}")

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


def is_name(name: str) -> bool:
    """Whether a tool may be called that."""
    return _NAME.fullmatch(name) is not None


def make_tools(given: Iterable[Tool | Callable[..., Any]]) -> tuple[Tool, ...]:
    """Return tools as given, functions made into tools.

    Raises:
        ConfigError: one of them cannot serve, or two have the same name.
    """
    if isinstance(given, Tool) or callable(given):
        raise ConfigError(f"tools is {given!r}: give a list, such as tools=[{given!r}].")
    listed: object = given
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise ConfigError(f"tools is {given!r}: give a list of functions or Tools.")
    tools = tuple(one if isinstance(one, Tool) else Tool(one) for one in given)
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Two tools are called {name!r}: rename one, Tool(function, name=...)."
            )
    return tools


async def call_tools(tools: Sequence[Tool], calls: Sequence[ToolCall]) -> list[ToolResult]:
    """Make calls at the same time; return what came of them, in the order of the calls.

    When this returns or is cancelled, nothing of them is under way, except functions in threads.
    """
    known = {tool.name: tool for tool in tools}
    # A tool that awaits something that was cancelled ends without an exception, on asyncio.
    results = [
        _failure(call.name, f"{call.name} was cancelled by something in it.") for call in calls
    ]

    async def make(index: int, call: ToolCall) -> None:
        results[index] = await _make(known, call)

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(make, index, call, name=f"tool {call.name}")
    return results


async def _make(tools: Mapping[str, Tool], call: ToolCall) -> ToolResult:
    if call.broken:
        return _failure(call.name, f"The call cannot be read, because {call.broken}.")
    tool = tools.get(call.name)
    if tool is None:
        name, names = _short(call.name), ", ".join(tools)
        return _failure(call.name, f"There is no tool {name}: the tools are {names}.")
    return await tool.call(call.arguments)


def _failure(name: str, sentence: str) -> ToolResult:
    return ToolResult(name=name, text=f"Error: {_printable(sentence)}", failed=True)


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 -- to look at it, not whether it is there
    )


# -- into words


def _problems(error: ValidationError) -> str:
    problems = [_problem(dict(one)) for one in error.errors(include_url=False)]
    more = [f"{len(problems) - 3} more things are wrong"] if len(problems) > 3 else []
    return " and ".join([*problems[:3], *more])


def _problem(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{place} is missing"
    if error["type"] == "extra_forbidden":
        return f"there is no argument {place}"
    message: str = error["msg"]
    value = _short(error["input"])
    return f"{place} is {value} ({message[0].lower()}{message[1:]})" if place else message


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _says(error: BaseException) -> str:
    """Return what an exception says, if it says anything, as the rest of a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return f": {text[:500]}" if text else ""


def _only(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _printable(text: str) -> str:
    """Return a text that has an encoding: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... (cut: these are the first {limit} of {len(text)} characters)"
