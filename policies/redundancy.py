"""RedundancyCheck: ask a worker now and then whether somebody else does the same."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, get_args

from hogwild_agents import (
    Action,
    ConfigError,
    Policy,
    Probe,
    ProbeAnswered,
    Prompt,
    RunStarted,
    Say,
    StepEnded,
    TickEnded,
)
from hogwild_agents.policies.given import require_probability, require_whole

Count: TypeAlias = Literal["worker", "pooled", "random"]
_YES, _NO = "yes", "no"


class RedundancyCheck(Policy):
    """Opens a worker's next step with a question, after every so many tokens.

    Tokens are counted in one of three ways. ``"worker"``: each worker's own, and it is asked after
    so many of them. ``"pooled"``: those of all workers together, and whoever ends a step next is
    asked. ``"random"``: those of all together, and a worker drawn by lot is asked.

    Without a threshold the question is spoken, and the worker answers it in its text; answers can
    be "no" or be ignored. With one, the worker is first probed in mid-step, which leaves no trace
    and takes no time (pooled: all workers at once), and only if the probability of yes against no
    reaches the threshold, the question is spoken at the beginning of its next step.

    Helps when workers notice too late that they do the same; probed, it disturbs nobody who does
    well. Decides per run. Source: Hogwild! Inference, section 3.3, spoken; the paper counts per
    worker, its code all workers together.

    Args:
        every: how many tokens lie between two checks, at least 1.
        prompt: what is spoken: a prompt file's name or path.
        count: whose tokens are counted: ``"worker"``, ``"pooled"`` or ``"random"``.
        threshold: above 0, up to 1: the probability of yes from which a worker is spoken to; None
            to speak without asking first.
        probe_prompt: what a worker is probed with: a prompt file's name or path.
        seed: of the lots.

    Raises:
        ConfigError: ``every``, ``count`` or ``threshold`` is none of these, or there is no such
            prompt.
    """

    def __init__(
        self,
        every: int = 1024,
        prompt: str = "redundancy_check",
        *,
        count: Count = "worker",
        threshold: float | None = None,
        probe_prompt: str = "redundancy_probe",
        seed: int = 0,
    ) -> None:
        require_whole(f"A redundancy check every {every!r} tokens", every)
        if count not in get_args(Count):
            raise ConfigError(
                f"A redundancy check counts {count!r}: choose from {', '.join(get_args(Count))}."
            )
        require_probability(f"A redundancy check has the threshold {threshold!r}", threshold)
        require_whole(f"A redundancy check has the seed {seed!r}", seed, 0)
        self._every = every
        self._count = count
        self._threshold = threshold
        self._text = Prompt.load(prompt).render()
        self._question = Prompt.load(probe_prompt).render()
        self._seed = seed
        self._drawn: str | None = None
        self._pooled = 0
        self._checked: dict[str, int] = {}
        self._asked: set[str] = set()
        self._redundant: set[str] = set()

    async def on_run_started(self, event: RunStarted) -> None:
        """Draw anew; here, since policies are copied for each run, which is slow for lots."""
        self._lots = random.Random(self._seed)

    async def on_step_ended(self, event: StepEnded) -> Say | None:
        """Speak to the worker, if it is time, or if it has said yes to a probe."""
        worker = event.worker
        if self._threshold is None:
            due = self._is_due(event)
        else:
            due = worker in self._redundant
            self._redundant.discard(worker)
        return Say(worker=worker, text=self._text) if due else None

    async def on_tick_ended(self, event: TickEnded) -> Iterable[Action]:
        """Probe, if it is time."""
        if self._threshold is None:
            return ()
        thinking = [name for name in self.run.names if name not in self.run.parked]
        due = [name for name in self._due(thinking) if name not in self._asked]
        self._asked.update(due)
        return [Probe(worker=name, question=self._question, answers=(_YES, _NO)) for name in due]

    async def on_probe_answered(self, event: ProbeAnswered) -> None:
        """Remember who said yes."""
        if event.worker not in self._asked or event.question != self._question:
            return
        self._asked.remove(event.worker)
        if self._threshold is not None and event.probabilities[_YES] >= self._threshold:
            self._redundant.add(event.worker)

    def _is_due(self, event: StepEnded) -> bool:
        """Whether the worker whose step has ended is to be asked; if so, counting begins anew."""
        if self._count == "worker":
            return self._count_own(event.worker, event.tokens_written)
        names = self.run.names
        if event.worker not in names or not self._count_all(restart=False):
            return False
        if self._count == "random":
            self._drawn = self._drawn if self._drawn in names else self._lots.choice(names)
            if event.worker != self._drawn:
                return False
            self._drawn = None
        return self._count_all(restart=True)

    def _due(self, thinking: Sequence[str]) -> Sequence[str]:
        """Return who is to be probed; for them counting begins anew."""
        if self._count == "worker":
            return [name for name in thinking if self._count_own(name, self.run.written(name))]
        if not thinking or not self._count_all(restart=True):
            return ()
        return thinking if self._count == "pooled" else [self._lots.choice(thinking)]

    def _count_own(self, worker: str, written: int) -> bool:
        due = written - self._checked.get(worker, 0) >= self._every
        if due:
            self._checked[worker] = written
        return due

    def _count_all(self, *, restart: bool) -> bool:
        tokens = self.run.tokens
        due = tokens - self._pooled >= self._every
        if due and restart:
            self._pooled = tokens
        return due
