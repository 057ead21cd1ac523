"""Policies that come with the package; each uses only what ``hogwild_agents`` exports."""

from hogwild_agents.policies.answer import StopOnAnswer
from hogwild_agents.policies.finisher import Finisher
from hogwild_agents.policies.paper import paper_policies
from hogwild_agents.policies.redundancy import RedundancyCheck

__all__ = ["Finisher", "RedundancyCheck", "StopOnAnswer", "paper_policies"]
