"""Tool use: what a worker does about the calls that stand in its text.

A call is answered when its message is over, which shows with the next token. That one is sampled
in the tick in which the call is fed, and thrown away if it begins no further call: it is never
written. For this one token the end of a turn is allowed, as models end a message of calls by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hogwild_agents.layouts import Headings
from hogwild_agents.log import get_logger
from hogwild_agents.models import LanguageModel
from hogwild_agents.text import decode_continuation
from hogwild_agents.tool_calls import CallScanner, write_results
from hogwild_agents.tool_formats import ToolFormat, describe, find_format
from hogwild_agents.tools import Tool, ToolCall, call_tools

if TYPE_CHECKING:
    from hogwild_agents.worker import Worker

_log = get_logger(__name__)


class ToolUse:
    """The tools of one worker in one run.

    Args:
        worker: the run's copy of it, at its desk.
        model: how it writes calls.
        headings: what opens its steps.
    """

    def __init__(self, worker: Worker, model: LanguageModel, headings: Headings) -> None:
        self._worker = worker
        self._model = model
        self._headings = headings
        self._format = format_of(model)
        self._scanner = CallScanner(self._format.syntax)
        self._step = 0  # the last one that was looked at
        self._seen = 0  # how much of the worker's text was looked at

    async def turn(self, *, peek: bool) -> None:
        """Look at what has been written since the last time, and answer what is asked in it.

        The worker is parked while its tools are at work.

        Args:
            peek: look first whether the model goes on with another call, and if so, wait for it.
        """
        self._look()
        if self._scanner.waiting:
            if peek and await self._goes_on():
                return
            self._scanner.close()
        calls = self._scanner.take()
        if calls:
            ahead = self._worker._ahead
            if ahead is not None and ahead.token in self._worker.desk.stop_tokens:
                self._worker._ahead = None  # nor is it ever written where this is cancelled
            await self._answer(calls)

    # -- inside

    def _look(self) -> None:
        """Show the scanner what has been written."""
        worker = self._worker
        text = worker.text
        if len(text) == self._seen:
            return
        start = len(text) - len(worker.step_text)
        while worker.step != self._step:
            step, begin, end = self._next_step(text, start)
            self._scanner.push(text[self._seen : begin])
            self._scanner.end_step()
            self._seen, self._step = max(self._seen, end), step
        self._scanner.push(text[self._seen :])
        self._seen = len(text)

    def _next_step(self, text: str, start: int) -> tuple[int, int, int]:
        """Return the first step that was not looked at, where its prefix begins and where it ends.

        A text that was copied is none of ours.
        """
        worker = self._worker
        for step in range(self._step + 1, worker.step):  # over since the last time
            prefix = self._headings.opening(worker.name, step)
            begin = text.find(prefix, self._seen, start) if prefix else -1
            if begin >= 0:
                return step, begin, begin + len(prefix)
        prefix = self._headings.opening(worker.name, worker.step)
        own = text.startswith(prefix, start)
        return worker.step, start, start + len(prefix) if own else len(text)

    async def _goes_on(self) -> bool:
        """Feed the calls, and look whether another one is to come."""
        worker = self._worker
        desk = worker.desk
        params = desk.tweaks.params
        desk.sampler.params = params.replace(banned=params.banned - desk.stop_tokens)
        try:
            await worker.flush()
        finally:
            desk.sampler.params = desk.tweaks.params
        self._look()  # a policy may have had it say something
        ahead = worker._ahead
        if self._scanner.waiting and ahead is not None and ahead.token not in desk.stop_tokens:
            text = decode_continuation(self._model.tokenizer, [ahead.token])
            return bool(text) and self._scanner.goes_on(text)
        return False

    async def _answer(self, calls: list[ToolCall]) -> None:
        worker = self._worker
        await worker.flush()
        _log.info("tools called", worker=worker.name, tools=[call.name for call in calls])
        with worker.parked():
            results = await call_tools(worker.tools, calls)
        await worker.flush()  # what policies had it say meanwhile stands before the results
        failed = [result.name for result in results if result.failed]
        _log.info("tools done", worker=worker.name, failed=failed)
        for text in write_results(results, worker.step_text, self._format.frame):
            await worker.desk.force(text.text, control="none" if text.quoted else "all")
        self._scanner = CallScanner(self._format.syntax)
        self._seen, self._step = len(worker.text), worker.step
        await worker.flush()


def format_of(model: LanguageModel) -> ToolFormat:
    """Return how a model writes calls."""
    return find_format(model.tokenizer, [model.decode([token]) for token in sorted(model.stop_ids)])


def describe_tools(model: LanguageModel, tools: Sequence[Tool]) -> str:
    """Return what a worker is told of its tools, for its private block; "" if it has none."""
    return describe(tools, model.tokenizer, format_of(model)) if tools else ""
