"""Twin: the same schedule, run by an engine and by the oracle, compared after every tick."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from hypothesis import assume, currently_in_test_context, note
from torch import Tensor

from hogwild_agents.engine import CacheBlock, Engine, Feed, ViewEntry
from tests.engine.families import EVERY
from tests.engine.oracle import Oracle, OracleBlock, OracleFeed, Part

TOLERANCE = 1e-4
"""Largest difference of a logit, fp32, where logits are spread over several units."""


@functools.cache
def engine_of(family: str, kernels: bool | None = None) -> Engine:
    """One engine a family for all tests: slots are reused from test to test."""
    return Engine(EVERY[family].build(), kernels=kernels, **EVERY[family].engine)


@functools.cache
def oracle_of(family: str) -> Oracle:
    """The oracle of the same weights, in a model of its own."""
    return Oracle(EVERY[family])


@dataclass(frozen=True)
class Entry:
    """A view entry by number of its block; ``stop=None`` shows it to its end."""

    block: int
    start: int = 0
    stop: int | None = None

    def __repr__(self) -> str:
        if not self.start and self.stop is None:
            return f"b{self.block}"
        return f"b{self.block}[{self.start}:{'' if self.stop is None else self.stop}]"


@dataclass(frozen=True)
class Write:
    """A feed by number of its block."""

    block: int
    view: Sequence[Entry]
    tokens: Sequence[int]

    def __repr__(self) -> str:
        return f"b{self.block} += {list(self.tokens)} in {list(self.view)}"


class Twin:
    """Blocks with the same numbers on both sides; every call is done to both.

    Attributes:
        worst: the largest difference of a logit so far.
        logits: which ones are compared where a tick does not say.
    """

    logits: Literal["last", "all"] = "all"

    def __init__(self, engine: Engine, oracle: Oracle, tolerance: float = TOLERANCE) -> None:
        self.engine, self.oracle, self.tolerance = engine, oracle, tolerance
        self.worst = 0.0
        self._blocks: dict[int, tuple[CacheBlock, OracleBlock]] = {}
        self._number = 0
        oracle.routing_margin = float("inf")

    @classmethod
    def of(cls, family: str, kernels: bool | None = None) -> Twin:
        """A twin on the shared engine and oracle of a family."""
        return cls(engine_of(family, kernels), oracle_of(family))

    def block(self) -> int:
        """A new empty block; returns its number."""
        return self._add(self.engine.block(f"b{self._number}"), self.oracle.block())

    def blocks(self) -> list[int]:
        """Numbers of the blocks that live."""
        return list(self._blocks)

    def length(self, block: int) -> int:
        """Tokens in a block."""
        return len(self._blocks[block][1])

    def cache_block(self, block: int) -> CacheBlock:
        """The engine's side of a block."""
        return self._blocks[block][0]

    def feeds(self, writes: Sequence[Write]) -> list[Feed]:
        """The engine's feeds for these writes."""
        return [
            Feed(
                self.cache_block(write.block),
                [self._entry(entry) for entry in write.view],
                list(write.tokens),
            )
            for write in writes
        ]

    def expect(self, writes: Sequence[Write]) -> list[Tensor]:
        """Run the oracle's side of a tick only; logits after every token of each feed."""
        return self.oracle.forward(
            [
                OracleFeed(
                    self._blocks[write.block][1],
                    [Part(self._blocks[e.block][1], e.start, e.stop) for e in write.view],
                    write.tokens,
                )
                for write in writes
            ]
        )

    def tick(self, *writes: Write, logits: Literal["last", "all"] | None = None) -> Tensor:
        """Run a tick on both sides and compare; returns the engine's logits."""
        _note(f"tick {list(writes)}")
        logits = logits or self.logits
        found = self.engine.forward(self.feeds(writes), logits=logits)
        expected = self.expect(writes)
        if currently_in_test_context():
            assume(self.oracle.routing_margin > 1e-5)
        wanted = torch.cat(expected if logits == "all" else [rows[-1:] for rows in expected])
        assert found.shape == wanted.shape
        assert found.dtype == torch.float32
        difference = float((found - wanted).abs().max())
        self.worst = max(self.worst, difference)
        assert difference <= self.tolerance, f"logits differ by {difference:.2e}"
        self.compare_blocks()
        return found

    def move(self, source: int, target: int) -> None:
        """Append source to target and empty source."""
        _note(f"move b{source} -> b{target}")
        self.engine.move(self._blocks[source][0], self._blocks[target][0])
        self.oracle.move(self._blocks[source][1], self._blocks[target][1])
        self.compare_blocks()

    def truncate(self, block: int, length: int) -> None:
        """Keep the first ``length`` tokens."""
        _note(f"truncate b{block} to {length}")
        self.engine.truncate(self._blocks[block][0], length)
        self.oracle.truncate(self._blocks[block][1], length)
        self.compare_blocks()

    def fork(self, block: int) -> int:
        """Copy a block; returns the copy's number."""
        _note(f"b{self._number} = fork b{block}")
        ours, theirs = self._blocks[block]
        return self._add(self.engine.fork(ours), self.oracle.fork(theirs))

    def free(self, block: int) -> None:
        """Free a block."""
        _note(f"free b{block}")
        ours, _ = self._blocks.pop(block)
        self.engine.free(ours)
        assert not ours.alive

    def close(self) -> None:
        """Free all blocks; the engine holds nothing of this twin afterwards."""
        for block in self.blocks():
            self.free(block)
        self.engine.check_integrity()

    def compare_blocks(self) -> None:
        """Both sides hold the same tokens, and the cache one slot for each of them."""
        for ours, theirs in self._blocks.values():
            assert ours.tokens == tuple(theirs.tokens)
            assert len(ours) == len(theirs)
        self.engine.check_integrity()

    def __enter__(self) -> Twin:
        self._used_before = self.engine.used_tokens
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        assert self.engine.used_tokens == self._used_before

    def _add(self, ours: CacheBlock, theirs: OracleBlock) -> int:
        number, self._number = self._number, self._number + 1
        self._blocks[number] = (ours, theirs)
        return number

    def _entry(self, entry: Entry) -> ViewEntry:
        block = self.cache_block(entry.block)
        if not entry.start and entry.stop is None:
            return block
        return block[entry.start : entry.stop]


def _note(line: str) -> None:
    """Tell hypothesis, so that a failing schedule can be read."""
    if currently_in_test_context():
        note(line)
