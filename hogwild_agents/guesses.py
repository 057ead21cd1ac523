"""Guesses: forwards that are begun while the seats still work on what came of the last tick.

Most ticks can be told beforehand: each worker feeds the token that was just sampled for it, and
sees the same blocks. Such a tick is run on trial in the worker thread. When the seats have handed
in what they really feed, it is kept if that is the same, and else it is taken back and the tick is
run anew: somebody has seen a token that is not to be. Sampling comes later, in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from traceback import clear_frames
from typing import TYPE_CHECKING

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.abc import TaskGroup

from hogwild_agents.engine import Engine, Feed, Trial, threads
from hogwild_agents.log import get_logger
from hogwild_agents.tick import Part

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Guesses"]

_log = get_logger(__name__)

_LONGEST_REST = 64
"""So many ticks, at most, are not guessed after wrong guesses in a row; it doubles with each."""


class Guesses:
    """The guesses of one coordinator, one at a time.

    Args:
        engine: what computes them.
        thread: where it computes.

    Attributes:
        right: how many ticks were guessed.
        running: whether the forward of a guess is under way.
        seconds: how long that of the guess took which the last tick has kept; else 0.
    """

    def __init__(self, engine: Engine, thread: CapacityLimiter) -> None:
        self.right = 0
        self.running = False
        self.seconds = 0.0
        self._engine = engine
        self._thread = thread
        self._made = 0
        self._trial: Trial | None = None
        self._took = 0.0
        self._over = anyio.Event()
        self._missed = 0  # guesses in a row that were wrong
        self._rest = 0  # ticks not to guess

    @property
    def wrong(self) -> int:
        """How many forwards were run in vain."""
        open_still = self._trial is not None and self._trial.pending
        return self._made - self.right - open_still

    def begin(self, parts: Sequence[Part], group: TaskGroup, done: Callable[[], None]) -> None:
        """Guess the tick after one, and begin with its forward, unless that does not promise much.

        Args:
            parts: of that tick; those whose seats are about to be woken.
            group: where to wait for the forward.
            done: called when nothing is under way any more.
        """
        try:
            feeds = _next(parts)
            if feeds is None:
                return
            if self._rest:
                self._rest -= 1
                return
            self._trial = self._engine.trial(feeds)
        except Exception as error:  # no room, say: who feeds that in earnest is told
            _log.debug("no guess", reason=f"{type(error).__name__}: {error}")
            return
        self._made += 1
        self.running = True
        self._over = anyio.Event()
        group.start_soon(self._run, self._trial, done, name="hogwild guess")

    async def ended(self) -> bool:
        """Wait until no forward is under way; return whether one was."""
        if not self.running:
            return False
        await self._over.wait()
        return True

    def forward(self, feeds: Sequence[Feed]) -> Tensor:
        """Return what the engine's ``forward`` does; in the worker thread."""
        trial, self._trial, self.seconds = self._trial, None, 0.0
        if trial is not None:
            logits = trial.keep() if _equal(trial.feeds, feeds) else None
            if logits is not None:
                self.right += 1
                self._missed, self.seconds = 0, self._took
                return logits
            trial.withdraw()
            self._rest = min(1 << self._missed, _LONGEST_REST) - 1
            self._missed += 1
        return self._engine.forward(feeds)

    def drop(self) -> None:
        """Take back what nobody will ask for any more; only when :meth:`begin`'s group is left."""
        self.running = False
        if self._trial is not None:
            self._trial.withdraw()
            self._trial = None

    async def _run(self, trial: Trial, done: Callable[[], None]) -> None:
        began = anyio.current_time()
        threads.give_back()
        try:
            await to_thread.run_sync(trial.run, limiter=self._thread)
        except Exception as error:  # it comes again, if it has to, when the tick is run in earnest
            clear_frames(error.__traceback__)  # else its tensors live on
            _log.debug("guess failed", error=f"{type(error).__name__}: {error}")
        finally:
            self._took = anyio.current_time() - began
            self.running = False
            self._over.set()
            done()


def _next(parts: Sequence[Part]) -> list[Feed] | None:
    """Return the feeds that probably come after a tick; None if nobody can tell."""
    feeds = []
    for part in parts:
        token = _only_token(part)
        if token is None:
            return None
        breaks = part.request.feeds[0].breaks
        if breaks is not None and breaks(token):
            return None
        feeds.append(Feed(part.feeds[0].block, part.feeds[0].view, (token,)))
    return feeds or None


def _only_token(part: Part) -> int | None:
    """Return the token sampled for a part that is one feed, and changes nothing else."""
    request = part.request
    if len(request.feeds) != 1 or request.then or part.error is not None or not part.committed:
        return None
    sampled = part.sampled[0]
    return None if sampled is None else sampled.token


def _equal(guessed: Sequence[Feed], asked: Sequence[Feed]) -> bool:
    """Whether feeds are the same, in the same order; whoever sees them sees no difference."""
    return len(guessed) == len(asked) and all(
        one.block is other.block
        and one.tokens == other.tokens
        and tuple(one.view) == tuple(other.view)
        for one, other in zip(guessed, asked, strict=True)
    )
