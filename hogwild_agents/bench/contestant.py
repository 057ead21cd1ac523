"""Contestant: one way to write a token for each of N sequences, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from hogwild_agents.engine import Engine, Feed, Sampler, SamplingParams, ViewEntry, sample
from hogwild_agents.engine.feed import entry_block
from hogwild_agents.engine.graphs import SETTLED

GREEDY = SamplingParams(temperature=0.0)


class Contestant(Protocol):
    """What is measured: :meth:`tick` is timed, :meth:`reset` is not.

    Attributes:
        fed: the tokens that the next forward is fed with.
    """

    fed: list[int]

    @property
    def tokens(self) -> int:
        """How many tokens one tick writes."""
        ...

    def reset(self) -> None:
        """Go back to the context that it began with."""
        ...

    def logits(self) -> Tensor:
        """Run one forward; return the logits of the next tokens, [tokens, vocab]."""
        ...

    def tick(self) -> None:
        """Run one forward, and bring the most likely tokens to the host for the next one."""
        ...


class Ticks:
    """The engine: workers who all think, each in its own view.

    Args:
        engine: of the model.
        views: of each worker, its own block last; each tick adds a token to every own block.
        params: how each worker samples; greedily unless told otherwise.
    """

    def __init__(
        self,
        engine: Engine,
        views: Sequence[Sequence[ViewEntry]],
        params: SamplingParams = GREEDY,
    ) -> None:
        self._engine, self._views = engine, views
        self._own = [entry_block(view[-1]) for view in views]
        self._lengths = [len(block) for block in self._own]
        self._samplers = [Sampler(params, seed) for seed in range(self.tokens)]
        self.fed = first_tokens(self.tokens)

    @property
    def tokens(self) -> int:
        """See :class:`Contestant`."""
        return len(self._own)

    def reset(self) -> None:
        """See :class:`Contestant`."""
        for block, length in zip(self._own, self._lengths, strict=True):
            self._engine.truncate(block, length)
        self.fed = first_tokens(self.tokens)

    def settle(self) -> None:
        """Write until the engine has recorded its forward, if it does so."""
        self.reset()
        for _ in range(SETTLED):
            self.tick()

    def logits(self) -> Tensor:
        """See :class:`Contestant`."""
        feeds = zip(self._own, self._views, self.fed, strict=True)
        return self._engine.forward([Feed(block, view, [token]) for block, view, token in feeds])

    def sample(self, logits: Tensor) -> None:
        """Choose the next tokens."""
        found = sample(logits, self._samplers, [tuple] * self.tokens)
        self.fed = [one.token for one in found]

    def tick(self) -> None:
        """See :class:`Contestant`."""
        self.sample(self.logits())


def first_tokens(count: int) -> list[int]:
    """Return the tokens that every contestant begins with."""
    return [11 + number for number in range(count)]


def most_likely(logits: Tensor) -> list[int]:
    """Return the most likely token of each row of [rows, vocab]; waits for the device."""
    found: list[Any] = logits.argmax(-1).tolist()
    return found
