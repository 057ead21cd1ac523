"""Common: blocks that several runs share, since the same tokens stand in the same place.

What begins all views (the beginning of the prompts, the headings) is encoded alone, from position
0, so that one run's block is as good as another's. It is encoded by the first run that wants it,
and freed when the last one has given it back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import anyio

from hogwild_agents.engine import CacheBlock
from hogwild_agents.errors import UsageError

if TYPE_CHECKING:
    from hogwild_agents.coordinator import CacheCoordinator

__all__ = ["Common", "Prefill"]

Prefill: TypeAlias = Callable[[CacheBlock], Awaitable[object]]
"""Feeds a block its tokens, and waits until that is done."""

_Key: TypeAlias = tuple["_Loan | None", tuple[int, ...]]


class _Loan:
    """One block on loan.

    Attributes:
        key: what it is looked up by.
        borrowed: how many have it.
        holders: how many have it, wait for it, or stand behind it.
        lock: held by whoever encodes it.
        block: the block, once it is encoded.
    """

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.borrowed = 0
        self.holders = 0
        self.lock = anyio.Lock(fast_acquire=True)
        self.block: CacheBlock | None = None


class Common:
    """The blocks of one coordinator that its runs share; made by it, as its ``common``."""

    def __init__(self, coordinator: CacheCoordinator) -> None:
        self._coordinator = coordinator
        self._loans: dict[_Key, _Loan] = {}
        self._lent: dict[CacheBlock, _Loan] = {}

    async def borrow(
        self,
        tokens: Sequence[int],
        name: str,
        prefill: Prefill,
        *,
        after: CacheBlock | None = None,
    ) -> CacheBlock:
        """Return the block with these tokens, to be given back once; nobody may change it.

        The first to borrow it encodes it, and others wait for that, in order. Is the first one
        cancelled, or does it fail, the next one encodes it instead; so nothing is encoded twice,
        and everybody gets only its own errors. Whoever waits here holds up no tick of its own
        accord; who has a seat that owes a feed parks it meanwhile.

        Args:
            tokens: what it holds; without any, there is nothing to encode.
            name: of the block; the first one's stays.
            prefill: feeds the tokens to the empty block that it is given, in a view in which
                nothing stands before but ``after``.
            after: a borrowed block that stands before it in its view. It is kept for as long as
                this one is.

        Raises:
            UsageError: ``after`` is not borrowed, or prefill fed other tokens.
        """
        key = (None if after is None else self._loan(after), tuple(tokens))
        loan = self._hold(key)
        try:
            if loan.block is None:
                async with loan.lock:
                    if loan.block is None:
                        loan.block = await self._encode(key[1], name, prefill)
                        self._lent[loan.block] = loan
        except BaseException:
            self._let_go(loan)
            raise
        loan.borrowed += 1
        return loan.block

    def give_back(self, block: CacheBlock) -> None:
        """Give back a block that was borrowed; the last one to do so frees it.

        It never waits, so that it can be called while being cancelled.

        Raises:
            UsageError: the block is not borrowed.
        """
        loan = self._loan(block)
        loan.borrowed -= 1
        self._let_go(loan)

    def __len__(self) -> int:
        return len(self._lent)

    def __repr__(self) -> str:
        return f"Common({len(self)} blocks)"

    def _loan(self, block: CacheBlock) -> _Loan:
        loan = self._lent.get(block)
        if loan is None or not loan.borrowed:
            raise UsageError(
                f"{block!r} is not on loan: name a block that was borrowed here, and give it back "
                "once for each time."
            )
        return loan

    def _hold(self, key: _Key) -> _Loan:
        loan = self._loans.get(key)
        if loan is None:
            loan = self._loans[key] = _Loan(key)
            if key[0] is not None:
                key[0].holders += 1
        loan.holders += 1
        return loan

    def _let_go(self, loan: _Loan) -> None:
        loan.holders -= 1
        if loan.holders:
            return
        del self._loans[loan.key]
        if loan.block is not None:
            del self._lent[loan.block]
            self._coordinator.release(loan.block)
        if loan.key[0] is not None:
            self._let_go(loan.key[0])

    async def _encode(self, tokens: tuple[int, ...], name: str, prefill: Prefill) -> CacheBlock:
        block = self._coordinator.engine.block(name)
        try:
            if tokens:
                await prefill(block)
            if block.tokens != tokens:
                raise UsageError(
                    f"{block!r} was to hold {len(tokens)} tokens that others will borrow, but "
                    "other ones were fed: feed it exactly the tokens that are borrowed."
                )
        except BaseException:
            self._coordinator.release(block)
            raise
        return block
