"""RunView: what a policy may read of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hogwild_agents.limits import Limits
    from hogwild_agents.result import Step
    from hogwild_agents.thinking import Thinking


class RunView:
    """A run, read-only; always as it is at the moment.

    Args:
        problem: the problem.
        thinking: the workers.
    """

    def __init__(self, problem: str, thinking: Thinking) -> None:
        self._problem = problem
        self._thinking = thinking

    @property
    def problem(self) -> str:
        """The problem."""
        return self._problem

    @property
    def names(self) -> tuple[str, ...]:
        """The workers who have not left, in order."""
        return tuple(name for name, desk in self._thinking.desks.items() if not desk.left)

    @property
    def parked(self) -> tuple[str, ...]:
        """Those of them that wait to be resumed."""
        desks = self._thinking.desks
        return tuple(name for name in self.names if desks[name].held)

    @property
    def coming(self) -> tuple[str, ...]:
        """Who will join, once the worker from whose text they go on has fed next."""
        return self._thinking.coming

    @property
    def texts(self) -> Mapping[str, str]:
        """All that everybody has written, by name, with the prefixes of their steps."""
        return self._thinking.texts

    @property
    def steps(self) -> tuple[Step, ...]:
        """The finished steps, in the order in which they ended."""
        return tuple(self._thinking.steps)

    @property
    def ticks(self) -> int:
        """How many forward passes the thinking has taken."""
        return self._thinking.clock.ticks

    @property
    def tokens(self) -> int:
        """How many tokens all workers have sampled."""
        return self._thinking.sampled

    @property
    def seconds(self) -> float:
        """How long the thinking has taken."""
        return self._thinking.clock.seconds

    @property
    def layout(self) -> str:
        """The layout's name."""
        return self._thinking.layout

    @property
    def limits(self) -> Limits:
        """When the thinking ends at the latest."""
        return self._thinking.limits

    def written(self, name: str) -> int:
        """Return how many tokens a worker has sampled.

        Raises:
            KeyError: nobody has this name.
        """
        return self._thinking.desks[name].draft.sampled
