"""The engine floor: token ids and tensors, synchronous; needs torch and transformers only."""

from hogwild_agents.engine.block import BlockSlice, CacheBlock, ViewEntry
from hogwild_agents.engine.context import LongContextWarning
from hogwild_agents.engine.engine import Engine
from hogwild_agents.engine.feed import Feed
from hogwild_agents.engine.parallel import ParallelEngine
from hogwild_agents.engine.refusals import unsupported_reason
from hogwild_agents.engine.sampling import Sampled, Sampler, SamplingParams, sample
from hogwild_agents.engine.trial import Trial

__all__ = [
    "BlockSlice",
    "CacheBlock",
    "Engine",
    "Feed",
    "LongContextWarning",
    "ParallelEngine",
    "Sampled",
    "Sampler",
    "SamplingParams",
    "Trial",
    "ViewEntry",
    "sample",
    "unsupported_reason",
]
