"""CacheBlock: a run of tokens with their keys and values, stored at block-local positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hogwild_agents.engine.pool import Run
from hogwild_agents.errors import ClosedError, FeedError


class CacheBlock:
    """Tokens 0..n-1 with their keys and values for every layer, as though it began a text.

    Made by :meth:`Engine.block`; grown by :meth:`Engine.forward`. Where the block stands in a
    text is not stored: that is decided by each view that names it. ``block[a:b]`` names a part.

    Attributes:
        name: a label for people; it need not be unique.
    """

    __slots__ = ("__weakref__", "_alive", "_runs", "_tokens", "name")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._tokens: list[int] = []
        self._runs: list[Run] = []
        self._alive = True

    def __len__(self) -> int:
        return len(self._tokens)

    def __bool__(self) -> bool:
        return True  # an empty block is still a block

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids, in order."""
        return tuple(self._tokens)

    @property
    def alive(self) -> bool:
        """False once the block was freed or its engine closed."""
        return self._alive

    def __getitem__(self, part: slice) -> BlockSlice:
        """Return a view entry for a part; without a stop it keeps growing with the block."""
        if getattr(part, "step", 0) not in (None, 1):
            raise FeedError(f"A block is sliced as block[start:stop], not as block[{part!r}].")
        start, stop, _ = part.indices(len(self))
        return BlockSlice(self, start, None if part.stop is None else max(start, stop))

    def __repr__(self) -> str:
        state = "" if self._alive else ", freed"
        return f"CacheBlock({self.name!r}, {len(self)} tokens{state})"

    def _require_alive(self) -> None:
        if not self._alive:
            raise ClosedError(f"{self!r} was freed and cannot be used again: make a new block.")


@dataclass(frozen=True, slots=True)
class BlockSlice:
    """The entries ``start`` to ``stop`` of a block as one entry of a view.

    ``stop=None`` means up to the end, whatever the length is when the tick runs. What a slice
    leaves out is forgotten by the views that name it; nothing is moved or encoded again.
    """

    block: CacheBlock
    start: int = 0
    stop: int | None = None

    def __len__(self) -> int:
        stop = len(self.block) if self.stop is None else self.stop
        return max(0, stop - self.start)

    def __getitem__(self, part: slice) -> BlockSlice:
        """Return a view entry for a part of the part; without a stop it ends as this one does."""
        if getattr(part, "step", 0) not in (None, 1):
            raise FeedError(f"A block is sliced as block[start:stop], not as block[{part!r}].")
        start, stop, _ = part.indices(len(self))
        end = self.stop if part.stop is None else self.start + max(start, stop)
        return BlockSlice(self.block, self.start + start, end)

    def __bool__(self) -> bool:
        return True


ViewEntry: TypeAlias = CacheBlock | BlockSlice
"""What a view is made of."""
