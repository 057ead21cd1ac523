"""Record: tells a run's events to its transcript and its listener, whatever these may raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hogwild_agents.bell import Bell
from hogwild_agents.coordinator import Commit
from hogwild_agents.events import Event, RunEnded, Source, StepEnded
from hogwild_agents.result import Step

if TYPE_CHECKING:
    from hogwild_agents.team import Team
    from hogwild_agents.transcript import TranscriptWriter

Listener = Callable[[Event], None]
"""Gets every event at once; must not block. What it raises ends the run."""


class Record:
    """Where the events of a run go, besides its policies.

    Args:
        transcript: where the record goes, if anywhere.
        listener: gets every event, if there is one.
        fail: gets what either of them raises.

    Attributes:
        told: rung with every event.
        steps: the finished steps, in the order in which their ends were told.
    """

    def __init__(
        self,
        transcript: TranscriptWriter | None,
        listener: Listener | None,
        fail: Callable[[Exception], None],
    ) -> None:
        self._transcript = transcript
        self._listener = listener
        self._fail = fail
        self.told = Bell()
        self.steps: list[Step] = []

    @property
    def kept(self) -> bool:
        """Whether a transcript is written, so that :meth:`commit` does anything."""
        return self._transcript is not None

    def begin(self, team: Team, problem: str) -> None:
        """Write the transcript's header.

        Raises:
            ConfigError: its file cannot be opened, or another run is writing it.
        """
        if self._transcript is None:
            return
        from hogwild_agents.transcript import TranscriptHeader

        self._transcript.header(
            TranscriptHeader.of_run(
                model=team.model.name,
                vocab_size=team.model.engine.vocab_size,
                problem=problem,
                workers=team.workers,
                layout=team.layout.name,
                seed=team.seed,
                limits=team.limits,
                sampling=team.sampling,
            )
        )

    def tell(self, event: Event) -> None:
        """Tell an event; a step is finished when its end is told."""
        if isinstance(event, StepEnded):
            self.steps.append(
                Step(
                    worker=event.worker,
                    number=event.step,
                    text=event.text,
                    tick=event.tick,
                    prefix=event.prefix,
                )
            )
        if self._transcript is not None:
            self._guard(self._transcript.event, event)
        if self._listener is not None:
            self._guard(self._listener, event)
        self.told.ring()

    def commit(self, name: str, commit: Commit, sources: Sequence[Sequence[Source]]) -> None:
        """Note what a worker changed in the cache; an empty name is the run itself."""
        if self._transcript is not None:
            self._guard(self._transcript.commit, name, commit, sources)

    def prefilled(self, commit: Commit) -> None:
        """Note what the run itself has fed."""
        self.commit("", commit, [["forced"] * len(feed.tokens) for feed in commit.feeds])

    def end(self, event: RunEnded) -> None:
        """Tell the last event, and close the transcript; what comes later is left out of it."""
        self.tell(event)
        transcript, self._transcript = self._transcript, None
        if transcript is not None:
            self._guard(transcript.close)

    def _guard(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except Exception as error:
            self._fail(error)
