"""Policies that come with the package; each uses only what ``hogwild_agents`` exports."""

from hogwild_agents.policies.advocate import DevilsAdvocate
from hogwild_agents.policies.agreement import StopOnAgreement
from hogwild_agents.policies.answer import StopOnAnswer
from hogwild_agents.policies.boxes import normalise_answer
from hogwild_agents.policies.budget import WorkerBudget
from hogwild_agents.policies.consistency import SelfConsistency
from hogwild_agents.policies.debate import Debate
from hogwild_agents.policies.finisher import Finisher
from hogwild_agents.policies.loop import LoopBreaker
from hogwild_agents.policies.moderator import Moderator
from hogwild_agents.policies.paper import paper_policies
from hogwild_agents.policies.redundancy import RedundancyCheck
from hogwild_agents.policies.skeleton import SkeletonOfThought
from hogwild_agents.policies.spawning import SpawnOnDemand
from hogwild_agents.policies.turns import TurnTaking
from hogwild_agents.policies.vote import MajorityVote

__all__ = [
    "Debate",
    "DevilsAdvocate",
    "Finisher",
    "LoopBreaker",
    "MajorityVote",
    "Moderator",
    "RedundancyCheck",
    "SelfConsistency",
    "SkeletonOfThought",
    "SpawnOnDemand",
    "StopOnAgreement",
    "StopOnAnswer",
    "TurnTaking",
    "WorkerBudget",
    "normalise_answer",
    "paper_policies",
]
