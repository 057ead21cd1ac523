"""Schedules: what is drawn by hypothesis: a small team, and what is done to it, and when.

All of it is plain data, so that a failing schedule can be read, and pasted into a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from hogwild_agents.layouts import LAYOUTS, Combined, Interleaved, Layout

NAMES = ("Alice", "Bøb", "Carol C.", "明")
NEWCOMERS = ("Dora", "Émile", "Fay", "Gus", "Hal", "Ida")
SPEAKERS = ("User", "Ms. Moderator")

Act: TypeAlias = tuple[str, int]
"""What a worker does by itself, and a small number that says how much."""

ACTS = {
    "think": 8,
    "write": 3,
    "end": 2,
    "flush": 1,
    "wait": 2,
    "cancel": 2,
    "shield": 1,
    "read": 1,
    "crash": 1,
    "leave": 1,
}
"""What depends on nothing but the run, and how often it is drawn."""
RACY_ACTS = {"sleep": 2, "hurry": 2, "tool": 3, "twice": 1}
"""What depends on the clock, or on the turns of the event loop."""

MOMENTS = {
    "tick": 8,
    "written": 3,
    "step": 4,
    "left": 1,
    "joined": 1,
    "answered": 1,
    "started": 1,
}
"""The events that an operation may answer."""

ACTIONS = {
    "say": 3,
    "end": 3,
    "ban": 1,
    "bias": 1,
    "sampling": 1,
    "park": 4,
    "resume": 4,
    "spawn": 3,
    "fork": 3,
    "dismiss": 2,
    "hide": 3,
    "hide from all": 2,
    "show": 2,
    "show to all": 2,
    "forget": 4,
    "forget for some": 3,
    "probe": 4,
}
"""What policies and people ask for, and how often it is drawn."""
OTHERS = {"speak": 5, "speak to some": 4, "observer fails": 2, "observer hangs": 1, "switch": 1}
"""What else is done to a run that goes on."""
ENDINGS = {
    "conclude": 3,
    "finish": 2,
    "stop": 3,
    "cancel run": 4,
    "controller fails": 2,
    "controller hangs": 1,
    "wrong action": 2,
}
"""What ends one."""

By: TypeAlias = Literal["controller", "minder", "inside", "outside"]
"""Who does it: a policy for the run, one for each worker, somebody who listens to the run's events,
or a task besides it, at any moment."""


@dataclass(frozen=True)
class Op:
    """Something that is done to a run.

    Attributes:
        at: from which tick on.
        kind: what.
        moment: in answer to which event, the next one of its kind.
        by: who does it.
        who, whom: to whom; any number stands for somebody who is there.
        amount: how much, or which.
    """

    at: int
    kind: str
    moment: str = "tick"
    by: By = "controller"
    who: int = 0
    whom: int = 0
    amount: int = 0

    @property
    def racy(self) -> bool:
        """Whether what comes of it depends on the clock."""
        return self.kind.endswith("hangs")


@dataclass(frozen=True)
class Member:
    """A worker: who it is, and what it does before it thinks on, or leaves.

    ``sees`` and ``seen_by`` are numbers of names, as in :data:`NAMES`.
    """

    acts: tuple[Act, ...] = ()
    stays: bool = True
    role: bool = False
    public: bool = False
    own_problem: bool = False
    sees: tuple[int, ...] | None = None
    seen_by: tuple[int, ...] | None = None
    bias: float = 4.0


@dataclass(frozen=True)
class Schedule:
    """One run.

    Attributes:
        layout: its name, or ``"... late"`` for the reference order.
        team, newcomers: its workers, and those who may join.
        ops: what is done.
        ticks, tokens, seconds: its limits.
        chunk: the most tokens of one feed in a tick.
        budget: of the cache, in tokens.
        context: the longest view.
        fails_at: which forward fails.
        concludes: whether a policy has somebody conclude at a limit.
        shared: whether the coordinator is one that other runs use.
        bystander: whether one does.
        ahead: whether ticks are computed ahead.
        seed: of the team.
    """

    layout: str = "combined"
    team: tuple[Member, ...] = (Member(), Member())
    newcomers: tuple[Member, ...] = (Member(),)
    ops: tuple[Op, ...] = ()
    ticks: int | None = 10
    tokens: int | None = None
    seconds: float | None = None
    chunk: int = 512
    budget: int | None = None
    context: int = 4096
    fails_at: int | None = None
    concludes: bool = False
    shared: bool = True
    bystander: bool = False
    ahead: bool = False
    seed: int = 0

    @property
    def racy(self) -> bool:
        """Whether anything in it depends on the clock or on the event loop."""
        acts = {kind for member in (*self.team, *self.newcomers) for kind, _ in member.acts}
        return bool(
            self.seconds is not None
            or acts & set(RACY_ACTS)
            or any(op.by == "outside" or op.racy for op in self.ops)
        )

    @property
    def cut(self) -> int:
        """The chunk, larger where tools have to be described."""
        acts = {kind for member in (*self.team, *self.newcomers) for kind, _ in member.acts}
        return max(self.chunk, 40) if "tool" in acts else self.chunk

    @property
    def accompanied(self) -> bool:
        """Whether a bystander is there; only where nothing is scarce, and no forward fails."""
        plenty = self.budget is None and self.context == 4096 and self.fails_at is None
        return self.bystander and plenty

    def make_layout(self) -> Layout:
        """Return the layout."""
        return MAKERS[self.layout]()


MAKERS: dict[str, Callable[[], Layout]] = {
    **LAYOUTS,
    "combined late": lambda: Combined(reference_order=True),
    "interleaved late": lambda: Interleaved(reference_order=True),
}


def weighted(weights: dict[str, int]) -> st.SearchStrategy[str]:
    """Draw one of some words, the ones more often than the others."""
    return st.sampled_from([word for word, weight in weights.items() for _ in range(weight)])


def rarely(values: st.SearchStrategy[Any], one_in: int, otherwise: Any = None) -> Any:
    """Draw a value now and then, and otherwise always the same one."""
    return st.integers(1, one_in).flatmap(
        lambda number: values if number == one_in else st.just(otherwise)
    )


def members(acts: dict[str, int]) -> st.SearchStrategy[Member]:
    """Draw workers."""
    some = st.lists(st.integers(0, len(NAMES) - 1), max_size=2).map(tuple)
    return st.builds(
        Member,
        acts=st.lists(st.tuples(weighted(acts), st.integers(0, 4)), max_size=5).map(tuple),
        stays=rarely(st.just(False), 4, True),
        role=rarely(st.just(True), 6, False),
        public=rarely(st.just(True), 8, False),
        own_problem=rarely(st.just(True), 10, False),
        sees=rarely(some, 8),
        seen_by=rarely(some, 8),
        bias=st.sampled_from([4.0, 7.0, 9.0]),
    )


def ops(kinds: dict[str, int], by: tuple[By, ...], latest: int = 8) -> st.SearchStrategy[Op]:
    """Draw what is done to a run."""
    return st.builds(
        Op,
        at=st.integers(0, latest),
        kind=weighted(kinds),
        moment=weighted(MOMENTS),
        by=st.sampled_from(by),
        who=st.integers(0, 5),
        whom=st.integers(0, 5),
        amount=st.integers(0, 4),
    )


@st.composite
def schedules(draw: st.DrawFn, /, *, racy: bool | None = None, **fixed: Any) -> Schedule:
    """Draw a schedule.

    Args:
        draw: of hypothesis.
        racy: whether it holds what depends on the clock or on the event loop; None for now and
            then.
        fixed: parts of it that are given.
    """
    racy = draw(st.booleans()) if racy is None else racy
    acts = ACTS | RACY_ACTS if racy else ACTS
    by: tuple[By, ...] = ("controller", "controller", "minder", "inside")
    by = (*by, "outside") if racy else by
    done = draw(st.lists(ops(ACTIONS | OTHERS, by), min_size=3, max_size=14))
    done += draw(st.lists(ops(ENDINGS, by, latest=12), max_size=1))
    if not racy:
        done = [op for op in done if not op.racy]
    parts: dict[str, Any] = {
        "layout": st.sampled_from(sorted(MAKERS)),
        "team": st.lists(members(acts), min_size=1, max_size=4).map(tuple),
        "newcomers": st.lists(members(acts), min_size=1, max_size=2).map(tuple),
        "ops": st.just(tuple(done)),
        "ticks": st.integers(5, 14),
        "tokens": rarely(st.integers(5, 40), 8),
        "seconds": rarely(st.floats(0.02, 0.2), 20) if racy else st.none(),
        "chunk": st.sampled_from([3, 16, 512, 512, 512]),
        "budget": rarely(st.sampled_from([120, 160, 240]), 10),
        "context": rarely(st.sampled_from([120, 180, 240]), 10, 4096),
        "fails_at": rarely(st.integers(2, 14), 20),
        "concludes": st.booleans(),
        "shared": st.booleans(),
        "bystander": rarely(st.just(True), 4, False),
        "ahead": st.booleans(),
        "seed": st.integers(0, 99),
    }
    return draw(st.builds(Schedule, **{**parts, **{k: st.just(v) for k, v in fixed.items()}}))
