"""What holds for all ready-made policies."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
from typing import Any

import pytest

import hogwild_agents.policies as policies
from hogwild_agents import ConfigError, Limits, Policy
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
WHOLE_BY_WORKER = "int | Mapping[str, int]"
SCRIPTS = {
    "A": "One thing.\n2. Two.\n\nB: Do this.\n\nspawn: C: help.\n\n" + "a" * 30,
    "B": "I see.\n\nI do.\n\nIt is \\boxed{3}. So it is.\n\n" + "b" * 9,
    "C": "Here.",
}


def test_all_are_here() -> None:
    kinds = {name for name in policies.__all__ if inspect.isclass(getattr(policies, name))}
    assert kinds == set(READY_MADE)


def options(*kinds: str) -> list[tuple[str, str]]:
    """The ready-made policies' options that are annotated so."""
    return [
        (name, option.name)
        for name, policy in READY_MADE.items()
        for option in inspect.signature(type(policy)).parameters.values()
        if option.annotation in kinds
    ]


def made(name: str, option: str, value: object) -> Policy:
    needed: dict[str, Any] = {"tokens": 20} if name == "WorkerBudget" else {}
    policy: Policy = getattr(policies, name)(**{**needed, option: value})
    return policy


@pytest.mark.parametrize(("name", "option"), options("int", "int | None", WHOLE_BY_WORKER))
def test_what_is_no_whole_number_is_refused_when_a_policy_is_made(name: str, option: str) -> None:
    for value in (1.5, 40.0, True, "40", math.nan, math.inf, [40], -1):
        with pytest.raises(ConfigError, match=rf"{re.escape(repr(value))}.*: give a whole number"):
            made(name, option, value)
    if WHOLE_BY_WORKER in str(inspect.signature(getattr(policies, name))):
        with pytest.raises(ConfigError, match=r"1\.5 tokens: give a whole number from 1"):
            made(name, option, {"A": 1.5})


@pytest.mark.parametrize(("name", "option"), options("float | None"))
def test_what_is_no_such_number_is_refused_when_a_policy_is_made(name: str, option: str) -> None:
    for value in (True, "0.5", math.nan, [0.5], -1.0, 2j, math.inf):
        with pytest.raises(ConfigError, match=rf"{re.escape(repr(value))}: give"):
            made(name, option, value)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        *options("Normalise", "FindWork | None", "MakeWorker | None"),
        *options("Mapping[str, str] | None"),
        ("SpawnOnDemand", "pattern"),
        ("Moderator", "pattern"),
        ("Finisher", "prompt"),
        ("TurnTaking", "prompt"),
    ],
)
def test_what_cannot_be_used_later_is_refused_when_a_policy_is_made(name: str, option: str) -> None:
    for value in (1.5, [1], b"x"):
        with pytest.raises(ConfigError, match=re.escape(repr(value))):
            made(name, option, value)


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
