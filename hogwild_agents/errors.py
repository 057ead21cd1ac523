"""Every error that hogwild-agents raises on purpose, as one tree.

::

    HogwildError
    ├── UsageError (also a ValueError)    the caller's mistake; nothing was changed
    │   ├── FeedError                     a feed that cannot be run as it stands
    │   ├── ModelError                    a model that cannot be loaded
    │   │   ├── UnsupportedModelError     ... or cannot be run exactly
    │   │   ├── LentModelError            ... or belongs to an engine already
    │   │   └── ChatTemplateError         ... or has no chat template
    │   ├── ConfigError                   a wrong option of a team, a policy or a command
    │   ├── ProblemError                  a problem that cannot be put to the model
    │   └── TranscriptError               a file that is no (whole) transcript
    ├── LimitError                        a limit was reached; nothing was changed
    │   ├── CacheFullError                the cache budget has no room for these tokens
    │   └── ContextLengthError            a view would be longer than the model's context
    └── RunError                          a run that failed under way
        ├── TickError                     the forward pass raised; no block has changed
        ├── ParallelError                 the processes of one model are no longer in step
        ├── AnswerError                   no answer of the type that was asked for
        ├── PolicyError                   a policy raised, or asked for what it may not do
        └── ClosedError                   the coordinator, seat, engine or block is closed

Messages are one sentence or two: what was wrong, with which value, and what to do.
"""

from __future__ import annotations

from typing import Any


class HogwildError(Exception):
    """The root of the tree: catch this to catch all of it."""


class UsageError(HogwildError, ValueError):
    """Raised when the caller asked for something that cannot be; nothing was changed."""


class FeedError(UsageError):
    """Raised when a feed has no tokens, a wrong view, or shares its block with another feed."""


class ModelError(UsageError):
    """Raised when a model folder or id cannot be loaded."""


class UnsupportedModelError(ModelError):
    """Raised when a model loads but the engine would not compute its logits exactly."""


class LentModelError(ModelError):
    """Raised when a model that an engine has is called directly, or given to another engine."""


class ChatTemplateError(ModelError):
    """Raised when a tokenizer has no chat template, or one that fails."""


class ConfigError(UsageError):
    """Raised when an option of a team, a policy or a command is unknown or out of range."""


class ProblemError(UsageError):
    """Raised when a problem is empty or longer than the model's context."""


class TranscriptError(UsageError):
    """Raised when a file is no transcript, is cut short, or is of another version."""


class LimitError(HogwildError):
    """Raised when a limit was reached; nothing was changed."""


class CacheFullError(LimitError):
    """Raised when the cache budget has no room for the tokens of a feed."""


class ContextLengthError(LimitError):
    """Raised when a view would be longer than the model's context."""


class RunError(HogwildError):
    """Raised when a run failed under way; ``result`` holds what was written until then."""

    def __init__(self, message: str, *, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class TickError(RunError):
    """Raised when the forward pass of a tick raised or gave NaN; no block has changed."""


class ParallelError(RunError):
    """Raised when one of the processes that share a model has failed: the others cannot go on."""


class AnswerError(RunError):
    """Raised when a run has come to no answer of the type that was asked for."""


class PolicyError(RunError):
    """Raised when a policy raised, or asked for an action that cannot be taken."""


class ClosedError(RunError):
    """Raised when a closed coordinator, seat, engine or block is used."""
