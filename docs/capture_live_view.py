"""Captures docs/live-view.svg: a real frame of `hogwild run`, from the middle of a run.

Run it with `python docs/capture_live_view.py [--size 100x30] [--seed 0]`.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

import anyio
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group
from rich.text import Text

from hogwild_agents import Event, Limits, Team, TickEnded, load_model
from hogwild_agents.bundled.task import held_out_problems
from hogwild_agents.cli.frame import Frame, Title
from hogwild_agents.cli.record import Record
from hogwild_agents.policies import paper_policies

TARGET = Path(__file__).with_name("live-view.svg")
WORKERS = ("Alice", "Bob", "Carol")
BUDGET = 512
CHECK_EVERY = 40  # seldom enough to be read, often enough to be in the picture
MOMENT = 0.6  # of the run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="100x30")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    frames = anyio.run(run, width, height, options.seed)
    checked = [moment for moment, (_, intervened) in enumerate(frames) if intervened]
    moments = checked or range(len(frames))
    moment = min(moments, key=lambda one: abs(one - MOMENT * len(frames)))
    export(frames[moment][0], width, height)
    print(f"{TARGET}: tick {moment + 1} of {len(frames)}")


async def run(width: int, height: int, seed: int) -> list[tuple[list[Text], bool]]:
    """Return the frame after each tick, and whether a policy's text stands in a worker's pane."""
    record = Record()
    facts = ("bundled", "combined", f"seed {seed}")
    frame = Frame(record, Title(facts=facts, budget=BUDGET))
    frames: list[tuple[list[Text], bool]] = []

    def see(event: Event) -> None:
        record.handle(event)
        if isinstance(event, TickEnded):
            spans = [
                span for worker in record.workers.values() for span in worker.current.spans[1:]
            ]
            intervened = any(span.source == "forced" for span in spans)
            frames.append((frame.draw(width, height), intervened))

    model = load_model()
    team = Team(
        model,
        workers=WORKERS,
        policies=paper_policies(check_every=CHECK_EVERY),
        limits=Limits(ticks=BUDGET),
        seed=seed,
    )
    await team.solve(held_out_problems(1, seed)[0].text, on_event=see)
    model.close()
    return frames


def export(lines: list[Text], width: int, height: int) -> None:
    """Write the lines as a picture that loads nothing from elsewhere."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        legacy_windows=False,
    )
    console.print(Group(*lines), end="")
    form = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="hogwild run", code_format=form, unique_id="live-view")
    TARGET.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
