"""Recorder: an observer that keeps all events."""

from __future__ import annotations

from typing import TypeVar

from hogwild_agents.actions import Action
from hogwild_agents.events import NAMES, ActionTaken, Event, TokensWritten
from hogwild_agents.policy import Observer

E = TypeVar("E")


class Recorder(Observer):
    """Keeps every event of the runs that it is given to.

    It is given to a team as one of its policies, or to a run as its ``on_event``, which hears of a
    conclusion too (policies do not). It is the same object in all runs, so a recorder for each run
    keeps them apart.

    Attributes:
        events: in the order in which they were told.
    """

    decides = "team"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in their order."""
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self) -> dict[str, str]:
        """Return what each worker has written, with the prefixes of its steps, by name.

        What a fork was given of another worker's text is not its own.
        """
        found: dict[str, str] = {}
        for event in self.of(TokensWritten):
            found[event.worker] = found.get(event.worker, "") + event.text
        return found

    def actions(self) -> list[Action]:
        """Return the actions of all policies, in the order in which they took effect."""
        return [event.action for event in self.of(ActionTaken)]

    async def _keep(self, event: Event) -> None:
        self.events.append(event)


for _name in NAMES:
    setattr(Recorder, f"on_{_name}", Recorder._keep)
