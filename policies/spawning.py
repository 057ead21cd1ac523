"""SpawnOnDemand: new workers for work that nobody has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from hogwild_agents import (
    Action,
    Policy,
    Prompt,
    RunView,
    Say,
    Spawn,
    StepEnded,
    Worker,
    WorkerJoined,
)
from hogwild_agents.policies.borrowed import Borrowed
from hogwild_agents.policies.given import require_function, require_whole
from hogwild_agents.policies.moderator import compile_call

CALL = r"\bspawn[ \t]*:[ \t]*(?P<name>[^:\n]*[^:\s])[ \t]*:[ \t]*(?P<task>\S[^\n]*)"
"""``spawn: Carol: check the second sum`` anywhere in a step."""

FindWork: TypeAlias = Callable[[RunView], Iterable[tuple[str, str]]]
"""Reads a run; returns names and tasks of workers who should join."""

MakeWorker: TypeAlias = Callable[[str, str], Worker]
"""Makes a worker of a name and a task."""


class SpawnOnDemand(Policy):
    """Lets new workers join, for tasks that a worker calls for or that a function finds.

    Looks after every step: at the step for calls such as ``spawn: Carol: check the second sum``,
    and at the run with a function of yours. The task is the new worker's role, which it alone sees.
    A call for a name that is or was in the run, or for more workers than may be there at once, has
    no effect.

    Helps where the parts of a problem show only on the way. The prompt must tell workers of the
    call. Decides per run. Source: the spawns of adaptive parallel reasoning (arXiv 2504.15466),
    asked for in plain words.

    Args:
        max_workers: how many may be there at once, at least 1.
        pattern: the call: a regular expression with the groups ``name`` and ``task``.
        find_work: what finds tasks, if anything does; it is not copied for a run.
        make_worker: what makes a worker; None for a :class:`Worker` with the task as its role.
        prompt: opens its first step: a prompt file's name or path; None for nothing.

    Raises:
        ConfigError: ``max_workers`` is no whole number from 1, the pattern lacks a group, one of
            the functions is none, or there is no such prompt.
    """

    def __init__(
        self,
        max_workers: int = 4,
        *,
        pattern: str = CALL,
        find_work: FindWork | None = None,
        make_worker: MakeWorker | None = None,
        prompt: str | None = "newcomer",
    ) -> None:
        require_whole(f"Spawning up to {max_workers!r} workers", max_workers)
        require_function("find_work", find_work)
        require_function("make_worker", make_worker)
        self._max_workers = max_workers
        self._pattern = compile_call(pattern)
        self._find_work = Borrowed(find_work)
        self._make_worker = Borrowed(make_worker)
        self._text = None if prompt is None else Prompt.load(prompt).render()
        self._spawned: set[str] = set()

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """Spawn whom the step calls for, and for what the function finds."""
        found = self._calls(event)
        if self._find_work.value is not None:
            found += self._find_work.value(self.run)
        taken = {*self.run.texts, *self.run.coming, *self._spawned}
        wanted: dict[str, str] = {}
        for name, task in found:
            if name not in taken:
                wanted.setdefault(name, task)
        there = len(self.run.names) + len(self.run.coming)
        room = max(0, self._max_workers - there)
        chosen = list(wanted.items())[:room]
        self._spawned.update(name for name, _ in chosen)
        return [Spawn(worker=self._new(name, task)) for name, task in chosen]

    async def on_worker_joined(self, event: WorkerJoined) -> Say | None:
        """Open the first step of a worker that was spawned here."""
        if self._text is None or event.worker not in self._spawned:
            return None
        return Say(worker=event.worker, text=self._text)

    def _calls(self, event: StepEnded) -> list[tuple[str, str]]:
        if event.worker not in self.run.names:  # a person, or one who has just left
            return []
        calls = self._pattern.finditer(event.body)
        # A name is one line, whatever a model takes for a blank in it.
        return [(" ".join(call["name"].split()), call["task"].strip()) for call in calls]

    def _new(self, name: str, task: str) -> Worker:
        make = self._make_worker.value
        return Worker(name, role=task) if make is None else make(name, task)
