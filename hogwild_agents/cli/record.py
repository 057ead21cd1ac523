"""Record: what a view knows of a run, folded from its events.

Nothing here draws: the live view and the plain one read the same record.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from hogwild_agents.actions import (
    Action,
    Ban,
    Bias,
    ChangeSampling,
    Conclude,
    EndStep,
    Finish,
    Forget,
    Hide,
    Say,
    Show,
    Spawn,
)
from hogwild_agents.events import (
    ActionTaken,
    Event,
    LimitReached,
    PolicyFailed,
    RunEnded,
    RunStarted,
    Source,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)

__all__ = ["Record", "Span", "StepRecord", "WorkerRecord", "printable", "speed"]

RATE_SECONDS = 2.0
"""Over how long tokens per second are averaged."""

CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
CONTROLS |= dict.fromkeys(range(127, 160), 65533) | {0x7F: 0x2421}


def printable(text: str) -> str:
    """Return a text that cannot steer the terminal: control characters become pictures."""
    return text.translate(CONTROLS).expandtabs(4)


class Span(NamedTuple):
    """A piece of text, and who chose it."""

    text: str
    source: Source


@dataclass(eq=False)
class StepRecord:
    """One step as far as it is written.

    Attributes:
        worker: its author.
        number: from 1.
        spans: its text in pieces; the first is the prefix.
    """

    worker: str
    number: int
    spans: list[Span] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it, the prefix included."""
        return "".join(span.text for span in self.spans)

    @property
    def body(self) -> str:
        """What follows the prefix, without blanks around it."""
        spans = self.spans[1:] if self.spans and self.spans[0].source == "forced" else self.spans
        return "".join(span.text for span in spans).strip()

    @property
    def sampled(self) -> str:
        """What the worker chose itself, without blanks around it."""
        return "".join(span.text for span in self.spans if span.source == "sampled").strip()


@dataclass(eq=False)
class WorkerRecord:
    """One worker.

    Attributes:
        name: its name.
        current: the step that it writes.
        left: whether it has left.
        error: why, if it failed.
    """

    name: str
    current: StepRecord
    left: bool = False
    error: str | None = None


class Record:
    """The state of a run after the events handled so far."""

    def __init__(self) -> None:
        self.problem = ""
        self.layout = ""
        self.prompt_tokens = 0
        self.workers: dict[str, WorkerRecord] = {}
        self.steps: list[StepRecord] = []
        """Finished steps, in the order in which they ended."""
        self.tick = 0
        self.tokens = 0
        self.seconds = 0.0
        self.notice = ""
        """The latest thing worth telling apart from text: an action, a limit, a failure."""
        self.limit = ""
        """The limit that ended the thinking."""
        self.ended: RunEnded | None = None
        self._pace: deque[tuple[float, int]] = deque()

    @property
    def started(self) -> bool:
        """Whether the workers think already."""
        return bool(self.workers)

    @property
    def tokens_per_second(self) -> float:
        """Over the last moments; over all of the run once it has ended."""
        if self.ended is not None:
            return self.tokens / self.seconds if self.seconds else 0.0
        if len(self._pace) < 2:
            return 0.0
        (start, before), (end, after) = self._pace[0], self._pace[-1]
        return (after - before) / (end - start) if end > start else 0.0

    def handle(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case RunStarted():
                self._start(event)
            case WorkerJoined(worker=worker):
                self._worker(worker)
                self.notice = f"{worker} joins"
            case TokensWritten():
                self._write(event)
            case StepEnded(worker=worker):
                self._end_step(worker)
            case TickEnded():
                self._tick(event)
            case ActionTaken(policy=policy, action=action):
                self.notice = _describe(policy, action)
            case LimitReached(limit=limit):
                self.limit, self.notice = limit, f"the limit of {limit} is reached"
            case PolicyFailed(policy=policy, error=error):
                self.notice = f"{policy} failed: {error}"
            case WorkerLeft():
                self._leave(event)
            case RunEnded():
                self._end(event)

    def _start(self, event: RunStarted) -> None:
        self.problem, self.layout = event.problem, event.layout
        self.prompt_tokens = event.prompt_tokens
        for name in event.workers:
            self._worker(name)

    def _worker(self, name: str) -> WorkerRecord:
        return self.workers.setdefault(name, WorkerRecord(name, StepRecord(name, 1)))

    def _write(self, event: TokensWritten) -> None:
        worker = self._worker(event.worker)
        if event.step != worker.current.number:
            worker.current = StepRecord(event.worker, event.step)
        if event.text:
            worker.current.spans.append(Span(printable(event.text), event.source))

    def _end_step(self, name: str) -> None:
        worker = self._worker(name)
        self.steps.append(worker.current)
        worker.current = StepRecord(name, worker.current.number + 1)

    def _tick(self, event: TickEnded) -> None:
        self.tick, self.tokens, self.seconds = event.tick, event.tokens, event.seconds
        self._pace.append((event.seconds, event.tokens))
        while event.seconds - self._pace[0][0] > RATE_SECONDS and len(self._pace) > 2:
            self._pace.popleft()

    def _leave(self, event: WorkerLeft) -> None:
        worker = self._worker(event.worker)
        worker.left, worker.error = True, event.error
        if event.error is not None:
            self.notice = f"{event.worker} left: {event.error}"

    def _end(self, event: RunEnded) -> None:
        self.ended = event
        self.tick, self.tokens = event.result.ticks, event.result.tokens
        self.seconds = event.result.seconds


def speed(record: Record, pace: float | None) -> str:
    """Return how fast a run goes, or what holds it up: a pace in ticks a second."""
    if pace is not None:
        return f"at most {pace:g} ticks/s"
    return f"{record.tokens_per_second:,.0f} tokens/s"


def _describe(policy: str, action: Action) -> str:
    match action:
        case Say(worker=worker):
            return f"{policy} speaks to {worker}"
        case Conclude(worker=worker):
            return f"{policy} lets {worker or 'the last worker'} conclude"
        case Finish(answer=str(), author=str(author)):
            return f"{policy} takes the answer of {author}"
        case Finish():
            return f"{policy} ends the run"
        case Spawn(worker=worker):
            return f"{policy} lets {worker.name} join"
        case Hide(author=author) | Show(author=author):
            return f"{policy} {type(action).__name__.lower()}s what {author} writes"
        case Forget(worker=worker, step=step):
            return f"{policy} lets step {step} of {worker} be forgotten"
        case EndStep(worker=worker):
            return f"{policy} ends the step of {worker}"
        case Ban(worker=worker) | Bias(worker=worker) | ChangeSampling(worker=worker):
            return f"{policy} changes how {worker} samples"
        case _:
            return f"{policy} {type(action).__name__.lower()}s {action.worker}"
