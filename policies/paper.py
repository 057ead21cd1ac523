"""The paper's three interventions together."""

from __future__ import annotations

from hogwild_agents import Policy
from hogwild_agents.policies.answer import StopOnAnswer
from hogwild_agents.policies.finisher import Finisher
from hogwild_agents.policies.redundancy import RedundancyCheck


def paper_policies(*, check_every: int = 1024, max_answer_tokens: int = 16) -> list[Policy]:
    """Return what the paper's experiments run with.

    Args:
        check_every: tokens of a worker between two redundancy checks.
        max_answer_tokens: of the finisher.
    """
    return [
        RedundancyCheck(every=check_every),
        StopOnAnswer(),
        Finisher(max_tokens=max_answer_tokens),
    ]
