"""What the runtime's tests are made of: tiny real models with tokenizers, and teams on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import anyio

from hogwild_agents.coordinator import CacheCoordinator, Commit, OnCommit, Seat
from hogwild_agents.engine import Engine, SamplingParams
from hogwild_agents.events import Event, RunEnded, StepEnded, TickEnded, TokensWritten
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.prompt import Prompt
from hogwild_agents.result import RunResult
from hogwild_agents.team import Team
from hogwild_agents.worker import Worker
from tests.engine.families import Family
from tests.text.kinds import MAKERS

JOINED = "byte level, newlines join"
"""A tokenizer whose separator is one token, ``\\n\\n`` or ``.\\n\\n``."""
SPLIT = "byte level, newlines alone"
"""One whose separator is two tokens."""
LONGER = "byte level, anything joins"
"""One whose tokens go on behind the separator, such as ``.\\n\\nThen``."""

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<answer>"
)
PLAIN = Prompt(name="plain", description="", text="Work.")
PROBLEM = "Say hello."
GREEDY = SamplingParams(temperature=0.0)
WARM = SamplingParams(temperature=1.2, logprobs=0)


@cache
def tokenizer(kind: str) -> Any:
    """A tokenizer of a kind, with a chat template."""
    made: Any = MAKERS[kind]()
    made.chat_template = TEMPLATE
    return made


@cache
def family(kind: str, name: str, context: int) -> Family:
    """The models whose vocabulary is a tokenizer's."""
    model, options = {
        "qwen3": ("Qwen3", {"head_dim": 16}),
        "llama": ("Llama", {}),
    }[name]
    size = {"vocab_size": len(tokenizer(kind)), "max_position_embeddings": context}
    return Family(
        name=f"{name} {kind}",
        model=f"{model}ForCausalLM",
        config=f"{model}Config",
        options={**options, **size},
    )


@cache
def language_model(
    kind: str = JOINED, name: str = "qwen3", *, context: int = 4096, max_tokens: int | None = None
) -> LanguageModel:
    """A tiny random model, the same for all tests of one kind."""
    engine = Engine(family(kind, name, context).build(), max_tokens=max_tokens, verify=False)
    return LanguageModel(name=f"tiny {name}", engine=engine, tokenizer=tokenizer(kind))


@cache
def separators(model: LanguageModel) -> frozenset[int]:
    """The tokens that end steps, alone or a full stop and newlines together."""
    texts = {i: model.decode([i]) for i in range(len(model.tokenizer))}
    parts = (".", "\n", "\n\n", ".\n\n")
    found = {i for i, text in texts.items() if text in parts or ".\n\n" in text}
    return frozenset(found) - model.reasoning_bans


def talkative(model: LanguageModel, bias: float = 5.0, **changes: Any) -> SamplingParams:
    """Sampling that ends steps often."""
    return WARM.replace(bias=dict.fromkeys(separators(model), bias), **changes)


class Typist(Worker):
    """Samples exactly these texts, token by token, and leaves; in between it may do anything.

    Args:
        script: texts that are sampled, numbers of tokens that are sampled freely, and async
            functions that are called with the worker.
    """

    def __init__(
        self,
        name: str,
        *script: str | int | Callable[[Any], Awaitable[object]],
        role: str = "",
        free: SamplingParams = WARM,
    ) -> None:
        super().__init__(name, role=role)
        self.script = script
        self.free = free

    async def run(self) -> None:
        for part in self.script:
            if isinstance(part, str):
                await self.type(part)
            elif isinstance(part, int):
                await self.ramble(part)
            else:
                await part(self)

    @property
    def bans(self) -> frozenset[int]:
        """What no worker may write."""
        return self.desk.draft._model.reasoning_bans

    async def ramble(self, count: int) -> None:
        """Sample so many tokens freely."""
        self.desk.sampler.params = self.free.replace(banned=self.bans)
        for _ in range(count):
            await self.next_token()

    async def type(self, text: str) -> None:
        """Sample a text."""
        for token in self.encode(text):
            await self.type_token(token)

    async def type_token(self, token: int) -> None:
        """Sample a token, after the one that a write has sampled already, if there is one."""
        if self._ahead is not None:
            await self.next_token()
        self.desk.sampler.params = self.free.replace(temperature=0.0, bias={token: 1e4})
        written = await self.next_token()
        assert written.id == token

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return self.desk.draft._model.encode(text)


