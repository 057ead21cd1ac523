"""What a run is made of: from a config to a model, a team and its policies.

What is wrong with a config is found by the checks, before anything heavy is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING

from hogwild_agents.cli.progress import Progress
from hogwild_agents.config import RunConfig
from hogwild_agents.errors import ConfigError

if TYPE_CHECKING:
    from hogwild_agents import CacheCoordinator, LanguageModel, Policy, Team
    from hogwild_agents.models import LoadProgress

__all__ = [
    "build_policies",
    "build_team",
    "check_place",
    "check_policies",
    "loaded",
]

STAGES = {
    "config": "config",
    "tokenizer": "tokenizer",
    "weights": "weights",
    "check": "comparing its logits with the plain forward’s",
}
POLICIES = {
    "redundancy-check": "RedundancyCheck",
    "stop-on-answer": "StopOnAnswer",
    "finisher": "Finisher",
    "stop-on-agreement": "StopOnAgreement",
    "majority-vote": "MajorityVote",
    "self-consistency": "SelfConsistency",
    "skeleton-of-thought": "SkeletonOfThought",
    "turn-taking": "TurnTaking",
    "debate": "Debate",
    "devils-advocate": "DevilsAdvocate",
    "moderator": "Moderator",
    "loop-breaker": "LoopBreaker",
    "spawn-on-demand": "SpawnOnDemand",
}
"""Those that need no arguments of their own, by their names in a config."""


@contextmanager
def loaded(config: RunConfig, *, quiet: bool) -> Iterator[LanguageModel]:
    """Load the config's model, with progress; close it in the end."""
    with Progress(quiet=quiet) as progress:
        progress.show(f"Loading {config.model}")
        from transformers.utils import logging

        from hogwild_agents import load_model

        def report(load: LoadProgress) -> None:
            parts = f" {load.done} of {load.total}" if load.total else ""
            progress.show(f"Loading {config.model} · {STAGES[load.stage]}{parts}")

        verbosity = logging.get_verbosity()
        logging.set_verbosity(ERROR)  # its warnings would stand in the middle of a view
        try:
            model = load_model(
                config.model,
                device=config.device,
                dtype=config.dtype,
                max_tokens=config.cache_tokens,
                revision=config.revision,
                on_progress=report,
            )
        except BaseException:
            logging.set_verbosity(verbosity)
            raise
    try:
        yield model
    finally:
        model.close()
        logging.set_verbosity(verbosity)


def build_team(
    config: RunConfig, model: LanguageModel, *, coordinator: CacheCoordinator | None = None
) -> Team:
    """Return the team that a config describes."""
    from hogwild_agents import Limits, Team, Worker

    return Team(
        model,
        workers=[Worker(worker.name, role=worker.role) for worker in config.team],
        layout=config.layout,
        policies=build_policies(config),
        prompt=config.prompt,
        limits=Limits(ticks=config.budget),
        sampling=model.sampling.replace(**config.sampling),
        seed=config.seed,
        coordinator=coordinator,
    )


def build_policies(config: RunConfig) -> list[Policy]:
    """Return the policies that a config names, in its order."""
    from hogwild_agents import policies

    options: dict[str, dict[str, int]] = {
        "redundancy-check": {"every": config.check_every},
        "finisher": {"max_tokens": config.max_answer_tokens},
    }
    return [
        getattr(policies, POLICIES[name])(**options.get(name, {}))
        if name in POLICIES
        else _imported(name)
        for name in config.policies
    ]


def check_policies(config: RunConfig) -> None:
    """Raise a ConfigError if a policy is unknown, or an option is for one that is left out."""
    for name in config.policies:
        if name not in POLICIES and ":" not in name:
            raise ConfigError(
                f"There is no policy {name!r}: choose from {', '.join(POLICIES)}, or give one of "
                "your own as module:Class."
            )
    for option, policy in (
        ("check_every", "redundancy-check"),
        ("max_answer_tokens", "finisher"),
    ):
        if option in config.model_fields_set and policy not in config.policies:
            raise ConfigError(
                f"{option} is {getattr(config, option)}, but the policy {policy!r} is left out: "
                f"add it, or leave out {option}."
            )


def check_place(path: Path | None) -> None:
    """Raise a ConfigError if no file can be written there; nothing is written."""
    if path is None:
        return
    folder = path.parent
    fault = ""
    if path.is_dir():
        fault = "is a folder"
    elif not folder.is_dir():
        fault = "is in no folder that exists"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        fault = "may not be written to"
    if fault:
        raise ConfigError(f"The transcript's file {str(path)!r} {fault}: name another one.")


def _imported(name: str) -> Policy:
    """Return a policy of the user's own, from ``module:Class``."""
    from hogwild_agents import Policy

    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it
    try:
        policy = getattr(import_module(module), attribute)()
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"The policy {name!r} cannot be made ({type(error).__name__}: {error}): give "
            "module:Class of a policy that takes no arguments."
        ) from error
    if not isinstance(policy, Policy):
        raise ConfigError(f"{name!r} is no policy: give a subclass of hogwild_agents.Policy.")
    return policy
