"""What the tests of policies are made of: workers who say what a script tells them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from hogwild_agents import ActionTaken, Limits, StepEnded, TokensWritten
from hogwild_agents.testing import scripted_model
from tests.runtime.rig import Play, make_team, play, solve

LIMITS = Limits(ticks=600)


def scripted(
    scripts: Mapping[str, Any], *, answers: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """A team of those who have a script; other options are the team's."""
    workers = options.pop("workers", list(scripts))
    options.setdefault("limits", LIMITS)
    return make_team(scripted_model(scripts, answers=answers), workers=workers, **options)


async def act(scripts: Mapping[str, Any], *policies: Any, **options: Any) -> Play:
    """Let a scripted team run with policies; nothing may fail."""
    return await solve(scripted(scripts, policies=policies, **options))


async def fail(scripts: Mapping[str, Any], *policies: Any, **options: Any) -> str:
    """Let a scripted team run with policies; return why it failed."""
    record = await play(scripted(scripts, policies=policies, **options))
    assert record.error is not None
    return str(record.error)


def taken(record: Play, *kinds: type) -> list[Any]:
    """The actions of some kinds, or all, in their order."""
    actions = [event.action for event in record.told(ActionTaken)]
    return [action for action in actions if not kinds or isinstance(action, kinds)]


def writers(record: Play) -> dict[int, set[str]]:
    """Who sampled a token, by tick."""
    found: dict[int, set[str]] = defaultdict(set)
    for event in record.told(TokensWritten):
        if event.source == "sampled":
            found[event.tick].add(event.worker)
    return found


def steps(record: Play) -> list[tuple[str, int]]:
    """Who ended which step, in order."""
    return [(event.worker, event.step) for event in record.told(StepEnded)]


def sampled(record: Play, worker: str) -> int:
    """How many sampled tokens a worker's events tell, up to where thinking ended."""
    events: Sequence[TokensWritten] = record.told(TokensWritten)
    return sum(len(e.tokens) for e in events if e.worker == worker and e.source == "sampled")
