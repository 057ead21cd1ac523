"""Layouts: how the blocks of a run make views, and whether a finished step moves.

The four of the paper (appendix A) and its ablation. A layout is stateless; a custom one subclasses
:class:`Layout` and lists blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hogwild_agents.engine import CacheBlock, ViewEntry
from hogwild_agents.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Headings:
    """The text around the blocks, as the paper writes it (appendix A).

    Attributes:
        past: before the history.
        others: before the other workers' blocks.
        own: before the own block.
        unfinished: after each other worker's text.
        prefix: opens every step; ``{name}`` and ``{step}`` are filled in.
        role: the private text of a worker with a role; ``{name}`` and ``{role}`` are filled in.

    Raises:
        ConfigError: a text has other variables than these, or ``prefix`` is blank.
    """

    past: str = "### Past steps\n\n"
    others: str = "### Work in progress (others)\n\n"
    own: str = "### Work in progress (own)\n\n"
    unfinished: str = " <...>\n\n"
    prefix: str = "**{name} [{step}]:** "
    role: str = "### My role\n\nI am {name}. {role}\n\n"

    def __post_init__(self) -> None:
        _fill("prefix", self.prefix, name="Alice", step=1)
        _fill("role", self.role, name="Alice", role="")
        if not self.prefix.strip():
            raise ConfigError(
                f"The heading 'prefix' is {self.prefix!r}, but every step opens with it: give some "
                "text, such as '{name}: '."
            )

    def opening(self, name: str, step: int) -> str:
        """Return what opens a worker's step."""
        return _fill("prefix", self.prefix, name=name, step=step)

    def introduction(self, name: str, role: str) -> str:
        """Return the private text of a worker with a role."""
        return _fill("role", self.role, name=name, role=role)


@dataclass(eq=False)
class Place:
    """One worker's blocks.

    Attributes:
        name: the worker's name.
        own: the block it writes now.
        role: its private block, if it has a role.
        closing: a step that has ended, while its last token is being fed; then it moves to the
            history.
        left: whether the worker has left; its block stays visible all the same.
    """

    name: str
    own: CacheBlock
    role: CacheBlock | None = None
    closing: CacheBlock | None = None
    left: bool = False


@dataclass(eq=False)
class Board:
    """All blocks of one run.

    Attributes:
        prompt: the problem, up to where the workers begin.
        past, others, own, unfinished: the headings' blocks, each encoded once and alone.
        history: the finished steps, in the order in which they ended.
        places: the workers' blocks, in worker order.
    """

    prompt: CacheBlock
    past: CacheBlock
    others: CacheBlock
    own: CacheBlock
    unfinished: CacheBlock
    history: CacheBlock
    places: list[Place] = field(default_factory=list)

    @property
    def shared(self) -> tuple[CacheBlock, ...]:
        """The blocks that are encoded once, alone."""
        return (self.prompt, self.past, self.others, self.own, self.unfinished)

    def finished(self, block: CacheBlock) -> list[CacheBlock]:
        """Return the finished steps as whoever writes ``block`` sees them.

        That is the history, and the steps that move there after this tick, in worker order.
        """
        closing = [place.closing for place in self.places if place.closing is not None]
        return [self.history, *(step for step in closing if step is not block)]


class Layout(ABC):
    """Who sees what, in which order. One layout serves all the runs of a team."""

    name: ClassVar[str] = "custom"
    """What prompts, events and transcripts call it."""

    steps_move: ClassVar[bool] = False
    """Whether a finished step moves to the history; views then name ``board.finished(block)``."""

    last_token_first: bool = False
    """The reference implementation's order: a step's last token opens the next block."""

    @abstractmethod
    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """Return what ``place``'s worker sees when it writes ``block``.

        Args:
            board: all blocks of the run.
            place: the worker that writes.
            block: what it writes: its current block, or the one that is closing.

        Returns:
            blocks or slices in order, ``block`` last.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Stepwise(Layout):
    """A layout whose finished steps move to the history.

    Args:
        reference_order: let a step's last token open the next block, as the authors' code does,
            instead of feeding it to the step that it ends. For comparisons only.
    """

    steps_move = True

    def __init__(self, *, reference_order: bool = False) -> None:
        self.last_token_first = reference_order

    def __repr__(self) -> str:
        option = "reference_order=True" if self.last_token_first else ""
        return f"{type(self).__name__}({option})"


class Combined(_Stepwise):
    """Prompt, history, the others' unfinished steps, the own unfinished step (the default)."""

    name = "combined"

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """See :meth:`Layout.view`."""
        return [*_past(board, place, block), *_others(board, place), board.own, block]


class Interleaved(_Stepwise):
    """Prompt and history, then the own step: nobody sees unfinished steps."""

    name = "interleaved"

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """See :meth:`Layout.view`."""
        return [*_past(board, place, block), board.own, block]


class Contiguous(Layout):
    """Prompt, the others' whole texts, the own whole text: nothing moves."""

    name = "contiguous"

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """See :meth:`Layout.view`."""
        return [*_opening(board, place), *_others(board, place), board.own, block]


class Isolated(Layout):
    """Prompt and the own whole text: nobody sees anybody (the ablation)."""

    name = "isolated"

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """See :meth:`Layout.view`."""
        return [*_opening(board, place), board.own, block]


LAYOUTS: dict[str, type[Layout]] = {
    layout.name: layout for layout in (Combined, Contiguous, Interleaved, Isolated)
}
"""The layouts that come with the package, by name."""


def _opening(board: Board, place: Place) -> list[ViewEntry]:
    return [board.prompt] if place.role is None else [board.prompt, place.role]


def _past(board: Board, place: Place, block: CacheBlock) -> list[ViewEntry]:
    return [*_opening(board, place), board.past, *board.finished(block)]


def _others(board: Board, place: Place) -> list[ViewEntry]:
    others = [other.own for other in board.places if other is not place]
    entries = [entry for own in others for entry in (own, board.unfinished)]
    return [board.others, *entries] if entries else []


def _fill(heading: str, text: str, **values: object) -> str:
    try:
        return text.format(**values)
    except (LookupError, ValueError, AttributeError) as error:
        names = " and ".join(f"{{{name}}}" for name in values)
        raise ConfigError(
            f"The heading {heading!r} is {text!r}, which cannot be filled in "
            f"({type(error).__name__}: {error}): its variables are {names}."
        ) from error
