"""Engine: one model, one cache, one batched forward a tick. It knows token ids and no text.

The low-level face of the package, for those who bring their own scheduler::

    engine = Engine(model)
    prompt, alice, bob = engine.block("prompt"), engine.block("Alice"), engine.block("Bob")
    engine.forward([Feed(prompt, [prompt], prompt_ids)])
    logits = engine.forward([
        Feed(alice, [prompt, bob, alice], alice_ids),
        Feed(bob, [prompt, alice, bob], bob_ids),
    ])

An engine is synchronous. Calls that change its cache wait for each other, from whatever threads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.attachment import attach
from hogwild_agents.engine.attention import NAME, SURVEY, TickAttention
from hogwild_agents.engine.block import CacheBlock
from hogwild_agents.engine.cache import Cache
from hogwild_agents.engine.checks import check_feeds, check_tick
from hogwild_agents.engine.context import find_context
from hogwild_agents.engine.experts import Experts, find_experts
from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.gates import find_gates
from hogwild_agents.engine.graphs import Graph, Graphs, obstacle, recorder_of
from hogwild_agents.engine.loan import Loan, implementations
from hogwild_agents.engine.norms import find_norms
from hogwild_agents.engine.plan import Plan, build_plan
from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.probe import Probe
from hogwild_agents.engine.products import Products, find_layers
from hogwild_agents.engine.ranges import is_count, require_least_one
from hogwild_agents.engine.refusals import refusal, unsupported_reason
from hogwild_agents.engine.replaced import Replaced
from hogwild_agents.engine.schedule import Tuning, tuning_of
from hogwild_agents.engine.trial import Trial, alone
from hogwild_agents.errors import (
    CacheFullError,
    ClosedError,
    ConfigError,
    FeedError,
    LentModelError,
    TickError,
)


class Engine:
    """Runs ticks of a transformers causal language model over shared cache blocks.

    While the engine lives the model is lent to it: its attention implementation is ``"hogwild"``
    and it is in eval mode. :meth:`close` (or leaving a ``with``) gives it back as it was; so does
    dropping the engine.

    Args:
        model: a loaded causal language model with rotary positions.
        max_tokens: cache budget in tokens.
        max_bytes: cache budget in bytes of keys and values; the smaller budget counts.
        max_context: longest view in tokens; by default what the model was made for. Beyond that
            a warning is given once. A model with two longrope tables is run with its long one if
            this is more than the short one is for.
        kernels: compute attention, norms and gates, and on the CPU linear layers and experts, by
            the engine's own compiled kernels; by default where they help and work, see
            :attr:`kernels`. False leaves everything to torch; True also multiplies by them where
            the processor has products of 16-bit matrices itself (x86 with tiles of float16, ARM
            with bfloat16), and float32 weights on other processors than x86.
        int8_weights: let linear layers and experts on the CPU compute with copies of their weights
            that are rounded to 8 bits, with one factor for each output: half the bytes to read for
            each tick, and logits that differ a little, see :attr:`int8_bytes`. They are rounded
            when the engine is made: weights that are changed later do not count.
        graphs: record the forward of small ticks that come again and again, and replay it without
            Python in between (by CUDA graphs on a GPU); by default where the layers' attention is
            all the engine's own and the model lies on one device. See :attr:`graphs`.
        compile_layers: run the model's layers, around the attention, through ``torch.compile``,
            which joins their small operations: for GPUs, where each of these is a launch. Takes
            up to a minute when the engine is made, and a C compiler.
        verify: check on a short probe that the logits equal those of the plain forward.

    Raises:
        UnsupportedModelError: the model's logits would not be computed exactly.
        LentModelError: the model is lent to another engine.
        ConfigError: a budget or the context is no whole number, or too small for one token or the
            probe, or kernels, int8 weights, graphs or compiled layers are asked for and cannot be
            had.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_tokens: int | None = None,
        max_bytes: int | None = None,
        max_context: int | None = None,
        kernels: bool | None = None,
        int8_weights: bool = False,
        graphs: bool | None = None,
        compile_layers: bool = False,
        verify: bool = True,
    ) -> None:
        require_least_one(max_tokens=max_tokens, max_bytes=max_bytes, max_context=max_context)
        reason = unsupported_reason(model.config)
        if reason:
            raise refusal(model, reason)
        if {NAME, SURVEY}.intersection(implementations(model.config).values()):
            raise LentModelError(
                f"{type(model).__name__} is lent to another Engine already, or has the same config "
                "object (or part of one) as a model that is: share that engine, close it first, or "
                "make each model with a config of its own (copy.deepcopy)."
            )
        self.model = model
        self._context = find_context(model, max_context)
        self._lock = threading.RLock()
        self._trial: Trial | None = None  # it has slots
        self._closed = False
        self._probed: tuple[float, float] | None = None  # the error, and how much it may be
        self._graphs: Graphs | None = None
        self._loan = Loan(model, self._context)
        weakref.finalize(self, self._loan.give_back).atexit = False
        try:
            layers = find_layers(model, kernels, int8=int8_weights)
            own = kernels is not False and not compile_layers  # which joins more by itself
            gates = find_gates(model) if own else {}
            experts = find_experts(model, kernels, int8=int8_weights)
            if int8_weights:  # the plain forward is then one with these weights
                self._multiply(layers, experts, int8=True)
            probe = Probe(self._loan) if verify else None
            if not int8_weights:
                self._multiply(layers, experts, int8=False)
            self._loan.replace("norms", Replaced(find_norms(model) if own else {}))
            self._loan.replace("gates", Replaced(gates))
            self._adapter = attach(self._loan, self._context.limit)
            if compile_layers:
                self._loan.compile()
            self._tuning = _by_torch if kernels is False else tuning_of
            if kernels and not self.kernels:
                raise ConfigError(
                    f"kernels is on, but none of the engine's own runs on {self.device}: it takes "
                    "numba on a CPU, triton on a GPU; leave it out."
                )
            cache = Cache(self._adapter, self.device, max_tokens=max_tokens, max_bytes=max_bytes)
            if probe is not None:
                size = len(probe.tokens)  # in a cache of its own, whatever the budget is
                self._cache = Cache(self._adapter, self.device, max_tokens=size)
                self._probed = probe.check(self)
            self._cache = cache
            if graphs is not False:
                self._graphs = self._recorded(graphs)
        except BaseException:
            self.close()
            raise

    # -- what it is

    @property
    def device(self) -> torch.device:
        """Where token ids go in and logits come out."""
        return self._loan.device

    @property
    def dtype(self) -> torch.dtype:
        """The model's dtype."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def vocab_size(self) -> int:
        """Number of token ids; those a feed may hold are below it."""
        return self._loan.vocab_size

    @property
    def adapter(self) -> Adapter:
        """How the layers of the model attend, as the survey found it."""
        return self._adapter

    @property
    def context_length(self) -> int | None:
        """The longest view in tokens; a longer one is refused. None without a limit."""
        return self._context.limit

    @property
    def probe_error(self) -> float | None:
        """How far one worker's logits were from the plain forward's, relative to their spread.

        None if that was not measured (``verify=False``).
        """
        return self._probed[0] if self._probed else None

    @property
    def probe_bound(self) -> float | None:
        """How much of :attr:`probe_error` rounding explains; with more the model is refused.

        That is 1e-3 in float32 and 0.05 in half precision, or three times what the model's logits
        move by where the last bits of its embeddings change.
        """
        return self._probed[1] if self._probed else None

    @property
    def max_tokens(self) -> int | None:
        """The cache budget in tokens, or None without one."""
        return self._cache.pool.max_tokens

    @property
    def used_tokens(self) -> int:
        """How many tokens are cached now, over all blocks."""
        return self._cache.used

    @property
    def free_tokens(self) -> int | None:
        """How many more tokens the budget holds, or None without one."""
        budget = self.max_tokens
        return None if budget is None else budget - self.used_tokens

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values over all layers."""
        return self._cache.pool.bytes_per_token

    @property
    def kernels(self) -> tuple[str, ...]:
        """What the engine's own kernels compute, some or none of these.

        ``"attention"``, ``"norms"`` (RMS norms), ``"gates"`` (of gated MLPs), and on the CPU
        ``"products"`` (linear layers) and ``"experts"`` (of mixtures). A layer that they do not
        take is torch's all the same.
        """
        attention = [shape for shape in self._adapter.shapes if self._tuning(shape)]
        replaced = {name: found.count for name, found in self._loan.replaced.items()}
        own = {"attention": len(attention), **replaced}
        return tuple(name for name, count in own.items() if count)

    @property
    def graphs(self) -> int:
        """How many recordings of forwards are there to be replayed.

        A forward is recorded when a few ticks were laid out alike, unless it looks at numbers on
        the way (as some mixtures of experts do) or somebody has hooked the model. A recording
        is held against the plain forward for two ticks first; and where the model was changed
        since, all are forgotten.
        """
        return self._graphs.count if self._graphs else 0

    @property
    def replayed(self) -> Graph | None:
        """What the last tick was replayed from; None if it was computed anew."""
        return self._graphs.last if self._graphs else None

    @property
    def int8_bytes(self) -> int:
        """Bytes of the copies of weights that are rounded to 8 bits, or 0 without any."""
        return sum(replaced.bytes for replaced in self._loan.replaced.values())

    @property
    def compiled_layers(self) -> int:
        """How many layers of the model run through ``torch.compile``."""
        return self._loan.compiled_layers

    @property
    def closed(self) -> bool:
        """True once the model was given back."""
        return self._closed

    # -- blocks

    def block(self, name: str = "") -> CacheBlock:
        """Return a new empty block. It lives until :meth:`free` or :meth:`close`."""
        self._require_open()
        return self._cache.block(name)

    @alone
    def move(self, source: CacheBlock, target: CacheBlock) -> None:
        """Append all entries of source to target by one rotation of its keys, and empty source.

        Nothing is encoded again. Where the budget has no room for a second copy, the slots are
        handed over as they are, so a move never fails for want of memory.

        Raises:
            FeedError: source is target.
            ClosedError: one of them was freed.
        """
        self._check_move(source, target)
        self._cache.move(source, target)

    @alone
    def truncate(self, block: CacheBlock, length: int) -> None:
        """Drop the entries of a block beyond the first ``length``.

        Raises:
            FeedError: the block is shorter than that, or length is no whole number from 0.
        """
        self._check_truncate(block, length)
        self._cache.truncate(block, length)

    @alone
    def free(self, block: CacheBlock) -> None:
        """Give back the memory of a block; it cannot be used afterwards."""
        self._require_blocks(block)
        self._cache.free(block)

    @alone
    def fork(self, block: CacheBlock, name: str = "") -> CacheBlock:
        """Return a new block with a copy of the entries, to be continued on its own.

        Raises:
            CacheFullError: the budget has no room for the copy.
        """
        self._check_fork(block)
        return self._cache.fork(block, name or block.name)

    # -- ticks

    @alone
    def forward(self, feeds: Sequence[Feed], *, logits: Literal["last", "all"] = "last") -> Tensor:
        """Run one tick: append every feed's tokens to its block, and return logits.

        Every feed sees all the tokens that the other blocks of its view gain in this same tick;
        inside the block it writes, attention is causal. Blocks grow only when all went well.

        Args:
            feeds: at most one for each block.
            logits: ``"last"`` for those after the last token of each feed, ``"all"`` for those
                after every token, feed after feed.

        Returns:
            [feeds, vocab], or [tokens of all feeds, vocab]; float32.

        Raises:
            FeedError: a feed is malformed, or two write the same block.
            ContextLengthError: a view is longer than the model's context.
            CacheFullError: the budget has no room.
            TickError: the logits are not numbers.
            LentModelError: somebody has given the model another attention meanwhile.
        """
        self._check_forward(feeds, logits)
        several = any(len(feed.tokens) > 1 for feed in feeds)
        try:
            result = self._run(feeds, keep_all=several and logits == "all")
        except BaseException:
            self._cache.withdraw()
            raise
        self._cache.commit()
        return result

    @alone
    def trial(self, feeds: Sequence[Feed]) -> Trial:
        """Prepare a tick that may be run before it is known whether it is wanted::

            trial = engine.trial([Feed(alice, [prompt, bob, alice], [token])])
            trial.run()  # perhaps in another thread
            logits = trial.keep()  # as of forward(); or trial.withdraw()

        One tick at a time is on trial. It takes no new memory, so that what is taken back leaves
        no trace.

        Args:
            feeds: at most one for each block.

        Raises:
            FeedError, ContextLengthError: see :meth:`forward`.
            CacheFullError: the memory that is there has no room, or the budget has none.
        """
        feeds = tuple(feeds)
        self._check_forward(feeds, "last")
        size, spare = sum(len(feed.tokens) for feed in feeds), self._cache.pool.spare
        if size > spare:
            raise CacheFullError(
                f"A trial of {size} tokens takes no new memory, and what is there has room for "
                f"{spare}: run it by forward()."
            )
        # Views of its own: the caller's lists may be changed before it is run.
        feeds = tuple(replace(feed, view=tuple(feed.view)) for feed in feeds)
        self._cache.reserve(feeds)
        self._trial = Trial(self, feeds)
        return self._trial

    def check(self, *feeds: Feed) -> None:
        """Check feeds of one tick as :meth:`forward` does, but for the room that they need.

        Raises:
            FeedError: one is malformed, or two write the same block.
            ContextLengthError: a view is longer than the model's context.
            ClosedError: the engine is closed, or a block was freed.
        """
        self._require_open()
        check_feeds(feeds, self._cache, self._context, self.vocab_size)

    def check_integrity(self) -> None:
        """Check that the cache's book-keeping is whole.

        Raises:
            RuntimeError: it is not; this is a bug of the engine.
        """
        with self._lock:
            self._cache.check_integrity()

    # -- the end

    @alone
    def close(self) -> None:
        """Free all blocks and give the model back as it was. Doing it again changes nothing."""
        if self._closed:
            return
        self._closed = True
        self._graphs = None
        if hasattr(self, "_cache"):
            self._cache.clear()
        self._loan.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Engine({type(self.model).__name__}, {self.used_tokens} tokens cached in "
            f"{len(self._cache.blocks)} blocks)"
        )

    # -- inside a tick

    def _run(self, feeds: Sequence[Feed], *, keep_all: bool) -> Tensor:
        self._cache.reserve(feeds)
        return self._logits(feeds, keep_all=keep_all)

    def _run_trial(self, trial: Trial) -> None:
        with self._lock:
            if self._trial is not trial:
                return
            try:
                trial._logits = self._logits(trial.feeds, keep_all=False)
            except BaseException:
                self._withdraw_trial(trial)
                raise

    def _keep_trial(self, trial: Trial) -> Tensor | None:
        with self._lock:
            if self._trial is not trial or trial._logits is None:
                return None
            self._trial = None
            self._cache.commit()
            return trial._logits

    def _withdraw_trial(self, trial: Trial) -> None:
        with self._lock:
            if self._trial is trial:
                self._trial = trial._logits = None
                self._cache.withdraw()

    def _logits(self, feeds: Sequence[Feed], *, keep_all: bool) -> Tensor:
        """Compute the logits of feeds whose slots are reserved."""
        graphs = None if keep_all else self._graphs
        with torch.no_grad():
            plan = build_plan(
                feeds,
                self._adapter,
                self._cache.pool,
                self.device,
                self._tuning,
                graphs.fill if graphs else None,
            )
            replayed = graphs.replay(plan) if graphs else None
            logits = self._plain_logits(plan, keep_all) if replayed is None else replayed
        # The sum is NaN if one of them is (or if some are infinite): no copy in the usual case.
        if bool(logits.sum().isnan()) and bool(logits.isnan().any()):
            raise TickError(
                "The forward pass gave NaN instead of logits, so no block was changed: check the "
                f"model's weights and its dtype ({self.dtype})."
            )
        if graphs and replayed is None:
            with torch.no_grad():
                if not graphs.learn(plan, logits):
                    logits = self._plain_logits(plan, keep_all)
        return logits

    def _multiply(self, layers: list[nn.Linear], experts: list[nn.Module], *, int8: bool) -> None:
        """Let layers and experts compute with compiled products."""
        self._loan.replace("products", Products(layers, int8=int8))
        self._loan.replace("experts", Experts(experts, int8=int8))

    def _plain_logits(self, plan: Plan, keep_all: bool) -> Tensor:
        attention = TickAttention(plan, self._adapter)
        keep = 0 if keep_all else plan.last
        logits = self._loan.forward(plan.input_ids, plan.position_ids, attention, keep).float()
        return logits if keep_all else logits[: plan.feeds]

    def _recorded(self, wanted: bool | None) -> Graphs | None:
        """Return what records forwards here, if anything does."""
        reason = obstacle(self._loan, self._adapter, self._tuning)
        if reason is None:
            return Graphs(self._loan, self._adapter, recorder_of(self._loan), self._loan.hooks)
        if wanted:
            raise ConfigError(
                f"graphs is on, but no forward can be recorded: {reason}; leave it out."
            )
        return None

    # -- checks

    def _check_move(self, source: CacheBlock, target: CacheBlock) -> None:
        self._require_blocks(source, target)
        if source is target:
            raise FeedError(f"{source!r} cannot be moved into itself: name another target.")

    def _check_truncate(self, block: CacheBlock, length: int) -> None:
        self._require_blocks(block)
        if not (is_count(length) and length <= len(block)):
            raise FeedError(
                f"{block!r} cannot be truncated to {length} tokens: give 0 to {len(block)}."
            )

    def _check_fork(self, block: CacheBlock) -> None:
        self._require_blocks(block)
        self._cache.pool.require(len(block))

    def _check_forward(self, feeds: Sequence[Feed], logits: str) -> None:
        if logits not in ("last", "all"):
            raise FeedError(f"logits is {logits!r}, but must be 'last' or 'all'.")
        self._require_open()
        check_tick(feeds, self._cache, self._context, self.vocab_size)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("This engine is closed, its model given back: make a new Engine.")

    def _require_blocks(self, *blocks: CacheBlock) -> None:
        self._require_open()
        self._cache.require(*blocks)


def _by_torch(shape: LayerShape) -> Tuning | None:
    """Leave every layer to torch."""
