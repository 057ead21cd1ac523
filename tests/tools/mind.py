"""A mind: what a worker with tools samples, token by token, in the order in which it does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.engine import Sampler, SamplingParams
from hogwild_agents.tools import Tool
from hogwild_agents.worker import Worker

STOP = object()
"""The end of a turn, where a model may write it."""


class Mind(Sampler):
    """Samples what it is told to; in what is drawn and thrown away, too.

    Args:
        tokens: in order.

    Attributes:
        exhausted: whether what was sampled last was none of them.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        super().__init__(SamplingParams(temperature=0.0))
        self.tokens = deque(tokens)
        self.exhausted = False

    def choose(self, logits: Tensor, context: Callable[[], Sequence[int]]) -> Tensor:
        """Choose the next one."""
        self.exhausted = not self.tokens
        token = self.tokens[0] if self.tokens else 0
        assert token not in self.params.banned, f"{token} cannot be sampled here"
        if self.tokens:
            self.tokens.popleft()
        return torch.tensor([token])


class Caller(Worker):
    """Samples exactly what it is told to, calls its tools, and leaves.

    Args:
        script: texts, and :data:`STOP`.
        before: what is written by force before anything is sampled.
    """

    def __init__(
        self,
        name: str,
        *script: object,
        tools: Sequence[Tool | Callable[..., Any]],
        before: str = "",
        **options: Any,
    ) -> None:
        super().__init__(name, tools=tools, **options)
        self.script = script
        self.before = before

    async def run(self) -> None:
        mind = Mind(self.ids())
        mind.params = self.desk.sampler.params.replace(temperature=0.0)
        self.desk.sampler = mind
        await self.write(self.before)
        while True:
            await self.use_tools(peek=True)
            if not mind.tokens and (self._ahead is None or mind.exhausted):
                return
            await self.next_token()

    def ids(self) -> list[int]:
        """What it samples."""
        model = self.desk.draft._model
        (stop,) = sorted(model.stop_ids)[:1] or [model.tokenizer.eos_token_id]
        return [
            token
            for part in self.script
            for token in ([stop] if part is STOP else model.encode(str(part)))
        ]
