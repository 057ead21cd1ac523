"""Workers whose text comes from elsewhere: from a script, or from a person who types."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing

from hogwild_agents.stdin import read_line
from hogwild_agents.worker import Worker


class TypingWorker(Worker):
    """A worker that writes given lines, each as a step of its own; the model chooses nothing.

    Waiting for the next line it is parked, so that the others think on. It leaves after the last
    one.

    Args:
        name: see :class:`Worker`.
        lines: its steps, without their prefixes: a list for a script, or an async iterable, such
            as what a person types; ``None`` reads standard input, up to an empty line, and
            nothing behind that. All runs share it, and a list begins anew in each.
        options: those of :class:`Worker`.
    """

    def __init__(
        self,
        name: str,
        lines: Iterable[str] | AsyncIterable[str] | None = None,
        **options: object,
    ) -> None:
        super().__init__(name, **options)  # type: ignore[arg-type]
        self._lines = lines

    async def run(self) -> None:
        """Write line after line."""
        async with aclosing(_lines(self._lines)) as lines:
            while True:
                with self.parked():
                    line = await anext(lines, None)
                if line is None:
                    return
                if line.strip():
                    await self.write(line.strip())
                    await self.end_step()
                    await self.flush()


async def _lines(given: Iterable[str] | AsyncIterable[str] | None) -> AsyncGenerator[str]:
    if isinstance(given, AsyncIterable):
        async for line in given:
            yield line
    elif given is not None:
        for line in given:
            yield line
    else:
        while line := (await read_line()).strip():
            yield line
