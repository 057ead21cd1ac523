"""Engine: one model, one cache, one batched forward a tick. It knows token ids and no text.

The low-level face of the package, for those who bring their own scheduler::

    engine = Engine(model)
    prompt, alice, bob = engine.block("prompt"), engine.block("Alice"), engine.block("Bob")
    engine.forward([Feed(prompt, [prompt], prompt_ids)])
    logits = engine.forward([
        Feed(alice, [prompt, bob, alice], alice_ids),
        Feed(bob, [prompt, alice, bob], bob_ids),
    ])

An engine is synchronous and belongs to one thread at a time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor

from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.attention import NAME, SURVEY, AttentionPlan, TickAttention, register
from hogwild_agents.engine.block import CacheBlock, ViewEntry
from hogwild_agents.engine.context import find_context
from hogwild_agents.engine.loan import Loan
from hogwild_agents.engine.packing import find_layers
from hogwild_agents.engine.plan import Feed, build_plan, entry_block, entry_range
from hogwild_agents.engine.pool import Pool, pieces
from hogwild_agents.engine.probe import probe_bound, probe_error, probe_tokens
from hogwild_agents.engine.refusals import refusal, unsupported_reason
from hogwild_agents.engine.rope import Angles, Rope, to_device
from hogwild_agents.engine.survey import survey
from hogwild_agents.errors import (
    CacheFullError,
    ClosedError,
    ConfigError,
    FeedError,
    HogwildError,
    LentModelError,
    TickError,
    UnsupportedModelError,
)

T = TypeVar("T")


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
        pack_weights: let 16-bit linear layers on the CPU compute with a copy of their weights that
            is laid out for this processor, see :attr:`packed_bytes`. By default where the
            processor has no 16-bit products of its own, and the copy takes at most half of the
            free memory; there a tick of 8 workers is about five times as fast with it.
        verify: check on a short probe that the logits equal those of the plain forward.

    Raises:
        UnsupportedModelError: the model's logits would not be computed exactly.
        LentModelError: the model is lent to another engine.
        ConfigError: a budget or the context is below one token, or ``pack_weights`` is asked for
            and cannot be had.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_tokens: int | None = None,
        max_bytes: int | None = None,
        max_context: int | None = None,
        pack_weights: bool | None = None,
        verify: bool = True,
    ) -> None:
        reason = unsupported_reason(model.config)
        if reason:
            raise refusal(model, reason)
        if model.config._attn_implementation in (NAME, SURVEY):
            raise LentModelError(
                f"{type(model).__name__} is lent to another Engine already: share that engine, "
                "or close it first."
            )
        self.model = model
        self._device, self._scattered = _input_device(model), _is_scattered(model)
        self._vocab_size = int(model.get_input_embeddings().weight.shape[0])
        self._context = find_context(model, max_context)
        self._blocks: dict[int, CacheBlock] = {}
        self._closed = False
        self._probe_error: float | None = None
        self._loan = Loan(model, self._context)
        weakref.finalize(self, self._loan.give_back).atexit = False
        try:
            ids, expected = self._explain(self._plain_probe) if verify else ([], None)
            self._loan.pack(find_layers(model, pack_weights))
            register()
            self._adapter = self._survey()
            shapes = self._adapter.shapes
            self._pool = Pool(shapes, _budget(shapes, max_tokens, max_bytes))
            if expected is not None:
                self._verify(ids, expected)
        except BaseException:
            self.close()
            raise

    # -- what it is

    @property
    def device(self) -> torch.device:
        """Where token ids go in and logits come out."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The model's dtype."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def vocab_size(self) -> int:
        """Number of token ids; those a feed may hold are below it."""
        return self._vocab_size

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
        return self._probe_error

    @property
    def max_tokens(self) -> int | None:
        """The cache budget in tokens, or None without one."""
        return self._pool.max_tokens

    @property
    def used_tokens(self) -> int:
        """How many tokens are cached now, over all blocks."""
        return self._pool.used

    @property
    def free_tokens(self) -> int | None:
        """How many more tokens the budget holds, or None without one."""
        return self._pool.free

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values over all layers."""
        return self._pool.bytes_per_token

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights' packed copies, or 0 without any."""
        return self._loan.packed_bytes

    @property
    def closed(self) -> bool:
        """True once the model was given back."""
        return self._closed

    # -- blocks

    def block(self, name: str = "") -> CacheBlock:
        """Return a new empty block. It lives until :meth:`free` or :meth:`close`."""
        self._require_open()
        block = CacheBlock(name)
        self._blocks[id(block)] = block
        return block

    def move(self, source: CacheBlock, target: CacheBlock) -> None:
        """Append all entries of source to target by one rotation of its keys, and empty source.

        Nothing is encoded again. Where the budget has no room for a second copy, the slots are
        handed over as they are, so a move never fails for want of memory.

        Raises:
            FeedError: source is target.
            ClosedError: one of them was freed.
        """
        self._check_move(source, target)
        count, offset = len(source), len(target)
        if not count:
            return
        angles = self._angles(torch.full((count,), offset, device=self.device))
        try:
            self._pool.extend(target._runs, count)
        except CacheFullError:
            self._copy(source._runs, 0, source._runs, 0, count, angles)
            target._runs += source._runs
            source._runs = []
        else:
            try:
                self._copy(source._runs, 0, target._runs, offset, count, angles)
            except BaseException:
                self._pool.shrink(target._runs, offset)
                raise
            self._pool.shrink(source._runs, 0)
        target._tokens += source._tokens
        source._tokens = []

    def truncate(self, block: CacheBlock, length: int) -> None:
        """Drop the entries of a block beyond the first ``length``.

        Raises:
            FeedError: the block is shorter than that, or length is negative.
        """
        self._check_truncate(block, length)
        self._pool.shrink(block._runs, length)
        del block._tokens[length:]

    def free(self, block: CacheBlock) -> None:
        """Give back the memory of a block; it cannot be used afterwards."""
        self._require_blocks(block)
        self._pool.shrink(block._runs, 0)
        block._tokens = []
        block._alive = False
        del self._blocks[id(block)]

    def fork(self, block: CacheBlock, name: str = "") -> CacheBlock:
        """Return a new block with a copy of the entries, to be continued on its own.

        Raises:
            CacheFullError: the budget has no room for the copy.
        """
        self._check_fork(block)
        twin = self.block(name or block.name)
        try:
            self._pool.extend(twin._runs, len(block))
            self._copy(block._runs, 0, twin._runs, 0, len(block), None)
        except BaseException:
            self._pool.shrink(twin._runs, 0)
            self.free(twin)
            raise
        twin._tokens = list(block._tokens)
        return twin

    # -- ticks

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
        """
        self._check_forward(feeds, logits)
        try:
            result = self._run(feeds, keep_all=logits == "all")
        except BaseException:
            for feed in feeds:
                self._pool.shrink(feed.block._runs, len(feed.block))
            raise
        for feed in feeds:
            feed.block._tokens += feed.tokens
        return result

    def check(self, feed: Feed) -> None:
        """Check one feed alone, as :meth:`forward` does.

        Raises:
            FeedError: it is malformed.
            ContextLengthError: its view is longer than the model's context.
            ClosedError: the engine is closed.
        """
        self._require_open()
        _check_tokens(feed, self.vocab_size)
        self._check_view(feed)
        self._check_length(feed, {id(feed.block): len(feed.tokens)})

    def check_integrity(self) -> None:
        """Check that the cache's book-keeping is whole.

        Raises:
            RuntimeError: it is not; this is a bug of the engine.
        """
        for block in self._blocks.values():
            owned = sum(map(len, block._runs))
            if owned != len(block):
                raise RuntimeError(f"{block!r} owns {owned} slots.")
        self._pool.check_integrity([block._runs for block in self._blocks.values()])

    # -- the end

    def close(self) -> None:
        """Free all blocks and give the model back as it was. Doing it again changes nothing."""
        if self._closed:
            return
        self._closed = True
        for block in self._blocks.values():
            block._alive = False
            block._runs = []
        self._blocks.clear()
        if hasattr(self, "_pool"):
            self._pool = Pool(self._pool.shapes, self._pool.max_tokens)
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
            f"{len(self._blocks)} blocks)"
        )

    # -- inside a tick

    def _run(self, feeds: Sequence[Feed], *, keep_all: bool) -> Tensor:
        for feed in feeds:
            self._pool.extend(feed.block._runs, len(feed.tokens))
        with torch.no_grad():
            plan = build_plan(feeds, self._adapter, self._pool, self.device)
            logits = self._call(
                plan.input_ids,
                plan.position_ids,
                TickAttention(plan, self._adapter),
                0 if keep_all else self._kept(plan.last),
            )
        # The sum is NaN if one of them is (or if some are infinite): no copy in the usual case.
        if bool(logits.sum().isnan()) and bool(logits.isnan().any()):
            raise TickError(
                "The forward pass gave NaN instead of logits, so no block was changed: check the "
                f"model's weights and its dtype ({self.dtype})."
            )
        return logits

    def _call(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        plan: AttentionPlan,
        keep: int | list[int] | Tensor,
    ) -> Tensor:
        with self._loan.carrying(plan):
            output = self.model(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                logits_to_keep=keep,
                plan=plan,
            )
        logits: Tensor = output.logits[0].float()
        return logits

    def _kept(self, rows: Tensor) -> list[int] | Tensor:
        """Return which rows get logits, as a model takes it whose last layer may lie elsewhere."""
        return rows.tolist() if self._scattered else rows

    def _copy(
        self,
        source: Any,
        source_from: int,
        target: Any,
        target_from: int,
        count: int,
        angles: dict[tuple[Rope, torch.device], Angles] | None,
    ) -> None:
        """Copy entries between runs, turning their keys; source and target may be the same.

        All is computed before anything is written, so that a failure changes nothing.
        """
        done = 0
        writes: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            while done < count:
                here = pieces(source, source_from + done, source_from + count)[0]
                there = pieces(target, target_from + done, target_from + count)[0]
                size = min(here[2] - here[1], there[2] - there[1])
                part = slice(done, done + size)
                take, give = slice(here[1], here[1] + size), slice(there[1], there[1] + size)
                for layer, how in enumerate(self._adapter.layers):
                    keys = here[0].keys[layer][:, take]
                    if angles and how.rope is not None:
                        cos, sin = angles[how.rope, keys.device]
                        keys = how.rope.turn(keys, (cos[part], sin[part]))
                    writes.append((there[0].keys[layer][:, give], keys))
                    values = here[0].values[layer][:, take]
                    writes.append((there[0].values[layer][:, give], values))
                done += size
            for to, states in writes:
                to.copy_(states)

    def _angles(self, offsets: Tensor) -> dict[tuple[Rope, torch.device], Angles]:
        """Return the angles of each rope, on each device that has layers with it."""
        places = {(how.rope, how.shape.device) for how in self._adapter.layers if how.rope}
        with torch.no_grad():
            angles = {rope: rope.table.angles(offsets) for rope, _ in places}
            return {(rope, place): to_device(angles[rope], place) for rope, place in places}

    # -- checks

    def _check_move(self, source: CacheBlock, target: CacheBlock) -> None:
        self._require_blocks(source, target)
        if source is target:
            raise FeedError(f"{source!r} cannot be moved into itself: name another target.")

    def _check_truncate(self, block: CacheBlock, length: int) -> None:
        self._require_blocks(block)
        if not 0 <= length <= len(block):
            raise FeedError(
                f"{block!r} cannot be truncated to {length} tokens: give 0 to {len(block)}."
            )

    def _check_fork(self, block: CacheBlock) -> None:
        self._require_blocks(block)
        self._pool.require(len(block))

    def _check_forward(self, feeds: Sequence[Feed], logits: str) -> None:
        if logits not in ("last", "all"):
            raise FeedError(f"logits is {logits!r}, but must be 'last' or 'all'.")
        self._require_open()
        if not feeds:
            raise FeedError("A tick needs at least one feed, but none was given.")
        fresh: dict[int, int] = {}
        for feed in feeds:
            if id(feed.block) in fresh:
                raise FeedError(
                    f"Two feeds of one tick write {feed.block!r}: join their tokens into one feed, "
                    "or give each a block of its own."
                )
            fresh[id(feed.block)] = len(feed.tokens)
            _check_tokens(feed, self.vocab_size)
            self._check_view(feed)
        for feed in feeds:
            self._check_length(feed, fresh)
        self._pool.require(sum(fresh.values()))

    def _check_view(self, feed: Feed) -> None:
        self._require_blocks(feed.block, *(entry_block(entry) for entry in feed.view))
        last: ViewEntry | None = feed.view[-1] if len(feed.view) else None
        if last is None or entry_block(last) is not feed.block or not _open_end(last):
            raise FeedError(
                f"The view of a feed ends in the block it writes, but this one for "
                f"{feed.block!r} ends in {last!r}: put the written block last."
            )
        for entry in feed.view[:-1]:
            if entry_block(entry) is feed.block and _open_end(entry):
                raise FeedError(
                    f"{feed.block!r} is written and stands twice in its own view: name it once, "
                    "at the end."
                )
        for entry in feed.view:
            low, high = entry_range(entry, 0)
            if not 0 <= low <= high <= len(entry_block(entry)):
                raise FeedError(
                    f"A view names the entries {low} to {high} of {entry_block(entry)!r}, which "
                    "has not so many: slice it within its length."
                )

    def _check_length(self, feed: Feed, fresh: dict[int, int]) -> None:
        ranges = (entry_range(e, fresh.get(id(entry_block(e)), 0)) for e in feed.view)
        self._context.check(sum(high - low for low, high in ranges), feed.block)

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("This engine is closed, its model given back: make a new Engine.")

    def _require_blocks(self, *blocks: CacheBlock) -> None:
        self._require_open()
        for block in blocks:
            block._require_alive()
            if id(block) not in self._blocks:
                raise FeedError(f"{block!r} belongs to another engine: use this engine's blocks.")

    # -- the model

    def _plain_probe(self) -> tuple[list[int], Tensor]:
        ids = probe_tokens(self.vocab_size, 24)
        text = self.model.config.get_text_config(decoder=True)
        if getattr(text, "attn_logit_softcapping", None) is not None:
            self.model.set_attn_implementation("eager")  # transformers' sdpa drops the cap
        with torch.no_grad():
            output = self.model(torch.tensor([ids], device=self.device), use_cache=False)
        return ids, output.logits[0]

    def _survey(self) -> Adapter:
        """Find out how the layers attend, and leave the model with the engine's attention."""
        self._explain(lambda: self._attach(SURVEY))
        try:
            adapter = self._explain(self._look)
        except LentModelError:
            self._loan.bridge()
            try:
                adapter = self._explain(self._look)
            except LentModelError as error:
                raise refusal(
                    self.model, "its attention takes no extra arguments, so no plan reaches it"
                ) from error
        self._attach(NAME)
        return adapter

    def _look(self) -> Adapter:
        return survey(
            self.model,
            self.context_length,
            self.device,
            lambda ids, at, plan: self._call(ids, at, plan, 1),
        )

    def _attach(self, name: str) -> None:
        self.model.set_attn_implementation(name)
        if self.model.config._attn_implementation != name:
            raise refusal(self.model, "its attention is not built on AttentionInterface")

    def _verify(self, ids: list[int], expected: Tensor) -> None:
        found = self._explain(lambda: self._spread_probe(ids))
        error, bound = probe_error(found, expected), probe_bound(expected.dtype)
        self._probe_error = error
        if not error <= bound:
            raise refusal(
                self.model,
                f"one worker's logits differ from its plain forward by {error:.1e} of their "
                f"spread (at most {bound:.0e} is rounding)",
            )

    def _spread_probe(self, ids: list[int]) -> Tensor:
        """Write one text over three blocks, with a step that ends, and return all its logits."""
        prompt, step, own = (self.block(name) for name in ("prompt", "step", "own"))
        blocks = (prompt, step, own)
        pool, self._pool = self._pool, Pool(self._pool.shapes, len(ids))
        try:
            parts = [
                self.forward([Feed(prompt, [prompt], ids[:7])], logits="all"),
                self.forward([Feed(step, [prompt, step], ids[7:12])], logits="all"),
                self.forward([Feed(step, [prompt, step], ids[12:13])], logits="all"),
                self.forward([Feed(own, [prompt, step, own], ids[13:16])], logits="all"),
            ]
            self.move(step, prompt)
            for token in ids[16:]:
                parts.append(self.forward([Feed(own, [prompt, own], [token])]))
        finally:
            for block in blocks:
                self.free(block)
            self._pool = pool
        return torch.cat(parts)

    def _explain(self, call: Callable[[], T]) -> T:
        """Turn whatever a model's code raises under this attention into a refusal by name."""
        try:
            return call()
        except (UnsupportedModelError, LentModelError):
            raise
        except HogwildError as error:
            raise refusal(self.model, f"a probe failed ({error})") from error
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise refusal(self.model, f"a probe failed ({first})") from error


