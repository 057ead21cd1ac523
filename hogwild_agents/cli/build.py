"""What a run is made of: from a config to a model, a team and its policies.

What is wrong with a config is found by the checks, before anything heavy is loaded.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hogwild_agents.checkpoint import find_here, read_config
from hogwild_agents.cli import processes
from hogwild_agents.cli.compiling import noticed
from hogwild_agents.cli.interrupts import ends_at_once
from hogwild_agents.cli.notices import engine_warnings
from hogwild_agents.cli.progress import Progress
from hogwild_agents.config import RunConfig
from hogwild_agents.errors import ConfigError, ModelError
from hogwild_agents.file_lock import is_taken
from hogwild_agents.nearest import nearest

if TYPE_CHECKING:
    from hogwild_agents import CacheCoordinator, LanguageModel, Policy, Team
    from hogwild_agents.models import LoadProgress

__all__ = [
    "build_policies",
    "build_team",
    "check_model",
    "check_place",
    "check_policies",
    "check_prompt",
    "load_options",
    "loaded",
]

TINY = 4_000_000
"""A model of fewer weights is computed by one thread, unless somebody says how many."""
STAGES = {
    "config": "config",
    "tokenizer": "tokenizer",
    "weights": "weights",
    "check": "comparing its logits with the plain forward's",
}
COMPILING = "compiling kernels, the first time on this machine"
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
OPTIONS = {
    "redundancy-check": {"every": "check_every"},
    "finisher": {"max_tokens": "max_answer_tokens"},
}
"""Of their parameters, those that a config has a value for, and what that is called there."""


@contextmanager
def loaded(config: RunConfig, *, quiet: bool) -> Iterator[LanguageModel]:
    """Load the config's model, with progress; in the end close it, and tell what it warned of."""
    with ExitStack() as stack:
        with Progress(quiet=quiet) as progress, ends_at_once(progress.close):
            progress.show(f"Loading {config.model}")
            from hogwild_agents.engine.threads import limited

            stack.enter_context(limited(config.threads))
            model = stack.enter_context(_load(config, progress))
            if config.threads is None and _is_tiny(model):
                stack.enter_context(limited(1))
        gc.freeze()  # what was imported and loaded stays: no need to look through it again
        stack.callback(gc.unfreeze)
        with engine_warnings():
            yield model


def _is_tiny(model: LanguageModel) -> bool:
    """Whether threads wait for each other longer than they compute: one alone is faster then."""
    engine = model.engine
    count = sum(weight.numel() for weight in engine.model.parameters())
    return engine.device.type == "cpu" and count < TINY and not processes.are_several()


@contextmanager
def _load(config: RunConfig, progress: Progress) -> Iterator[LanguageModel]:
    """Load the config's model, with transformers silent until it is closed."""
    from transformers.utils import logging

    from hogwild_agents import load_model

    options = load_options(config)
    several = processes.are_several()

    def report(load: LoadProgress) -> None:
        if several and load.stage == "weights" and load.total is None:  # once
            processes.tell(options, config.threads)
        parts = f" {load.done} of {load.total}" if load.total else ""
        progress.show(f"Loading {config.model} · {STAGES[load.stage]}{parts}")
        if load.stage == "check" and _may_compile(config):
            tell = partial(progress.tell, f"Loading {config.model} · {COMPILING}")
            stack.enter_context(noticed(tell))

    verbosity = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # its warnings would stand in the middle of a view
    try:
        with ExitStack() as stack:
            model = load_model(**options, tensor_parallel=several, on_progress=report)
        with model:
            yield model
    finally:
        logging.set_verbosity(verbosity)


def _may_compile(config: RunConfig) -> bool:
    """Whether numba may be needed: to import it for nothing takes a while."""
    import torch

    if config.kernels is False:
        return False
    return config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available())


def load_options(config: RunConfig) -> dict[str, Any]:
    """Return what a config says of its model, as options of ``load_model``."""
    return {
        "name": config.model,
        "device": config.device,
        "dtype": config.dtype,
        "max_tokens": config.cache_tokens,
        "max_context": config.max_context,
        "rope_scaling": config.rope_scaling,
        "quantization": config.quantization,
        "kernels": config.kernels,
        "int8_weights": config.int8_weights,
        "graphs": config.graphs,
        "compile_layers": config.compile_layers,
        "model_options": config.model_options,
        "revision": config.revision,
    }


