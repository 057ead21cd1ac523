"""SkeletonOfThought: one worker outlines, all work out the points, one puts them together."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from hogwild_agents import (
    Action,
    ConfigError,
    Dismiss,
    EndStep,
    Park,
    Policy,
    Prompt,
    Resume,
    RunStarted,
    Say,
    StepEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.policies.given import require_whole

_POINT = re.compile(r"^[ \t]*(?P<number>\d+)[.)][ \t]+(?P<point>\S.*?)[ \t]*$", re.MULTILINE)


class SkeletonOfThought(Policy):
    """Has one worker write an outline, shares its points out, and has one put all together.

    1. The outliner writes numbered points, one a line, up to an empty line or to one point too
       many; the others are parked.
    2. Each worker takes a point, and after some steps the next one that is left; then it waits.
    3. When all are worked out, the outliner puts them together and thinks on, and the others are
       dismissed; what they wrote stays visible.

    An outline of fewer than two points is none: everybody is resumed then, and the policy leaves
    the team alone. Where a worker leaves, its point counts as worked out. The run ends by another
    policy, such as :class:`StopOnAnswer`, or a limit.

    Helps where the parts of a solution don't need each other. Decides per run. Source:
    arXiv 2307.15337, as the baseline of Hogwild! Inference, section 4: with as many threads as
    there are workers, and reasoning after them.

    Args:
        points: how many the outline may have at most, at least 2; more are left out.
        outliner: the name of the one who outlines; None for the first worker of the team.
        steps: how many steps a point takes, at least 1.
        max_tokens: after so many tokens of the outliner the outline ends, at least 1.
        outline: opens the outline with the number of its first point: a prompt file's name or path;
            gets ``points``.
        expand: opens the work on a point; gets ``number`` and ``point``.
        conclude: opens the last part.

    Raises:
        ConfigError: a number is too small, or no whole one, or there is no such prompt.
    """

    def __init__(
        self,
        points: int = 8,
        outliner: str | None = None,
        *,
        steps: int = 1,
        max_tokens: int = 256,
        outline: str = "skeleton_outline",
        expand: str = "skeleton_expand",
        conclude: str = "skeleton_conclude",
    ) -> None:
        for name, value, least in (
            ("points", points, 2),
            ("steps", steps, 1),
            ("max_tokens", max_tokens, 1),
        ):
            require_whole(f"A skeleton has {name}={value!r}", value, least)
        self._points = points
        self._outliner = outliner
        self._steps = steps
        self._max_tokens = max_tokens
        self._opening = Prompt.load(outline).render(points=points)
        self._expand = Prompt.load(expand)
        self._conclude = Prompt.load(conclude).render()
        self._outline: str | None = self._opening  # what there is of it; None when it is done
        self._open: deque[tuple[int, str]] = deque()
        self._busy: dict[str, int] = {}  # who is at a point, and the step in which it is worked out

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Have the outline written."""
        self._outliner = self._outliner or event.workers[0]
        if self._outliner not in event.workers:
            raise ConfigError(
                f"A skeleton by {self._outliner!r}, who is not in the team: name one of "
                f"{', '.join(event.workers)}."
            )
        others = [name for name in event.workers if name != self._outliner]
        start = Say(worker=self._outliner, text=self._opening)
        return [*(Park(worker=name) for name in others), start]

    async def on_worker_joined(self, event: WorkerJoined) -> Iterable[Action]:
        """Let a new worker wait for the outline, or take a point."""
        if event.worker not in self.run.names:  # a person
            return ()
        if self._outline is None:
            return self._go_on(event.worker, step=1) if self._busy else ()
        return [Park(worker=event.worker)]

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        """Read the outline."""
        outliner = event.worker
        if self._outline is None or outliner != self._outliner or event.source == "forced":
            return ()
        self._outline += event.text
        points = read_outline(self._outline)
        enough = len(read_points(self._outline)) > self._points  # many models go on and on
        if points is None and not enough and self.run.written(outliner) < self._max_tokens:
            return ()
        return [EndStep(worker=outliner), *self._share_out(event.step + 1, points)]

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """Give a worker who is done with its point the next one."""
        if event.step < self._busy.get(event.worker, event.step + 1):
            return ()
        del self._busy[event.worker]
        return self._go_on(event.worker, event.step + 1)

    async def on_worker_left(self, event: WorkerLeft) -> Iterable[Action]:
        """Go on without a worker."""
        if self._outline is not None:
            return self._share_out(1, None) if event.worker == self._outliner else ()
        if self._busy.pop(event.worker, None) is None:
            return ()
        return self._put_together()

    def _share_out(self, step: int, points: list[str] | None) -> Iterable[Action]:
        """Begin with the points; ``step`` is the outliner's next one, others are at their first."""
        found = points or read_points(self._outline or "")
        self._outline = None
        if len(found) < 2:
            return [Resume(worker=name) for name in self.run.names]
        self._open.extend(enumerate(found[: self._points], start=1))
        actions: list[Action] = []
        for name in self.run.names:
            if self._open:
                actions += self._go_on(name, step if name == self._outliner else 1)
            elif name == self._outliner:
                actions.append(Park(worker=name))
        return actions

    def _go_on(self, worker: str, step: int) -> Iterable[Action]:
        """Give a worker, whose next step has this number, something to do."""
        if not self._open:
            return [Park(worker=worker)] if self._busy else self._put_together()
        number, point = self._open.popleft()
        self._busy[worker] = step + self._steps - 1
        text = self._expand.render(number=number, point=point)
        return [Say(worker=worker, text=text), Resume(worker=worker)]

    def _put_together(self) -> Iterable[Action]:
        if self._busy or not self.run.names:
            return ()
        names = self.run.names
        last = self._outliner if self._outliner in names else names[0]
        others = [name for name in names if name != last]
        return [
            *(Dismiss(worker=name) for name in others),
            Say(worker=last, text=self._conclude),
            Resume(worker=last),
        ]


def read_points(text: str) -> list[str]:
    """Return the numbered points of a text, in its order."""
    return [found["point"] for found in _POINT.finditer(text)]


def read_outline(text: str) -> list[str] | None:
    """Return the points of an outline that an empty line has ended, or None if it may go on.

    An outline of several lines ends with the first empty line behind them. Where each point is a
    paragraph of its own, it ends with the first paragraph that is none.
    """
    found: list[str] = []
    *paragraphs, _ = text.split("\n\n")
    for paragraph in paragraphs:
        points = read_points(paragraph)
        found += points
        if len(points) >= 2 or (len(found) >= 2 and not points):
            return found
    return None
