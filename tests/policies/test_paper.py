"""The three policies of the paper in one team."""

from __future__ import annotations

import pytest

from hogwild_agents import ActionTaken, ConfigError, Limits
from hogwild_agents.policies import Finisher, RedundancyCheck, StopOnAnswer, paper_policies
from tests.runtime.book import check_feeds
from tests.runtime.rig import Typist, make_team, solve, steps_of


def test_the_papers_settings_are_the_defaults() -> None:
    check, stop, finisher = paper_policies()
    assert isinstance(check, RedundancyCheck)
    assert isinstance(stop, StopOnAnswer)
    assert isinstance(finisher, Finisher)
    assert [check._every, finisher._max_tokens] == [1024, 16]


def test_its_options_are_checked() -> None:
    with pytest.raises(ConfigError):
        paper_policies(check_every=0)
    with pytest.raises(ConfigError):
        paper_policies(max_answer_tokens=0)


@pytest.mark.anyio
async def test_they_work_together() -> None:
    policies = paper_policies(check_every=3, max_answer_tokens=4)
    workers = [steps_of("Alice", [2, 2, 30]), Typist("Bob", "Hm.\n\n", r"So \boxed{7}", 9)]
    record = await solve(make_team(workers=workers, policies=policies, limits=Limits(ticks=60)))
    check_feeds(record)
    assert (record.result.answer, record.result.author) == ("7", "Bob")
    assert [event.policy for event in record.told(ActionTaken)].count("RedundancyCheck") >= 2
    workers = [steps_of("Alice", [2, 2, 30]), Typist("Bob", 30)]
    record = await solve(make_team(workers=workers, policies=policies, limits=Limits(ticks=12)))
    check_feeds(record)
    assert record.result.reason == "finisher"
    assert record.told(ActionTaken)[-1].policy == "Finisher"
