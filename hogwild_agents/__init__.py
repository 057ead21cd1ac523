"""Several workers of one language model think at the same time in one shared attention cache.

The engine (:class:`Engine`, :class:`Feed`) needs torch and transformers only; everything else is
imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "actions": (
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
    ),
    "answers": ("find_boxed",),
    "coordinator": (
        "CacheCoordinator",
        "Commit",
        "Fork",
        "Forked",
        "Move",
        "Seat",
        "TickFeed",
        "TickResult",
    ),
    "engine": (
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
    ),
    "errors": (
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
    ),
    "events": (
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
    ),
    "layouts": (
        "Board",
        "Combined",
        "Contiguous",
        "Headings",
        "Interleaved",
        "Isolated",
        "Layout",
        "Place",
    ),
    "limits": ("Limits",),
    "models": ("LanguageModel", "LoadProgress", "load_model"),
    "policy": ("Answer", "Observer", "Policy"),
    "policy_function": ("controller", "observer"),
    "prompt": ("Prompt", "available_prompts"),
    "result": ("RunResult", "Step", "TypedResult"),
    "run": ("Run",),
    "run_view": ("RunView",),
    "statistics": ("Statistics",),
    "team": ("Team",),
    "text": ("TextStream",),
    "tools": ("Tool", "ToolResult"),
    "transcript": ("Transcript", "TranscriptHeader", "read_transcript", "rebuild"),
    "typing_worker": ("TypingWorker",),
    "unknown_names": ("UnknownWorkerWarning",),
    "worker": ("Token", "Worker"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
