"""Actions: what a policy may ask for. The set is closed; each is checked before its effect.

All but the last two name workers; an action on a worker takes effect before the worker feeds next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from hogwild_agents.worker import Worker


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
class EndStep:
    """End a worker's step where it stands, as though it had written an empty line.

    A step that holds nothing but its prefix is left as it is.

    Attributes:
        worker: its name.
    """

    worker: str


@dataclass(frozen=True, kw_only=True)
class Ban:
    """Keep a worker from sampling some tokens.

    Attributes:
        worker: its name.
        texts: every token whose text contains one of them is banned.
        token_ids: these are banned too.
        for_tokens: for how many of the worker's sampled tokens; None for the rest of the run.
    """

    worker: str
    texts: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()
    for_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Bias:
    """Add to the logits of some tokens before a worker samples.

    Attributes:
        worker: its name.
        bias: what is added, by token id or by the text of one token.
        for_tokens: for how many of the worker's sampled tokens; None for the rest of the run.
    """

    worker: str
    bias: Mapping[str | int, float]
    for_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChangeSampling:
    """Change how a worker samples; None leaves a parameter as it is.

    Attributes:
        worker: its name.
        temperature, top_k, top_p, min_p, repetition_penalty: as in ``SamplingParams``.
        for_tokens: for how many of the worker's sampled tokens; None for the rest of the run.
    """

    worker: str
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    for_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Park:
    """Let a worker wait until it is resumed; the others think on.

    What it has sampled is fed when it comes back. When all workers who are left wait to be
    resumed, the thinking ends, with ``"parked"`` for its limit.

    Attributes:
        worker: its name.
    """

    worker: str


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Let a parked worker go on; one that is not parked, or has left, stays as it is.

    Attributes:
        worker: its name.
    """

    worker: str


@dataclass(frozen=True, kw_only=True)
class Spawn:
    """Let a new worker join.

    Attributes:
        worker: the new one, under a name that nobody in the run has. Of two policies that take
            one name at the same event, the first has it; of the other it is told
            (``PolicyFailed``), and nobody joins.
        fork_of: whose unfinished text it goes on from, as a copy of its own; None to begin anew.
            It continues in the other's sentence, and signs with its own name from its next step on.
    """

    worker: Worker
    fork_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dismiss:
    """Let a worker leave, if it has not; what it has written stays visible.

    Attributes:
        worker: its name.
    """

    worker: str


@dataclass(frozen=True, kw_only=True)
class Hide:
    """Take all that an author writes, its finished steps too, out of others' views.

    Attributes:
        author: whose text.
        viewers: who shall not see it; None for all others.
    """

    author: str
    viewers: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Show:
    """Put an author's text back into others' views.

    Attributes:
        author: whose text.
        viewers: who shall see it again; None for all others.
    """

    author: str
    viewers: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Forget:
    """Take one finished step out of views for good; nothing is moved or encoded anew.

    What was written in its sight stays as it is.

    Attributes:
        worker: who wrote it.
        step: its number.
        viewers: who forgets it; None for everybody, its author too.
    """

    worker: str
    step: int
    viewers: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Ask a worker a closed question, and read the probabilities of the answers.

    The question stands after all that the worker has written, in the same forward as its next
    feed; afterwards nothing of it is left. The event ``ProbeAnswered`` tells what came of it.

    Attributes:
        worker: its name.
        question: such as ``"\\n\\nAm I doing redundant work? (yes/no): "``. A blank at its end is
            fed with the answers where the tokenizer has words that begin with one: alone it is a
            token after which models hardly expect a word.
        answers: at least two, different, each with tokens of its own.
    """

    worker: str
    question: str
    answers: tuple[str, ...] = ("yes", "no")


@dataclass(frozen=True, kw_only=True)
class Conclude:
    """End the thinking and let one worker answer, in the cache that is there.

    Whatever the workers have written and people have said is fed, then ``text``; the worker goes
    on greedily until the box that ``text`` opened is closed, with more than dots in it, or for
    ``max_tokens``. These tokens count in no budget. Where the context has no room for them, the
    worker forgets the oldest finished steps that it sees, as many as it takes; where it still has
    none, or the cache has none, there is no answer.

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


Action: TypeAlias = (
    Say
    | EndStep
    | Ban
    | Bias
    | ChangeSampling
    | Park
    | Resume
    | Spawn
    | Dismiss
    | Hide
    | Show
    | Forget
    | Probe
    | Conclude
    | Finish
)
