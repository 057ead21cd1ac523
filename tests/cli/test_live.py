"""The live view's last frame: there is room in it for what every worker wrote."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hogwild_agents.cli.frame import Title
from hogwild_agents.cli.live import LiveView
from hogwild_agents.events import RunEnded
from tests.cli.scripted import result_of, script
from tests.cli.terminal import without_escapes

NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank")


@pytest.mark.parametrize(("width", "height"), [(50, 16), (80, 24), (80, 10), (160, 45)])
def test_every_worker_has_text_in_the_last_frame(width: int, height: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True)
    view = LiveView(console, Title())
    with view:
        steps = {name: ["Done.", f"end-{name}"] for name in NAMES}
        for event in script(steps):
            view.handle(event)
        view.handle(RunEnded(result=result_of()))
        before = out.tell()
    last = without_escapes(out.getvalue()[before:].encode())
    assert [name for name in NAMES if f"end-{name}" not in last] == []
