"""What holds for all ready-made policies."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import hogwild_agents.policies as policies
from hogwild_agents import Limits, Policy
from tests.policies.rig import scripted, taken
from tests.runtime.rig import Play, solve

READY_MADE: dict[str, Policy] = {
    "Debate": policies.Debate(),
    "DevilsAdvocate": policies.DevilsAdvocate(every=2),
    "Finisher": policies.Finisher(),
    "LoopBreaker": policies.LoopBreaker(2, 3),
    "MajorityVote": policies.MajorityVote(ask_after=20),
    "Moderator": policies.Moderator(),
    "RedundancyCheck": policies.RedundancyCheck(every=4, count="random"),
    "SelfConsistency": policies.SelfConsistency(),
    "SkeletonOfThought": policies.SkeletonOfThought(),
    "SpawnOnDemand": policies.SpawnOnDemand(),
    "StopOnAgreement": policies.StopOnAgreement(1),
    "StopOnAnswer": policies.StopOnAnswer(),
    "TurnTaking": policies.TurnTaking(),
    "WorkerBudget": policies.WorkerBudget(20),
}
SCRIPTS = {
    "A": "One thing.\n2. Two.\n\nB: Do this.\n\nspawn: C: help.\n\n" + "a" * 30,
    "B": "I see.\n\nI do.\n\nIt is \\boxed{3}. So it is.\n\n" + "b" * 9,
    "C": "Here.",
}


def test_all_are_here() -> None:
    kinds = {name for name in policies.__all__ if inspect.isclass(getattr(policies, name))}
    assert kinds == set(READY_MADE)


@pytest.mark.parametrize("name", READY_MADE)
def test_it_says_what_it_does_and_decides_and_where_it_is_from(name: str) -> None:
    kind = getattr(policies, name)
    text = " ".join((inspect.getdoc(kind) or "").split())
    assert f"Decides per {READY_MADE[name].decides}" in text
    assert "Source:" in text
    assert "elps" in text or "baseline" in text
    assert all(
        f"{argument}: " in text or "arguments, are those of" in text
        for argument in inspect.signature(kind).parameters
    )


@pytest.mark.anyio
@pytest.mark.parametrize("name", READY_MADE)
async def test_runs_share_nothing(name: str) -> None:
    policy = READY_MADE[name]
    before = pickle.dumps(vars(copy.deepcopy(policy)))
    team = scripted(SCRIPTS, workers=["A", "B"], policies=[policy], limits=Limits(ticks=60))
    one, other = await solve(team), await solve(team)
    assert story(one) == story(other)
    assert pickle.dumps(vars(policy)) == before


@pytest.mark.anyio
async def test_many_work_together() -> None:
    names = ["RedundancyCheck", "DevilsAdvocate", "LoopBreaker", "SpawnOnDemand", "WorkerBudget"]
    chosen = [READY_MADE[name] for name in names]
    team = scripted(SCRIPTS, workers=["A", "B"], policies=chosen, limits=Limits(ticks=150))
    record = await solve(team)
    assert record.result.reason == "left"
    assert taken(record)


def story(record: Play) -> tuple[Any, ...]:
    """What a run came to, and what was done to it."""
    result = record.result
    actions = [(type(action).__name__, getattr(action, "text", "")) for action in taken(record)]
    return result.texts, result.answer, result.reason, result.ticks, actions