def build_team(
    config: RunConfig,
    model: LanguageModel,
    *,
    watchers: Iterable[Policy] = (),
    coordinator: CacheCoordinator | None = None,
) -> Team:
    """Return the team that a config describes, with these policies besides."""
    from hogwild_agents import Limits, Team, Worker

    return Team(
        model,
        workers=[Worker(worker.name, role=worker.role) for worker in config.team],
        layout=config.layout,
        policies=[*build_policies(config), *watchers],
        prompt=config.prompt,
        limits=Limits(ticks=config.budget),
        sampling=model.sampling.replace(**config.sampling),
        seed=config.seed,
        coordinator=coordinator,
    )


def build_policies(config: RunConfig) -> list[Policy]:
    """Return the policies that a config names, in its order."""
    from hogwild_agents import policies

    def build(name: str) -> Policy:
        if name not in POLICIES:
            return _imported(name)
        values = {
            parameter: getattr(config, key) for parameter, key in OPTIONS.get(name, {}).items()
        }
        policy: Policy = getattr(policies, POLICIES[name])(**values)
        return policy

    return [build(name) for name in config.policies]


def check_model(name: str) -> None:
    """Raise a ModelError if a model can be nowhere, as far as that is told without any library.

    A Hugging Face id is taken for one that there is.
    """
    if name.endswith(".gguf") and not Path(name).expanduser().exists():
        raise ModelError(f"There is no file {name!r}: give the path of a .gguf file that is here.")
    found = find_here(name)
    if found is None or found.folder is None or found.gguf is not None:
        return
    if not (found.folder / "config.json").is_file():
        with ends_at_once():
            read_config(found)  # it says so


def check_policies(config: RunConfig, place: str = "") -> None:
    """Raise a ConfigError if a policy cannot be had, or an option is for one that is left out.

    Args:
        config: what names them.
        place: what names them there, for the error: `` (policies.mine in the experiment x.toml)``.
    """
    for name in config.policies:
        if ":" in name:
            with ends_at_once():
                _imported(name)
        if name not in POLICIES and ":" not in name:
            near = nearest(name, POLICIES)
            meant = f"{near} " if near else ""
            raise ConfigError(
                f"There is no policy {name!r}{place}: {meant}`hogwild policies` lists what there "
                "is; one of your own is given as module:Class."
            )
    for policy, options in OPTIONS.items():
        given = [option for option in options.values() if option in config.model_fields_set]
        if given and policy not in config.policies:
            raise ConfigError(
                f"{given[0]} is {getattr(config, given[0])}, but the policy {policy!r} is left "
                f"out: add it, or leave out {given[0]}."
            )


def check_prompt(config: RunConfig) -> None:
    """Raise a ConfigError if the prompt cannot be read."""
    from hogwild_agents import Prompt

    Prompt.load(config.prompt)


def check_place(path: Path | None) -> None:
    """Raise a ConfigError if no transcript can be written there; nothing is written."""
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
    elif is_taken(path):
        fault = "is being written by another run"
    if fault:
        raise ConfigError(f"The transcript's file {str(path)!r} {fault}: name another one.")


def _imported(name: str) -> Policy:
    """Return a policy of the user's own, from ``module:Class`` or ``module:function``."""
    from hogwild_agents import Policy

    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it
    if module.endswith(".py"):
        raise ConfigError(
            f"The policy {name!r} names a file: give the module in it, {Path(module).stem}:"
            f"{attribute}, from the folder where it lies."
        )
    try:
        found = getattr(import_module(module), attribute)
        policy = found if isinstance(found, Policy) else found()  # @controller makes one
    except ConfigError as error:  # it says what to do
        raise ConfigError(f"The policy {name!r} cannot be made: {error}") from error
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(
            f"The policy {name!r} cannot be made ({type(error).__name__}: {error}): give "
            "module:Class of a policy that takes no arguments."
        ) from error
    if not isinstance(policy, Policy):
        raise ConfigError(f"{name!r} is no policy: give a subclass of hogwild_agents.Policy.")
    return policy
