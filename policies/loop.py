"""LoopBreaker: take a worker out of a loop."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, TypeAlias, get_args

from hogwild_agents import (
    Action,
    ChangeSampling,
    ConfigError,
    EndStep,
    Policy,
    Prompt,
    Say,
    TokensWritten,
)
from hogwild_agents.policies.given import number, require_whole

Unit: TypeAlias = Literal["tokens", "lines"]


class LoopBreaker(Policy):
    """Notices when a worker writes the same again and again, and gives it a push.

    The same means a run of tokens (or of lines, less their blanks), which the worker has sampled so
    many times within a window. Its step is ended then, it samples at another temperature for a
    while, and its next step opens with a text that says so. After that it is watched anew.

    Helps small models, greedy sampling and long runs. Decides per worker. Source: the
    repetitions that arXiv 1904.09751 describes.

    Args:
        times: how often the run has to appear, at least 2.
        length: how long it is in tokens, or lines, at least 1; None for 16 tokens, or 1 line.
        unit: ``"tokens"`` or ``"lines"``.
        window: how many of the last tokens, or lines, are looked at; at least ``length`` and
            ``times`` together.
        temperature: what it samples at for a while; None to leave that.
        for_tokens: how long that is, at least 1.
        prompt: opens the next step: a prompt file's name or path; None for nothing.

    Raises:
        ConfigError: a number is out of its range, or there is no such prompt.
    """

    decides = "worker"

    def __init__(
        self,
        times: int = 4,
        length: int | None = None,
        *,
        unit: Unit = "tokens",
        window: int = 1024,
        temperature: float | None = 1.0,
        for_tokens: int = 64,
        prompt: str | None = "loop_breaker",
    ) -> None:
        if unit not in get_args(Unit):
            raise ConfigError(f"A loop of {unit!r}: choose from {', '.join(get_args(Unit))}.")
        if length is None:
            length = 16 if unit == "tokens" else 1
        for name, value, least in (
            ("times", times, 2),
            ("length", length, 1),
            ("for_tokens", for_tokens, 1),
        ):
            require_whole(f"A loop breaker has {name}={value!r}", value, least)
        require_whole(f"A loop breaker has window={window!r}", window, times + length)
        if temperature is not None and not 0 <= number(temperature) < math.inf:
            raise ConfigError(
                f"A loop breaker has temperature={temperature!r}: give a number from 0, or None."
            )
        self._times = times
        self._length = length
        self._unit = unit
        self._window = window
        self._temperature = temperature
        self._for_tokens = for_tokens
        self._text = None if prompt is None else Prompt.load(prompt).render().lstrip("\n")
        self._line = ""
        self._recent: deque[Hashable] = deque()
        self._runs: deque[tuple[Hashable, ...]] = deque()
        self._counts: Counter[tuple[Hashable, ...]] = Counter()

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        """Look for a repetition."""
        if event.source == "forced":
            return ()
        loops = [self._repeats(item) for item in self._items(event)]
        if not any(loops):
            return ()
        self._start_anew()
        return self._push(event.worker)

    def _items(self, event: TokensWritten) -> Sequence[Hashable]:
        """Return the tokens, or the lines that are complete now."""
        if self._unit == "tokens":
            return event.tokens
        *lines, self._line = (self._line + event.text).split("\n")
        return [line for line in map(str.strip, lines) if line]

    def _repeats(self, item: Hashable) -> bool:
        """Count the run that ends with an item; return whether it has appeared too often."""
        self._recent.append(item)
        if len(self._recent) > self._length:
            self._recent.popleft()
        if len(self._recent) < self._length:
            return False
        run = tuple(self._recent)
        self._runs.append(run)
        self._counts[run] += 1
        if len(self._runs) > self._window:
            old = self._runs.popleft()
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]
        return self._counts[run] >= self._times

    def _start_anew(self) -> None:
        self._line = ""
        self._recent.clear()
        self._runs.clear()
        self._counts.clear()

    def _push(self, worker: str) -> Iterable[Action]:
        yield EndStep(worker=worker)
        if self._temperature is not None:
            yield ChangeSampling(
                worker=worker, temperature=self._temperature, for_tokens=self._for_tokens
            )
        if self._text:
            yield Say(worker=worker, text=self._text)