def _input_device(model: Any) -> torch.device:
    """Return where a model takes token ids.

    That is where its embeddings are, or where accelerate brings them when they are needed.
    """
    embeddings = model.get_input_embeddings()
    place: torch.device = embeddings.weight.device
    if place.type == "meta":
        place = torch.device(embeddings._hf_hook.execution_device)
    return place


def _is_scattered(model: Any) -> bool:
    return len({tensor.device for tensor in model.parameters()}) > 1


def _open_end(entry: ViewEntry) -> bool:
    return isinstance(entry, CacheBlock) or entry.stop is None


def _check_tokens(feed: Feed, vocabulary: int) -> None:
    if not len(feed.tokens):
        raise FeedError(f"The feed for {feed.block!r} has no tokens: a feed needs at least one.")
    wrong = next((token for token in feed.tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise FeedError(
            f"The feed for {feed.block!r} holds the token {wrong}, but the model has the ids 0 to "
            f"{vocabulary - 1}."
        )


def _budget(shapes: Sequence[Any], max_tokens: int | None, max_bytes: int | None) -> int | None:
    for name, value in (("max_tokens", max_tokens), ("max_bytes", max_bytes)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}, but a cache needs at least 1.")
    budgets = [] if max_tokens is None else [max_tokens]
    if max_bytes is not None:
        per_token = sum(shape.bytes_per_token for shape in shapes)
        if max_bytes < per_token:
            raise ConfigError(
                f"max_bytes is {max_bytes}, but one token of this model takes {per_token} bytes."
            )
        budgets.append(max_bytes // per_token)
    return min(budgets) if budgets else None
