"""What users import stays: the names at the top of the package are listed here, one by one."""

from __future__ import annotations

import ast
import tomllib
from importlib import import_module, metadata

import pytest

import hogwild_agents
import hogwild_agents.policies
from tests.packaging.source_tree import PACKAGE, PACKAGE_DIRS, ROOT

PUBLIC = {
    # actions
    "Action",
    "Ban",
    "Bias",
    "ChangeSampling",
    "Conclude",
    "Dismiss",
    "EndStep",
    "Finish",
    "Forget",
    "Hide",
    "Park",
    "Probe",
    "Resume",
    "Say",
    "Show",
    "Spawn",
    # answers
    "find_boxed",
    # coordinator
    "CacheCoordinator",
    "Commit",
    "Fork",
    "Forked",
    "Move",
    "Seat",
    "TickFeed",
    "TickResult",
    # engine
    "BlockSlice",
    "CacheBlock",
    "Engine",
    "Feed",
    "ParallelEngine",
    "Sampled",
    "Sampler",
    "SamplingParams",
    "ViewEntry",
    "sample",
    # errors
    "AnswerError",
    "CacheFullError",
    "ChatTemplateError",
    "ClosedError",
    "ConfigError",
    "ContextLengthError",
    "FeedError",
    "HogwildError",
    "LentModelError",
    "LimitError",
    "ModelError",
    "ParallelError",
    "PolicyError",
    "ProblemError",
    "RunError",
    "TickError",
    "TranscriptError",
    "UnsupportedModelError",
    "UsageError",
    # events
    "ActionTaken",
    "Event",
    "LimitReached",
    "PolicyFailed",
    "ProbeAnswered",
    "RunEnded",
    "RunStarted",
    "Source",
    "StepEnded",
    "TickEnded",
    "TokensWritten",
    "WorkerJoined",
    "WorkerLeft",
    # layouts
    "Board",
    "Combined",
    "Contiguous",
    "Headings",
    "Interleaved",
    "Isolated",
    "Layout",
    "Place",
    # limits
    "Limits",
    # models
    "LanguageModel",
    "LoadProgress",
    "load_model",
    # policy
    "Answer",
    "Observer",
    "Policy",
    # policy_function
    "controller",
    "observer",
    # prompt
    "Prompt",
    "available_prompts",
    # result
    "RunResult",
    "Step",
    "TypedResult",
    # run
    "Run",
    # run_view
    "RunView",
    # statistics
    "Statistics",
    # team
    "Team",
    # text
    "TextStream",
    # tools
    "Tool",
    "ToolResult",
    # transcript
    "Transcript",
    "TranscriptHeader",
    "read_transcript",
    "rebuild",
    # typing_worker
    "TypingWorker",
    # unknown_names
    "UnknownWorkerWarning",
    # worker
    "Token",
    "Worker",
}

POLICIES = {
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
}


def test_public_names_are_these() -> None:
    assert set(hogwild_agents.__all__) == PUBLIC
    assert len(hogwild_agents.__all__) == len(PUBLIC)


def test_public_policies_are_these() -> None:
    assert set(hogwild_agents.policies.__all__) == POLICIES


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_can_be_had(name: str) -> None:
    assert getattr(hogwild_agents, name) is getattr(hogwild_agents, name)
    assert name in dir(hogwild_agents)


def test_type_checkers_are_told_the_same_names() -> None:
    stub = PACKAGE_DIRS[PACKAGE] / "__init__.pyi"
    told = {
        alias.asname: node.module or ""
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert set(told) == PUBLIC
    for name, module in told.items():
        assert getattr(import_module(module), name) is getattr(hogwild_agents, name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(hogwild_agents, "no_such_name")  # noqa: B009 -- spelt out, mypy would refuse it


def test_version_is_told_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert hogwild_agents.__version__ == project["version"] == metadata.version("hogwild-agents")
