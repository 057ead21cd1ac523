"""Teams whose ticks are computed ahead tell the same, token for token, whatever policies do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import load_model
from hogwild_agents.actions import Action, Ban, ChangeSampling, EndStep, Say
from hogwild_agents.coordinator import CacheCoordinator, Statistics
from hogwild_agents.events import TickEnded, TokensWritten
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.policies import paper_policies
from hogwild_agents.policy import Policy
from hogwild_agents.team import Team
from hogwild_agents.testing import scripted_model
from tests.runtime.rig import PROBLEM, drop_time, language_model, make_team, run_on, talkative
from tests.runtime.test_reproducible import lively_team

NAMES = ("Alice", "Bob", "Carol")
TASK = "Tasks: a) 7 + 1 - 3 b) 4 + 9 - 6 c) 12 - 5 + 8 d) 3 + 3 + 3"


class Meddler(Policy):
    """Does something at some ticks, and waits at all of them."""

    def __init__(self, acts: Sequence[tuple[int, str, int]]) -> None:
        self.acts = acts

    async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
        await anyio.sleep(0.0005)
        return [
            act(kind, NAMES[who], event.tick) for at, kind, who in self.acts if at == event.tick
        ]


def act(kind: str, worker: str, tick: int) -> Action:
    match kind:
        case "say":
            return Say(worker=worker, text=f"{tick}! ")
        case "end":
            return EndStep(worker=worker)
        case "ban":
            return Ban(worker=worker, texts=("e", "a"), for_tokens=3)
        case _:
            return ChangeSampling(worker=worker, temperature=0.5, for_tokens=2)


async def solve(team: Team, problem: str, *, ahead: bool) -> tuple[list[str], Statistics]:
    """Return what was told, without its times, and what the coordinator has done."""
    events: list[Any] = []
    engine = team.model.engine
    async with CacheCoordinator(engine, ahead=ahead) as coordinator:
        team.coordinator = coordinator
        try:
            await team.start(problem, on_event=events.append).execute()
        finally:
            team.coordinator = None
    engine.check_integrity()
    return drop_time(events), coordinator.statistics()


def compare(backend: str, team: Team, problem: str = PROBLEM) -> Statistics:
    """Compare a team's events with and without; return the statistics of those with."""
    expected, without = run_on(backend, partial(solve, team, problem, ahead=False))
    told, statistics = run_on(backend, partial(solve, team, problem, ahead=True))
    assert told == expected
    assert (without.guessed, without.misguessed) == (0, 0)
    assert isinstance(statistics, Statistics)
    return statistics


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=15)
@given(
    acts=st.lists(
        st.tuples(
            st.integers(1, 14),
            st.sampled_from(["say", "end", "ban", "sampling"]),
            st.integers(0, 2),
        ),
        max_size=6,
    ),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 9),
)
def test_a_policy_that_meddles_is_heeded_at_once(
    backend: str, acts: list[tuple[int, str, int]], layout: str, seed: int
) -> None:
    model = language_model()
    compare(
        backend,
        make_team(
            model,
            workers=NAMES,
            layout=layout,
            policies=[Meddler(acts)],
            sampling=talkative(model, 4.0),
            limits=Limits(ticks=16),
            seed=seed,
        ),
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_workers_that_park_write_and_wait_are_the_same(backend: str, layout: str) -> None:
    compare(backend, lively_team(layout=layout))


@cache
def bundled() -> LanguageModel:
    return load_model()


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_bundled_model_solves_its_task_alike(layout: str) -> None:
    team = Team(bundled(), workers=3, policies=paper_policies(), layout=layout)
    statistics = compare("asyncio", team, TASK)
    assert statistics.guessed > statistics.ticks / 2
    assert statistics.misguessed <= 0.1 * statistics.ticks


def test_the_end_of_a_step_costs_no_forward() -> None:
    model = language_model()
    team = make_team(model, workers=NAMES, sampling=talkative(model, 3.0), limits=Limits(ticks=80))
    statistics = compare("asyncio", team)
    assert statistics.guessed > 10
    assert statistics.misguessed <= 1  # when the run ends


def test_scripts_are_spoken_alike() -> None:
    model = scripted_model(
        {"Alice": ["One.\n\n", "Two, three.\n\n"], "Bob": lambda view: f"{len(view)} in all. "}
    )

    class Interrupts(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            if event.worker == "Alice" and "w" in event.text:
                return [Say(worker="Bob", text="(So?) ")]
            return []

    team = Team(model, workers=["Alice", "Bob"], policies=[Interrupts()])
    statistics = compare("asyncio", team)
    assert statistics.guessed > 5