def steps_of(name: str, lengths: Sequence[int], **options: Any) -> Typist:
    """A worker whose steps have so many free tokens each, and then a separator."""
    script = [part for length in lengths for part in (length, ".\n\n")]
    return Typist(name, *script, **options)


class Watched(CacheCoordinator):
    """A coordinator that notes all commits, and which seats there are."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine, **options)
        self.commits: list[Commit] = []

    def join(self, name: str, *, on_commit: OnCommit | None = None, team: Hashable = None) -> Seat:
        def note(commit: Commit) -> None:
            self.commits.append(commit)
            if on_commit is not None:
                on_commit(commit)

        return super().join(name, on_commit=note, team=team)


@dataclass
class Play:
    """A run on record."""

    team: Team
    events: list[Event] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    result: Any = None
    error: Exception | None = None

    def told(self, *kinds: type) -> list[Any]:
        """The events of some kinds."""
        return [event for event in self.events if isinstance(event, kinds)]

    def text(self, worker: str) -> str:
        """A worker's text, from the events."""
        return "".join(e.text for e in self.told(TokensWritten) if e.worker == worker)

    def check(self) -> None:
        """What holds for every run."""
        assert [type(event) for event in self.events].count(RunEnded) == 1
        last = self.events[-1]
        assert isinstance(last, RunEnded)
        assert last.result == self.result
        for name, text in self.result.texts.items():
            assert self.text(name) == text
        ticks = [event.tick for event in self.told(TickEnded)]
        assert ticks == sorted(set(ticks))
        steps = [(s.worker, s.number, s.text, s.tick) for s in self.result.steps]
        assert steps == [(e.worker, e.step, e.text, e.tick) for e in self.told(StepEnded)]
        for ended in (*self.result.steps, *self.told(StepEnded)):
            assert ended.prefix
            assert ended.text.startswith(ended.prefix)


def make_team(model: LanguageModel | None = None, **options: Any) -> Team:
    """A team with a short prompt."""
    model = model or language_model()
    defaults: dict[str, Any] = {"prompt": PLAIN, "sampling": WARM, "limits": Limits(ticks=20)}
    return Team(model, **{**defaults, **options})


async def play(team: Team, problem: str = PROBLEM, **options: Any) -> Play:
    """Run a team on a coordinator of its own that is watched; errors are noted.

    ``at_start`` is called with the run and a task group when it begins.
    """
    at_start: Callable[[Any, Any], None] = options.pop("at_start", lambda run, group: None)
    transcript = options.pop("transcript", None)
    record = Play(team)
    async with watched(team, record, **options):
        run = team.start(problem, on_event=record.events.append, transcript=transcript)
        async with anyio.create_task_group() as group:
            at_start(run, group)
            try:
                record.result = await run.execute()
            except Exception as error:
                record.error, record.result = error, run.result
            group.cancel_scope.cancel()
    record.check()
    return record


@asynccontextmanager
async def watched(team: Team, record: Play, **options: Any) -> AsyncIterator[Watched]:
    """A watched coordinator, put under the team for a while; at its end the cache is as before."""
    engine = team.model.engine
    before = engine.used_tokens
    assert team.coordinator is None
    async with Watched(engine, **options) as coordinator:
        team.coordinator = coordinator
        try:
            with anyio.fail_after(30):
                yield coordinator
        finally:
            team.coordinator = None
        assert coordinator.statistics().seats == 0
    record.commits = coordinator.commits
    assert engine.used_tokens == before
    engine.check_integrity()


def run_on(backend: str, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function on one event loop."""
    return anyio.run(main, backend=backend)


async def solve(team: Team, problem: str = PROBLEM, **options: Any) -> Play:
    """:func:`play`, where nothing may fail."""
    record = await play(team, problem, **options)
    if record.error is not None:
        raise record.error
    assert isinstance(record.result, RunResult)
    return record


def drop_time(events: Sequence[Event]) -> list[str]:
    """Events as text, less the time that they took."""
    plain: list[Event] = []
    for event in events:
        if isinstance(event, RunEnded):
            plain.append(RunEnded(result=replace(event.result, seconds=0.0)))
        elif isinstance(event, TickEnded):
            plain.append(replace(event, seconds=0.0))
        else:
            plain.append(event)
    return [repr(event) for event in plain]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another task or thread brings about."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 -- whoever it is, it tells nobody
            await anyio.sleep(0.001)
