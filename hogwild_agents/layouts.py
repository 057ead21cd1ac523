"""Layouts: how the blocks of a run make views, and whether a finished step moves.

The four of the paper (appendix A) and its ablation. A layout is stateless; a custom one subclasses
:class:`Layout` and lists blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hogwild_agents.board import Board, Place
from hogwild_agents.engine import CacheBlock, ViewEntry
from hogwild_agents.errors import ConfigError

__all__ = [
    "LAYOUTS",
    "Board",
    "Combined",
    "Contiguous",
    "Headings",
    "Interleaved",
    "Isolated",
    "Layout",
    "Place",
]


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
        roles: before the public roles, if there are any.
        public_role: one of them; ``{name}`` and ``{role}`` are filled in.

    Raises:
        ConfigError: a heading is no text, has other variables than these, or ``prefix`` is blank.
    """

    past: str = "### Past steps\n\n"
    others: str = "### Work in progress (others)\n\n"
    own: str = "### Work in progress (own)\n\n"
    unfinished: str = " <...>\n\n"
    prefix: str = "**{name} [{step}]:** "
    role: str = "### My role\n\nI am {name}. {role}\n\n"
    roles: str = "### Roles\n\n"
    public_role: str = "{name}: {role}\n\n"

    def __post_init__(self) -> None:
        for name, text in vars(self).items():
            if not isinstance(text, str):
                raise ConfigError(f"The heading {name!r} is {text!r}, but must be a text.")
        _fill("prefix", self.prefix, name="Alice", step=1)
        _fill("role", self.role, name="Alice", role="")
        _fill("public_role", self.public_role, name="Alice", role="")
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

    def announcement(self, name: str, role: str) -> str:
        """Return the text of a public role."""
        return _fill("public_role", self.public_role, name=name, role=role)


class Layout(ABC):
    """Who sees what, in which order. One layout serves all the runs of a team."""

    name: ClassVar[str] = "custom"
    """What prompts, events and transcripts call it."""

    steps_move: ClassVar[bool] = False
    """Whether a finished step moves to the history.

    Views then name ``board.finished(place, block)``, and otherwise ``board.whole(...)``.
    """

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
            blocks or slices in order, ``block`` last. What ``board`` returns leaves out whatever
            is hidden from the worker or forgotten.
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
        others = [board.current(other, place) for other in board.seen_by(place)]
        return [*_past(board, place, block), *_others(board, others), board.own, block]


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
        others = [board.whole(other, place) for other in board.seen_by(place)]
        head = [*board.opening(place), *board.spoken(place)]
        return [*head, *_others(board, others), board.own, *board.whole(place, place)]


class Isolated(Layout):
    """Prompt and the own whole text: no worker sees another (the ablation)."""

    name = "isolated"

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """See :meth:`Layout.view`."""
        head = [*board.opening(place), *board.spoken(place)]
        return [*head, board.own, *board.whole(place, place)]


LAYOUTS: dict[str, type[Layout]] = {
    layout.name: layout for layout in (Combined, Contiguous, Interleaved, Isolated)
}
"""The layouts that come with the package, by name."""


def _past(board: Board, place: Place, block: CacheBlock) -> list[ViewEntry]:
    return [*board.opening(place), board.past, *board.finished(place, block)]


def _others(board: Board, texts: Sequence[Sequence[ViewEntry]]) -> list[ViewEntry]:
    entries = [entry for text in texts for entry in (*text, board.unfinished)]
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
