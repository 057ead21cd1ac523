"""Debate: rounds of arguments, then a judge answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hogwild_agents import (
    Action,
    Conclude,
    ConfigError,
    LimitReached,
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


class Debate(Policy):
    """Lets the workers argue in rounds; then one of them, the judge, weighs it all and answers.

    In a round every debater writes some steps and waits until all have; a later round opens with a
    text that has each answer the others. The judge, who has been parked till then, writes a step
    about who made the better case, and is made to conclude. A limit makes it conclude at once.
    Everybody but the judge debates; those who join later do from the next round on. With the layout
    ``"interleaved"`` nobody sees an argument before it is finished, as in the sources.

    Helps where a first idea is often wrong and hard to give up. A :class:`StopOnAgreement` ends it
    early. Decides per run. Source: arXiv 2305.14325 (rounds among equals) and 2305.19118 (opposite
    sides and a judge).

    Args:
        rounds: at least 1.
        judge: the name of the judge; None for the last worker of the team.
        positions: what debaters have to defend, by name; the others choose. It need not be said
            twice: the role card ``role_debater`` stands by what a debater opens with.
        steps: how many steps an argument has, at least 1.
        max_tokens: of the conclusion, at least 1.
        opening: opens a debater's first round: a prompt file's name or path; gets ``position``, if
            the debater has one.
        rebuttal: opens a debater's later rounds; gets ``opponents``, their names.
        verdict: opens the judge's step; gets ``names``, those of the debaters.
        conclusion: what the judge answers after.

    Raises:
        ConfigError: a number is no whole one from 1, or there is no such prompt.
    """

    def __init__(
        self,
        rounds: int = 2,
        judge: str | None = None,
        *,
        positions: Mapping[str, str] | None = None,
        steps: int = 1,
        max_tokens: int = 16,
        opening: str = "debate_opening",
        rebuttal: str = "debate_rebuttal",
        verdict: str = "debate_verdict",
        conclusion: str = "finisher",
    ) -> None:
        for name, value in (("rounds", rounds), ("steps", steps), ("max_tokens", max_tokens)):
            require_whole(f"A debate has {name}={value!r}", value)
        if not isinstance(positions, Mapping | None):
            raise ConfigError(f"A debate has positions={positions!r}: give a mapping by names.")
        self._rounds = rounds
        self._judge = judge
        self._positions = dict(positions or {})
        self._steps = steps
        self._max_tokens = max_tokens
        self._opening = Prompt.load(opening)
        self._rebuttal = Prompt.load(rebuttal)
        self._verdict = Prompt.load(verdict)
        self._conclusion = Prompt.load(conclusion).render()
        self._round = 0
        self._speaking: dict[str, int] = {}  # who argues, and how many steps more
        self._debaters: list[str] = []  # all who have
        self._judging = False

    async def on_run_started(self, event: RunStarted) -> Iterable[Action]:
        """Let everybody but the judge begin."""
        self._judge = self._judge or event.workers[-1]
        debaters = [name for name in event.workers if name != self._judge]
        strangers = {self._judge, *self._positions} - set(event.workers)
        if strangers or not debaters:
            raise ConfigError(
                f"A debate among {', '.join(event.workers)} cannot have the judge {self._judge!r} "
                f"and positions for {', '.join(self._positions) or 'nobody'}: name workers of the "
                "team, at least one besides the judge."
            )
        return [Park(worker=self._judge), *self._begin_round(debaters)]

    async def on_worker_joined(self, event: WorkerJoined) -> Action | None:
        """Let a new debater wait for the next round."""
        return Park(worker=event.worker) if event.worker in self.run.names else None

    async def on_step_ended(self, event: StepEnded) -> Iterable[Action]:
        """End a debater's argument, and with the last one's the round."""
        worker = event.worker
        if self._judging and worker == self._judge:
            return [self._conclude()]
        if worker not in self._speaking:
            return ()
        self._speaking[worker] -= 1
        if self._speaking[worker]:
            return ()
        del self._speaking[worker]
        return [Park(worker=worker), *self._end_round()]

    async def on_worker_left(self, event: WorkerLeft) -> Iterable[Action]:
        """Go on without a debater; without a judge, conclude."""
        if self._judging and event.worker == self._judge:
            return [self._conclude()]
        argued = self._speaking.pop(event.worker, None) is not None
        return self._end_round() if argued else ()

    async def on_limit_reached(self, event: LimitReached) -> Action:
        """Have the judge answer from what was said."""
        return self._conclude()

    def _begin_round(self, debaters: Sequence[str]) -> list[Action]:
        self._round += 1
        self._speaking = dict.fromkeys(debaters, self._steps)
        actions: list[Action] = []
        for name in debaters:
            text = self._text(name, [other for other in debaters if other != name])
            actions += [Say(worker=name, text=text), Resume(worker=name)]
        self._debaters += [name for name in debaters if name not in self._debaters]
        return actions

    def _text(self, name: str, opponents: Sequence[str]) -> str:
        """Return what opens a debater's round; alone, or new, one has nothing to answer."""
        if name in self._debaters and opponents:
            return self._rebuttal.render(opponents=opponents)
        position = self._positions.get(name)
        return self._opening.render(**({} if position is None else {"position": position}))

    def _end_round(self) -> Sequence[Action]:
        if self._speaking or self._judging:
            return ()
        debaters = [name for name in self.run.names if name != self._judge]
        if debaters and self._round < self._rounds:
            return self._begin_round(debaters)
        judge = self._judge
        if judge is None or judge not in self.run.names:
            return [self._conclude()]
        self._judging = True
        text = self._verdict.render(names=self._debaters)
        return [Say(worker=judge, text=text), Resume(worker=judge)]

    def _conclude(self) -> Conclude:
        return Conclude(
            text=self._conclusion,
            worker=self._judge,
            max_tokens=self._max_tokens,
            reason="judgement",
        )
