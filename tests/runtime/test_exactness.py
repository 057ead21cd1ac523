"""What a team feeds is what it has written: every token once, in its place, in the right view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, note, settings, strategies as st

from hogwild_agents.actions import Action, Conclude, Say
from hogwild_agents.events import LimitReached, StepEnded, TokensWritten
from hogwild_agents.layouts import LAYOUTS, Combined, Interleaved, Layout
from hogwild_agents.limits import Limits
from hogwild_agents.policies import Finisher, RedundancyCheck
from hogwild_agents.policy import Policy
from tests.runtime.book import Ledger, by_tick, check_feeds
from tests.runtime.replay import check_logprobs, oracle_of
from tests.runtime.rig import (
    JOINED,
    LONGER,
    SPLIT,
    Play,
    Typist,
    language_model,
    make_team,
    run_on,
    solve,
    steps_of,
)

NAMES = ("Alice", "Bøb", "Carol C.", "明")
ANSWER = Conclude(text="\n\nSo it is \\boxed{", max_tokens=4)

MAKERS: dict[str, Callable[[], Layout]] = {
    **LAYOUTS,
    "combined, reference order": lambda: Combined(reference_order=True),
    "interleaved, reference order": lambda: Interleaved(reference_order=True),
}


class Concluder(Policy):
    """Has some worker answer at the limit."""

    def __init__(self, worker: str | None) -> None:
        self.worker = worker

    async def on_limit_reached(self, event: LimitReached) -> Sequence[Action]:
        return [Conclude(text=ANSWER.text, worker=self.worker, max_tokens=4)]


async def park(worker: Typist) -> None:
    with worker.parked():
        await anyio.sleep(0.004)


async def write(worker: Typist) -> None:
    await worker.write("Look: ")


async def flush(worker: Typist) -> None:
    await worker.flush()


async def interrupt(worker: Typist) -> None:
    """Be cancelled before a tick, while one is computed, or after it, and go on."""
    with anyio.move_on_after(0.003):
        await worker.next_token()
    await worker.write("so")


Part = str | int | Callable[[Typist], Any]
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.integers(1, 3),
    st.just(".\n\n"),
    st.just(".\n\n"),
    st.sampled_from([park, write, flush, interrupt]),
)


@st.composite
def scripted_teams(draw: st.DrawFn) -> dict[str, Any]:
    """Options of a team whose workers do all that workers can do."""
    kind = draw(st.sampled_from([JOINED, SPLIT, LONGER]))
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 4))]
    workers = []
    for name in names:
        script = draw(st.lists(PARTS, max_size=7))
        workers.append(Typist(name, *script, role=draw(st.sampled_from(["", "I check."]))))
        note(f"{name!r}: {[getattr(part, '__name__', part) for part in script]}")
    policies: list[Policy] = [Concluder(draw(st.sampled_from([None, *names])))]
    if draw(st.booleans()):
        policies.append(RedundancyCheck(every=draw(st.integers(1, 6))))
    return {
        "kind": kind,
        "workers": workers,
        "layout": MAKERS[draw(st.sampled_from(sorted(MAKERS)))](),
        "policies": policies,
        "limits": Limits(ticks=draw(st.integers(1, 16))),
        "seed": draw(st.integers(0, 9)),
    }


def play_drawn(options: dict[str, Any], backend: str) -> Play:
    kind = options.pop("kind")
    team = make_team(language_model(kind), **options)
    record: Play = run_on(backend, lambda: solve(team))
    return record


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=12)
@given(options=scripted_teams())
def test_every_view_is_what_was_written(options: dict[str, Any], backend: str) -> None:
    record = play_drawn(options, backend)
    check_feeds(record)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(options=scripted_teams())
def test_every_sampled_token_has_the_oracles_probability(
    options: dict[str, Any], backend: str
) -> None:
    kind = options["kind"]
    record = play_drawn(options, backend)
    check_logprobs(record, oracle_of(kind))


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=300)
@given(options=scripted_teams())
def test_many_teams(options: dict[str, Any], backend: str) -> None:
    kind = options["kind"]
    record = play_drawn(options, backend)
    check_feeds(record)
    check_logprobs(record, oracle_of(kind))
