"""Trial: a tick that is run before it is known whether it is wanted, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from torch import Tensor

from hogwild_agents.engine.feed import Feed

if TYPE_CHECKING:
    from hogwild_agents.engine.engine import Engine

_E = TypeVar("_E", bound="Engine")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Trial:
    """A tick on trial, made by :meth:`Engine.trial`.

    Nobody sees anything of it until it is kept: blocks grow only then. It is pending until it is
    kept or taken back; whatever else the engine is asked to change meanwhile takes it back first,
    and waits for the end of :meth:`run` where another thread is in it.

    Attributes:
        feeds: of the tick.
    """

    def __init__(self, engine: Engine, feeds: tuple[Feed, ...]) -> None:
        self.feeds = feeds
        self._engine = engine
        self._logits: Tensor | None = None

    @property
    def pending(self) -> bool:
        """Whether it may still be kept."""
        return self._engine._trial is self

    def run(self) -> None:
        """Compute it, in any thread; nothing if it was taken back. If it fails, it is taken back.

        Raises:
            TickError: the logits are not numbers.
        """
        self._engine._run_trial(self)

    def keep(self) -> Tensor | None:
        """Let the blocks grow, as :meth:`Engine.forward` does.

        Returns:
            [feeds, vocab] the logits after the last token of each feed, float32; None if it was
            taken back, or not computed.
        """
        return self._engine._keep_trial(self)

    def withdraw(self) -> None:
        """Take it back: the cache is as though it had never been."""
        self._engine._withdraw_trial(self)

    def __repr__(self) -> str:
        state = "pending" if self.pending else "over"
        return f"Trial({len(self.feeds)} feeds, {state})"


def alone(method: Callable[Concatenate[_E, _P], _R]) -> Callable[Concatenate[_E, _P], _R]:
    """Let a method of an engine run when no other one does, without a tick on trial."""

    @wraps(method)
    def wrapped(self: _E, /, *args: _P.args, **options: _P.kwargs) -> _R:
        with self._lock:
            if self._trial is not None:
                self._withdraw_trial(self._trial)
            return method(self, *args, **options)

    return wrapped
