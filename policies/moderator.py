"""Moderator: one worker assigns work, the others wait for it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from hogwild_agents import (
    Action,
    ConfigError,
    Park,
    Policy,
    Prompt,
    Resume,
    RunStarted,
    Say,
    StepEnded,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.policies.given import require_whole

ASSIGNMENT = (
    r"(?:^[ \t]*|@)(?P<name>[^\s:@*\[\]][^:@*\[\]\n]*?)[ \t]*:[ \t]*(?P<task>[^\s@][^\n@]*)"
)
"""``Bob: do X`` on a line of its own, the first one too, or ``@Bob: do X`` anywhere."""


class Moderator(Policy):
    """Lets one worker, the moderator, give the others work; without work they are parked.

    When a step of the moderator ends, each assignment in it that names another worker is said to
    that worker at the beginning of its next step. After some steps the worker waits for the next
    one; the moderator waits meanwhile, until all who have work are done, and then goes on with what
    they have found. Whoever gets several tasks does one after the other; names that nobody has are
    passed over. The run ends by another policy, such as :class:`StopOnAnswer`, or a limit.

    Helps where the workers of a team don't split the work by themselves, or differ in what they can
    do. Decides per run. Source: the manager of AutoGen's group chats (arXiv 2308.08155).

    Args:
        moderator: its name; None for the first worker of the team.
        pattern: a regular expression with the groups ``name`` and ``task``; the default reads
            ``Bob: do X`` on a line of its own, and ``@Bob: do X`` anywhere.
        steps: how many steps a task takes, at least 1.
        waits: whether the moderator waits for those who have work.
        opening: opens the moderator's first step: a prompt file's name or path, or None for
            nothing; gets ``names``, those of the others.
        task: opens a worker's work; gets ``moderator`` and ``task``.

    Raises:
        ConfigError: ``steps`` is no whole number from 1, the pattern lacks a group, or there is no
            such prompt.
    """

    def __init__(
        self,
        moderator: str | None = None,
        *,
        pattern: str = ASSIGNMENT,
        steps: int = 1,
        waits: bool = True,
        opening: str | None = "moderator_assign",
        task: str = "moderator_task",
    ) -> None:
        require_whole(f"A moderator gives work for {steps!r} steps", steps)
        self._moderator = moderator
        self._pattern = compile_call(pattern)
        self._steps = steps
        self._waits = waits
        self._opening = None if opening is None else Prompt.load(opening)
        self._task = Prompt.load(task)
        self._tasks: dict[str, deque[str]] = {}
        self._busy: dict[str, int] = {}  # who works, and for how many steps more

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Let the moderator begin."""
        self._moderator = self._moderator or event.workers[0]
        others = [name for name in event.workers if name != self._moderator]
        if self._moderator not in event.workers or not others:
            raise ConfigError(
                f"The moderator {self._moderator!r} for {', '.join(event.workers)}: name a worker "
                "of the team, and have at least one more."
            )
        actions: list[Action] = [Park(worker=name) for name in others]
        if self._opening is not None:
            text = self._opening.render(names=others)
            actions.append(Say(worker=self._moderator, text=text))
        return actions

    async def on_worker_joined(self, event: WorkerJoined) -> Action | None:
        """Let a new worker wait for work."""
        return Park(worker=event.worker) if event.worker in self.run.names else None

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """Take what the moderator assigns, and let the others wait when they are done."""
        worker = event.worker
        if worker == self._moderator:
            return self._assign(event.body)
        if worker not in self._busy:
            return ()
        self._busy[worker] -= 1
        if self._busy[worker]:
            return ()
        del self._busy[worker]
        return [*(self._begin(worker) or [Park(worker=worker)]), *self._report()]

    async def on_worker_left(self, event: WorkerLeft) -> Iterable[Action]:
        """Go on without a worker."""
        self._tasks.pop(event.worker, None)
        return () if self._busy.pop(event.worker, None) is None else self._report()

    def _assign(self, text: str) -> Iterable[Action]:
        for name, task in self._read(text):
            self._tasks.setdefault(name, deque()).append(task)
        idle = [name for name in self._tasks if name not in self._busy]
        actions = [action for name in idle for action in self._begin(name)]
        if self._waits and self._busy and self._moderator is not None:
            actions.append(Park(worker=self._moderator))
        return actions

    def _read(self, text: str) -> Iterator[tuple[str, str]]:
        names = {name.casefold(): name for name in self.run.names if name != self._moderator}
        for found in self._pattern.finditer(text):
            name, task = names.get(found["name"].strip().casefold()), found["task"].strip()
            if name is not None and task:
                yield name, task

    def _begin(self, worker: str) -> list[Action]:
        """Give a worker the next of its tasks, if there is one."""
        tasks = self._tasks.get(worker)
        if not tasks:
            return []
        self._busy[worker] = self._steps
        text = self._task.render(moderator=self._moderator, task=tasks.popleft())
        return [Say(worker=worker, text=text), Resume(worker=worker)]

    def _report(self) -> list[Action]:
        """Let the moderator go on when all are done."""
        moderator = self._moderator
        if self._busy or moderator is None or moderator not in self.run.names:
            return []
        return [Resume(worker=moderator)]


def compile_call(pattern: str) -> re.Pattern[str]:
    """Return a pattern that reads a name and a task.

    Raises:
        ConfigError: it is no regular expression, or lacks one of the groups.
    """
    if not isinstance(pattern, str):
        raise ConfigError(f"The pattern {pattern!r} is no regular expression: give a text.")
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"The pattern {pattern!r} is no regular expression: {error}.") from error
    if not {"name", "task"} <= set(compiled.groupindex):
        raise ConfigError(
            f"The pattern {pattern!r} lacks a group: write (?P<name>...) and (?P<task>...) in it."
        )
    return compiled
