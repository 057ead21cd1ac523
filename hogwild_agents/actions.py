"""Actions: what a policy may ask for. The set is closed; each is checked before its effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class Say:
    """Put text into a worker's block, right after what it has written so far.

    Returned for a step that has just ended, the text opens the worker's next step, after its
    prefix. The worker goes on as though it had written the text itself. One that is parked says it
    when it comes back, or before a conclusion.

    Attributes:
        worker: its name.
        text: not empty.
    """

    worker: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Conclude:
    """End the thinking and let one worker answer, in the cache that is there.

    Whatever the workers have written is fed, then ``text``; the worker goes on greedily until the
    box that ``text`` opened is closed, or for ``max_tokens``. These tokens count in no budget. If
    the cache or the context has no room for them, there is no answer.

    Attributes:
        text: what leads to the answer, such as one that ends in an open box.
        worker: who answers; None for the last worker of the team.
        max_tokens: at least 1.
        reason: why the run ended, for its result.
    """

    text: str
    worker: str | None = None
    max_tokens: int = 16
    reason: str = "finisher"


@dataclass(frozen=True, kw_only=True)
class Finish:
    """End the run at once, with or without an answer. Of several that end it the first counts.

    Attributes:
        answer: the answer, if there is one.
        author: the worker who gave it, if one did.
        reason: why the run ended, for its result.
    """

    answer: str | None = None
    author: str | None = None
    reason: str = "answer"


Action: TypeAlias = Say | Conclude | Finish
