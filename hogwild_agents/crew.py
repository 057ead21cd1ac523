"""Crew: the seats of one team at a coordinator. They tick together, and are woken in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from hogwild_agents.seat import Seat
from hogwild_agents.tick import Part


class Crew:
    """The seats of one team.

    A tick is closed for all of them or for none, and of those that it has served the next one is
    woken only when the one before has settled again. Of another team's seats they know nothing.

    Args:
        team: whose they are.

    Attributes:
        seats: in join order.
        thinking: those of them that owe a feed.
        served: their parts of the last tick, as long as nobody was told what came of them.
        missed: whether they were not part of the last tick.
        since: when it was served last; or, where nobody had handed in anything, when somebody began
            to think.
    """

    def __init__(self, team: Hashable) -> None:
        self.team = team
        self.seats: dict[Seat, None] = {}
        self.thinking: set[Seat] = set()
        self.served: deque[Part] = deque()
        self.missed = False
        self.since = 0.0

    @property
    def empty(self) -> bool:
        """Whether all have left, and nobody has to be told anything."""
        return not (self.seats or self.served)

    @property
    def asks(self) -> bool:
        """Whether something has been handed in that was not answered yet."""
        return any(seat._request for seat in self.seats)

    def serve(self, part: Part, now: float) -> None:
        """Take a part of a tick, whose seat is woken in its turn."""
        self.served.append(part)
        self.since = now

    def note(self, seat: Seat) -> None:
        """Note whether a seat owes a feed, now that it has changed; or that it has left."""
        if seat._thinks:
            if not (self.thinking or self.asks):
                self.since = seat._thinking_since
            self.thinking.add(seat)
        else:
            self.thinking.discard(seat)
        if seat._left:
            self.seats.pop(seat, None)

    def awaited(self, now: float, patience: float) -> float | None:
        """Return when the patience with somebody who thinks ends next; None if it has with all."""
        deadlines = (seat._thinking_since + patience for seat in self.thinking)
        return min((time for time in deadlines if time > now), default=None)
