"""A paced run: slow enough to be followed on a terminal, and as fast as ever elsewhere."""

from __future__ import annotations

import io
import sys
from itertools import pairwise

import anyio
import pytest
from rich.console import Console

from hogwild_agents import TickEnded
from hogwild_agents.cli.frame import Frame, Title
from hogwild_agents.cli.live import LiveView
from hogwild_agents.cli.pace import Pace
from hogwild_agents.cli.plain import PlainView
from hogwild_agents.cli.progress import Progress
from hogwild_agents.cli.run import Output, watchers
from tests.cli.scripted import script


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        """Return the time."""
        return self.now

    async def sleep_until(self, due: float) -> None:
        """Be there at once."""
        self.now = max(self.now, due)


@pytest.mark.anyio
async def test_ticks_are_as_far_apart_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(anyio, "current_time", clock.time)
    monkeypatch.setattr(anyio, "sleep_until", clock.sleep_until)
    pace, ended = Pace(4), []
    for tick in range(8):
        clock.now += 3 if tick == 4 else 0.01  # one tick takes longer by itself
        await pace.on_tick_ended(TickEnded(tick=tick, seconds=0, tokens=0))
        ended.append(clock.now)
    apart = [after - before for before, after in pairwise(ended)]
    assert apart == pytest.approx([0.25, 0.25, 0.25, 3, 0.25, 0.25, 0.25])


def test_only_the_live_view_is_paced() -> None:
    live = LiveView(Console(file=io.StringIO()), Title())
    plain = PlainView(sys.stdout, Progress(quiet=True))
    paced = Output(pace=5)
    assert [type(one) for one in watchers(live, paced)] == [Pace]
    assert watchers(plain, paced) == watchers(live, Output()) == []


def test_view_tells_the_pace_and_no_speed() -> None:
    live = LiveView(Console(file=io.StringIO()), Title())
    for event in script():
        live.handle(event)
    for pace, told, untold in ((None, "tokens/s", "ticks/s"), (5, "at most 5 ticks/s", "tokens/s")):
        foot = Frame(live.record, Title(pace=pace)).draw(100, 24)[-1].plain
        assert told in foot
        assert untold not in foot
