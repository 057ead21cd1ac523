"""Parallel: one engine over several processes, each of which holds its share of the model.

``torchrun`` starts the processes. All of them load the same model with transformers' tensor
parallelism, which gives each some of the heads, and build this engine on it. Process 0 leads: it
is used like any engine. The others :meth:`~ParallelEngine.follow`: whatever changes blocks or
runs the model is told to them first, as a few integers, and then done by all at once, since their
layers exchange results in the midst of each forward. Blocks go by numbers that the leader gives.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any, Literal
from weakref import WeakKeyDictionary

from torch import Tensor

from hogwild_agents.engine.block import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.engine.context import LongContextWarning
from hogwild_agents.engine.engine import Engine
from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.link import Link, reason_of
from hogwild_agents.engine.trial import Trial, alone
from hogwild_agents.errors import ConfigError, ParallelError, TickError, UsageError

_OPEN = -1
"""Stands for a slice that ends where its block ends."""


class Order(IntEnum):
    """What a message is about: its first integer."""

    CLOSE = 0
    FORWARD = 1
    MOVE = 2
    TRUNCATE = 3
    FREE = 4
    FORK = 5
    TRY = 6
    KEEP = 7


class ParallelEngine(Engine):
    """An engine that several processes run together.

    Every process builds it, on its share of the same model and with the same options. What a
    caller may do wrong is found by the leader before anything is told. Of a tick that gives NaN
    no process keeps anything. After any other failure the processes are no longer in step, and
    the engine can only be closed.

    Args:
        model: this process's share of a model.
        options: see :class:`Engine`; the same for all processes.

    Raises:
        ConfigError: the processes have built engines that differ, or graphs or compiled layers are
            asked for.
        UnsupportedModelError, LentModelError: see :class:`Engine`.
    """

    _link: Link | None = None
    _inside = False  # of something that all processes do
    _parted = False

    def __init__(self, model: Any, **options: Any) -> None:
        self._numbers: WeakKeyDictionary[CacheBlock, int] = WeakKeyDictionary()
        self._counter = itertools.count()
        for option in ("graphs", "compile_layers"):
            if options.pop(option, None):
                raise ConfigError(
                    f"{option} is on, but the forward of a model in several processes is neither "
                    "recorded nor compiled: leave it out."
                )
        super().__init__(model, graphs=False, **options)
        try:
            self._link = Link()
            self._check_alike()
        except BaseException:
            self.close()
            raise

    @property
    def leads(self) -> bool:
        """Whether this process leads; the others follow."""
        return self._link is None or self._link.leads

    # -- the leader

    @alone
    def forward(self, feeds: Sequence[Feed], *, logits: Literal["last", "all"] = "last") -> Tensor:
        """See :meth:`Engine.forward`.

        Raises:
            ParallelError: the processes are no longer in step.
        """
        feeds = tuple(feeds)
        self._check_forward(feeds, logits)
        with self._together(
            lambda: [Order.FORWARD, *_write_tick(feeds, logits == "all", self._number)]
        ):
            return super().forward(feeds, logits=logits)

    def _run_trial(self, trial: Trial) -> None:
        with self._lock:
            if not trial.pending:
                return
            tick = _write_tick(trial.feeds, False, self._number)
            with self._together(lambda: [Order.TRY, *tick]):
                super()._run_trial(trial)

    def _keep_trial(self, trial: Trial) -> Tensor | None:
        with self._lock:
            if not trial.pending or trial._logits is None:
                return None
            with self._together(lambda: [Order.KEEP]):
                return super()._keep_trial(trial)

    @alone
    def move(self, source: CacheBlock, target: CacheBlock) -> None:
        """See :meth:`Engine.move`."""
        self._check_move(source, target)
        with self._together(lambda: [Order.MOVE, self._number(source), self._number(target)]):
            super().move(source, target)

    @alone
    def truncate(self, block: CacheBlock, length: int) -> None:
        """See :meth:`Engine.truncate`."""
        self._check_truncate(block, length)
        with self._together(lambda: [Order.TRUNCATE, self._number(block), length]):
            super().truncate(block, length)

    @alone
    def free(self, block: CacheBlock) -> None:
        """See :meth:`Engine.free`."""
        self._require_blocks(block)
        with self._together(lambda: [Order.FREE, self._number(block)]):
            super().free(block)

    @alone
    def fork(self, block: CacheBlock, name: str = "") -> CacheBlock:
        """See :meth:`Engine.fork`."""
        self._check_fork(block)
        number = next(self._counter)
        with self._together(lambda: [Order.FORK, self._number(block), number]):
            twin = super().fork(block, name)
        self._numbers[twin] = number
        return twin

    @alone
    def close(self) -> None:
        """Close the engine; the leader ends the others' :meth:`follow` by it."""
        link, self._link = self._link, None
        if link is not None:
            if link.leads and not self._parted and not self.closed:
                with suppress(ParallelError):  # who is gone need not be told
                    link.send([Order.CLOSE])
            link.close()
        super().close()

    # -- the others

    def follow(self) -> None:
        """Do what the leader says, until it closes its engine; then this one is closed too.

        Raises:
            UsageError: this is the leader.
            ParallelError: the leader has ended without closing, or this process has failed in
                what all did together.
        """
        if self._link is None or self._link.leads:
            raise UsageError("Process 0 leads and cannot follow: call follow() in the others only.")
        blocks: dict[int, CacheBlock] = {}
        self._inside = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LongContextWarning)  # the leader warns
                while (message := self._link.receive())[0] != Order.CLOSE:
                    self._obey(message, blocks)
        finally:
            self.close()

    def _obey(self, message: list[int], blocks: dict[int, CacheBlock]) -> None:
        def block(number: int) -> CacheBlock:
            if number not in blocks:
                blocks[number] = self.block(f"block {number}")
            return blocks[number]

        order, rest = Order(message[0]), message[1:]
        try:
            if order is Order.FORWARD:
                feeds, everything = _read_tick(rest, block)
                super().forward(feeds, logits="all" if everything else "last")
            elif order is Order.MOVE:
                super().move(block(rest[0]), block(rest[1]))
            elif order is Order.TRUNCATE:
                super().truncate(block(rest[0]), rest[1])
            elif order is Order.FREE:
                super().free(block(rest[0]))
                del blocks[rest[0]]
            elif order is Order.FORK:
                blocks[rest[1]] = super().fork(block(rest[0]))
            elif order is Order.TRY:
                self.trial(_read_tick(rest, block)[0]).run()
            elif order is Order.KEEP:
                assert self._trial is not None, "what is to be kept was run before"
                self._trial.keep()
        except TickError:
            return  # NaN, which the leader has found as well
        except Exception as error:
            raise self._parting(order, error) from error

    # -- both

    def _check_alike(self) -> None:
        link = self._link
        assert link is not None
        mine = (self.max_tokens or 0, self.context_length or 0, len(self._adapter.layers))
        for rank, theirs in enumerate(link.agree(mine)):
            if theirs != mine:
                raise ConfigError(
                    f"Process {link.rank} has an engine with (max_tokens, context, layers) {mine}, "
                    f"but process {rank} one with {theirs}: give all processes the same options."
                )

    def _number(self, block: CacheBlock) -> int:
        if block not in self._numbers:
            self._numbers[block] = next(self._counter)
        return self._numbers[block]

    @contextmanager
    def _together(self, message: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Tell the others what is done inside, unless they do it anyway as a part of more."""
        if self._link is None or self._inside:  # without a link all processes build it alike
            yield
            return
        self._require_step(self._link)
        self._inside = True
        order = message()
        try:
            self._link.send(order)
            yield
        except TickError:
            raise  # NaN in all processes, and none has changed
        except ParallelError:
            self._parted = True
            raise
        except Exception as error:
            self._parted = True
            raise self._parting(Order(order[0]), error) from error
        except BaseException:
            self._parted = True
            raise
        finally:
            self._inside = False

    def _require_step(self, link: Link) -> None:
        if not link.leads:
            raise UsageError(
                f"Process {link.rank} follows process 0 and does nothing by itself: call follow()."
            )
        if self._parted:
            raise ParallelError(
                "The processes of this model are no longer in step, since one of them failed: "
                "start them all anew."
            )

    def _parting(self, order: Order, error: BaseException) -> ParallelError:
        rank = 0 if self._link is None else self._link.rank
        return ParallelError(
            f"Process {rank} failed in a {order.name.lower()} that all processes of this model do "
            f"together ({reason_of(error)}), so they are no longer in step: mend the cause and "
            "start them all anew."
        )


def _write_tick(
    feeds: Sequence[Feed], everything: bool, number: Callable[[CacheBlock], int]
) -> list[int]:
    """Return a tick as integers; each feed: block, view entries, tokens, with their counts."""
    message = [int(everything)]
    for feed in feeds:
        message += [number(feed.block), len(feed.view)]
        for entry in feed.view:
            message += _write_entry(entry, number)
        message += [len(feed.tokens), *feed.tokens]
    return message


def _write_entry(entry: ViewEntry, number: Callable[[CacheBlock], int]) -> list[int]:
    if isinstance(entry, CacheBlock):
        return [number(entry), 0, _OPEN]
    return [number(entry.block), entry.start, _OPEN if entry.stop is None else entry.stop]


def _read_tick(
    message: Sequence[int], block: Callable[[int], CacheBlock]
) -> tuple[list[Feed], bool]:
    """Return the tick that :func:`_write_tick` wrote."""
    rest = iter(message)
    everything = bool(next(rest))
    feeds = []
    for written in rest:
        view = [_read_entry(rest, block) for _ in range(next(rest))]
        tokens = [next(rest) for _ in range(next(rest))]
        feeds.append(Feed(block(written), view, tokens))
    return feeds, everything


def _read_entry(rest: Iterator[int], block: Callable[[int], CacheBlock]) -> BlockSlice:
    number, start, stop = next(rest), next(rest), next(rest)
    return BlockSlice(block(number), start, None if stop == _OPEN else stop)
