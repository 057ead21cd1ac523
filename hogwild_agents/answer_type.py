"""AnswerType: what an answer has to be, as a Python type, by pydantic."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from hogwild_agents.actions import Conclude, Finish
from hogwild_agents.errors import AnswerError, ConfigError
from hogwild_agents.prompt import Prompt
from hogwild_agents.result import RunResult, TypedResult

T = TypeVar("T")

CONCLUDED = "finisher"
"""The reason of a run that did not come to an answer by itself; a Finisher asked for one."""
MAX_TOKENS = 256
"""How long the second attempt at an answer may be."""


class AnswerType(Generic[T]):
    """Turns the text in a box into a value.

    JSON is read as JSON. A list may come without its brackets (``7, 12, 3``), and what is no JSON
    counts as a string, which pydantic turns into a number, a date, ... where the type asks for it.

    Args:
        type_: any type that pydantic knows: a model, ``list[int]``, ``Literal["yes", "no"]``.

    Attributes:
        name: the type's.

    Raises:
        ConfigError: pydantic does not know the type.
    """

    def __init__(self, type_: type[T] | Any) -> None:
        self.name = type_.__name__ if isinstance(type_, type) else str(type_)
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(type_)
            self._schema: dict[str, Any] = self._adapter.json_schema()
        except (PydanticUserError, LookupError, NameError, ValueError, TypeError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise ConfigError(
                f"{type_!r} cannot be the type of an answer ({reason}): give a pydantic model or "
                "another type that pydantic reads from JSON."
            ) from error

    def parse(self, answer: str) -> T:
        """Return the value of an answer.

        Raises:
            ValueError: it has none, because of what the message says.
        """
        first: ValidationError | None = None
        for value in _readings(answer):
            try:
                return self._adapter.validate_python(value)
            except ValidationError as error:
                first = first or error
        assert first is not None, "there is the text itself at least"
        raise ValueError(_say(first))

    def fault(self, answer: str | None) -> str | None:
        """Return why an answer has no value of the type; None if it has one."""
        if answer is None:
            return "there is none"
        try:
            self.parse(answer)
        except ValueError as error:
            return str(error)
        return None

    def result(self, result: RunResult) -> TypedResult[T]:
        """Return a result together with the value of its answer.

        Raises:
            AnswerError: it has none.
        """
        fault = self.fault(result.answer)
        if result.answer is None or fault is not None:
            error = AnswerError(f"The run ended ({result.reason}) {self._miss(result, fault)}.")
            error.result = result
            raise error
        return TypedResult.of(result, self.parse(result.answer))

    def describe(self, problem: str) -> str:
        """Return the problem with what the answer has to look like, where that is not plain."""
        if "properties" not in self._schema and "$defs" not in self._schema:
            return problem
        return problem + Prompt.load("answer_format").render(form=self._form)

    def retry(self, answer: Finish, error: str) -> Conclude:
        """Return what has the author of an answer give it once more."""
        text = Prompt.load("retry_answer").render(error=error, form=self._form)
        return Conclude(
            text=text, worker=answer.author, max_tokens=MAX_TOKENS, reason=answer.reason
        )

    def _miss(self, result: RunResult, fault: str | None) -> str:
        """Return what is wrong with a result, and what may help it."""
        concluded = result.reason == CONCLUDED
        if result.answer is None:
            writer = "its Finisher more max_tokens" if concluded else "a Finisher"
            return f"without an answer, so with no {self.name}: give it more time, or {writer}"
        found = f"with the answer {result.answer!r}, which is no {self.name}, because {fault}"
        if concluded:
            return f"{found}: give it more time to come to an answer by itself, or another type"
        return f"{found}: say in the problem what the answer looks like, or give another type"

    @property
    def _form(self) -> str:
        return f"JSON that fits the schema {json.dumps(self._schema, ensure_ascii=False)}"


def _readings(answer: str) -> list[Any]:
    """Return what a text may mean, the most likely first."""
    readings: list[Any] = []
    for text in (answer, f"[{answer}]"):
        with suppress(ValueError):
            readings.append(json.loads(text))
    return [*readings, answer.strip()]


def _say(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    message = fault["msg"][:1].lower() + fault["msg"][1:]
    return f"{place}: {message}" if place else message
