"""TurnTaking: one worker writes, the others wait."""

from __future__ import annotations

from collections.abc import Iterable

from hogwild_agents import (
    Action,
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


class TurnTaking(Policy):
    """Lets the workers write one after the other, some steps each, while the others are parked.

    The team's order is the order of turns; whoever joins in mid-run comes last, and whoever leaves
    is left out.

    The conversation of most multi-agent frameworks. It helps where each step needs the one before
    it, as in a dialogue, and shows what it is worth to think at the same time: it takes as many
    more ticks as there are workers. Decides per run. Source: the turns of AutoGen (arXiv
    2308.08155).

    Args:
        steps: how many steps are a turn, at least 1.
        prompt: what opens a turn: a prompt file's name or path, or None for nothing; gets
            ``previous``, who spoke last, if anybody did.

    Raises:
        ConfigError: ``steps`` is no whole number from 1, or there is no such prompt.
    """

    def __init__(self, steps: int = 1, *, prompt: str | None = "turn") -> None:
        require_whole(f"Turns of {steps!r} steps", steps)
        self._steps = steps
        self._prompt = None if prompt is None else Prompt.load(prompt)
        self._order: list[str] = []
        self._writer = ""
        self._left = steps

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Let the first one begin."""
        self._order = list(event.workers)
        self._writer, *others = event.workers
        return [*(Park(worker=name) for name in others), *self._open()]

    async def on_worker_joined(self, event: WorkerJoined) -> Action | None:
        """Let a new worker wait for its turn."""
        if event.worker not in self.run.names:  # a person
            return None
        self._order.append(event.worker)
        return Park(worker=event.worker)

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """Hand over after the last step of a turn."""
        if event.worker != self._writer:
            return ()
        self._left -= 1
        return () if self._left else self._hand_over()

    async def on_worker_left(self, event: WorkerLeft) -> Iterable[Action]:
        """Hand over if it was this one's turn."""
        return self._hand_over() if event.worker == self._writer else ()

    def _hand_over(self) -> list[Action]:
        last, present = self._writer, self.run.names
        place = self._order.index(last) + 1
        turns = self._order[place:] + self._order[:place]
        following = next((name for name in turns if name in present), None)
        if following is None:
            return []
        self._writer, self._left = following, self._steps
        if following == last:
            return []
        waits = [Park(worker=last)] if last in present else []
        return [*waits, *self._open(previous=last), Resume(worker=following)]

    def _open(self, **previous: str) -> list[Action]:
        if self._prompt is None:
            return []
        return [Say(worker=self._writer, text=self._prompt.render(**previous))]
