"""Events: what happens in a run, as frozen dataclasses with keywords only.

Policies, live views and transcripts all get the same objects. A new field never breaks a handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from hogwild_agents.actions import Action
    from hogwild_agents.run import RunResult

Source: TypeAlias = Literal["sampled", "forced"]
"""Whether the model chose a token or the runtime or a policy put it there.

A sampled token that ends a step and goes on beyond its end is cut in two, and its parts (other
tokens with the same text) count as sampled.
"""


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """Thinking begins: the prompt is in the cache, all workers have joined.

    Attributes:
        problem: the problem.
        workers: their names, in order.
        layout: the layout's name.
        prompt_tokens: the length of the prompt.
    """

    problem: str
    workers: tuple[str, ...]
    layout: str
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class WorkerJoined:
    """A worker joined in mid-run, or a person spoke for the first time.

    Attributes:
        worker: who.
        tick: how many ticks of the run were over.
        forked_from: whose unfinished text it goes on from, if somebody's.
    """

    worker: str
    tick: int
    forked_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class TokensWritten:
    """A worker wrote: one sampled token, or a forced text of one or more tokens.

    Attributes:
        worker: who.
        step: the number of its step, from 1.
        tick: how many ticks of the run were over; the tokens are fed in the next one.
        tokens: the ids, as they are fed; those of a worker's events, one after the other, are its
            text in the cache.
        text: what they add to the worker's text. It can be empty while a character is not
            complete; the characters then come with a later token.
        source: sampled or forced.
        logprobs: one for each sampled token, if asked for; none for one that was cut in two.
    """

    worker: str
    step: int
    tick: int
    tokens: tuple[int, ...]
    text: str
    source: Source
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepEnded:
    """A worker finished a step (a paragraph).

    Attributes:
        worker: who.
        step: the number of the step that ended, from 1.
        tick: how many ticks of the run were over.
        text: the whole step, with its prefix.
        tokens_written: how many tokens the worker has sampled in this run so far.
        prefix: what the step opened with, such as ``**Alice [3]:** ``.
    """

    worker: str
    step: int
    tick: int
    text: str
    tokens_written: int
    prefix: str = ""

    @property
    def body(self) -> str:
        """The step without its prefix and without blanks around it."""
        return self.text.removeprefix(self.prefix).strip()


@dataclass(frozen=True, kw_only=True)
class TickEnded:
    """All workers have handled the tokens of a tick.

    There is none for a tick that only fed a part of a long text, so that nobody was woken, and for
    one in which the run is cancelled before all have.

    Attributes:
        tick: how many ticks of the run are over.
        seconds: since thinking began.
        tokens: sampled so far by all workers.
    """

    tick: int
    seconds: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ProbeAnswered:
    """A worker was asked a closed question; nothing of it is left in the cache.

    Attributes:
        worker: who.
        question: what it was asked.
        probabilities: of the answers, in their order; their sum is 1.
        mass: how much of all probability the answers have together: where it is small, the worker
            would have said something else.
        tick: how many ticks of the run were over.
    """

    worker: str
    question: str
    probabilities: Mapping[str, float]
    mass: float
    tick: int


@dataclass(frozen=True, kw_only=True)
class LimitReached:
    """A limit ends the thinking; a policy may still answer with Conclude or Finish.

    Attributes:
        limit: ``"ticks"``, ``"tokens"``, ``"seconds"``, ``"cache"`` or ``"context"``; or
            ``"parked"``, when all workers who are left wait to be resumed, or for each other.
        tick: how many ticks of the run were over.
    """

    limit: str
    tick: int


@dataclass(frozen=True, kw_only=True)
class ActionTaken:
    """An action was taken: of a policy, or one that somebody asked for by ``Run.act``.

    What comes of it at once, such as a :class:`WorkerJoined`, is told behind it; what is done to a
    worker's text or sampling shows when that feeds next.

    Attributes:
        policy: the policy's name; ``"The caller of act"`` for an action from outside.
        action: what was asked for.
        tick: how many ticks of the run were over.
    """

    policy: str
    action: Action
    tick: int


@dataclass(frozen=True, kw_only=True)
class PolicyFailed:
    """A policy raised. An observer's failure is told and changes nothing else.

    So is it told where a policy lets somebody join under a name that was free at the event, but
    that somebody else has taken since, such as another policy with its answer to the same event.

    Attributes:
        policy: the policy's name.
        error: what it raised, or what is wrong, in words.
        tick: how many ticks of the run were over.
    """

    policy: str
    error: str
    tick: int


@dataclass(frozen=True, kw_only=True)
class WorkerLeft:
    """A worker is done, and its block stays visible to the others.

    Attributes:
        worker: who.
        tick: how many ticks of the run were over.
        error: why, if it failed.
    """

    worker: str
    tick: int
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunEnded:
    """The run is over.

    Attributes:
        result: what it came to.
    """

    result: RunResult


Event: TypeAlias = (
    RunStarted
    | WorkerJoined
    | TokensWritten
    | StepEnded
    | TickEnded
    | ProbeAnswered
    | LimitReached
    | ActionTaken
    | PolicyFailed
    | WorkerLeft
    | RunEnded
)

NAMES: Mapping[str, type] = {
    "run_started": RunStarted,
    "worker_joined": WorkerJoined,
    "tokens_written": TokensWritten,
    "step_ended": StepEnded,
    "tick_ended": TickEnded,
    "probe_answered": ProbeAnswered,
    "limit_reached": LimitReached,
    "action_taken": ActionTaken,
    "policy_failed": PolicyFailed,
    "worker_left": WorkerLeft,
    "run_ended": RunEnded,
}
"""How each event is called in a transcript, and in a policy's ``on_...`` methods."""
