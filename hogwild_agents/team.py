"""Team: workers, a layout and policies, to be put to problems.

::

    team = Team(load_model(), workers=["Alice", "Bob"], policies=paper_policies())
    result = await team.solve("Tasks: a) 7 + 1 - 3 b) 4 + 9")

For type checkers, a team is generic in what its runs come to: ``Team`` is ``Team[RunResult]``, and
``Team(model, answer_type=list[int])`` is a ``Team[TypedResult[list[int]]]``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import cached_property, partial
from itertools import takewhile
from typing import Any, Generic, overload
from weakref import WeakSet

from typing_extensions import TypeVar

from hogwild_agents.answer_type import AnswerType
from hogwild_agents.chat import encode_prompt
from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.engine import SamplingParams
from hogwild_agents.errors import ClosedError, ConfigError, ProblemError
from hogwild_agents.events import Event
from hogwild_agents.layouts import LAYOUTS, Combined, Headings, Layout
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.opening import Opening
from hogwild_agents.policy import Policy
from hogwild_agents.prompt import Prompt
from hogwild_agents.result import RunResult, TypedResult
from hogwild_agents.run import Listener, Run
from hogwild_agents.stream import stream
from hogwild_agents.tool_use import describe_tools
from hogwild_agents.whole import is_whole
from hogwild_agents.worker import Worker
from hogwild_agents.worker_names import worker_names

T = TypeVar("T")
R_co = TypeVar("R_co", bound=RunResult, covariant=True, default=RunResult)

DEFAULT_LIMITS = Limits(ticks=4096)


class Team(Generic[R_co]):
    """A team that solves problems, one run each; several runs at once are fine.

    Args:
        model: from :func:`load_model`.
        workers: how many, or their names, or :class:`Worker` objects; each run works on copies of
            them. The first two are called Alice and Bob unless named.
        layout: who sees what: an object, or the name of one that comes with the package.
        policies: asked in this order; each run works on copies of them. Without policies nobody
            looks for an answer, and only a limit ends a run (see ``paper_policies``).
        prompt: the system prompt: a prompt file's name or path, or a :class:`Prompt`. It is
            rendered once, with ``names`` (the workers) and ``layout``.
        limits: when the thinking ends at the latest.
        sampling: how workers sample; None for the model's own way.
        seed: of all random states; together with the model and the problem it decides the run.
        headings: the text around the blocks.
        coordinator: shared with other teams; None for one of its own in each run. It must run the
            model's engine.
        answer_type: what the answers have to be, unless :meth:`solve` is told otherwise: a pydantic
            model, ``list[int]``, ... A problem is followed by the schema of a model, and an answer
            that does not fit is asked for once more, of the same worker.

    Raises:
        ConfigError: no workers, two of one name, an unknown layout or prompt, another engine, a
            type that pydantic does not know, or something that is not what it has to be.
    """

    @overload
    def __init__(
        self: Team[RunResult],
        model: LanguageModel,
        *,
        workers: int | Iterable[str | Worker] = ...,
        layout: Layout | str | None = ...,
        policies: Iterable[Policy] = ...,
        prompt: Prompt | str | os.PathLike[str] = ...,
        limits: Limits = ...,
        sampling: SamplingParams | None = ...,
        seed: int = ...,
        headings: Headings | None = ...,
        coordinator: CacheCoordinator | None = ...,
        answer_type: None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Team[TypedResult[T]],
        model: LanguageModel,
        *,
        workers: int | Iterable[str | Worker] = ...,
        layout: Layout | str | None = ...,
        policies: Iterable[Policy] = ...,
        prompt: Prompt | str | os.PathLike[str] = ...,
        limits: Limits = ...,
        sampling: SamplingParams | None = ...,
        seed: int = ...,
        headings: Headings | None = ...,
        coordinator: CacheCoordinator | None = ...,
        answer_type: type[T],
    ) -> None: ...

    def __init__(
        self,
        model: LanguageModel,
        *,
        workers: int | Iterable[str | Worker] = 2,
        layout: Layout | str | None = None,
        policies: Iterable[Policy] = (),
        prompt: Prompt | str | os.PathLike[str] = "collaborate",
        limits: Limits = DEFAULT_LIMITS,
        sampling: SamplingParams | None = None,
        seed: int = 0,
        headings: Headings | None = None,
        coordinator: CacheCoordinator | None = None,
        answer_type: type[Any] | None = None,
    ) -> None:
        self.model = _model(model)
        self.workers = _workers(workers)
        self.layout = _layout(layout)
        self.policies = _policies(policies)
        self.prompt = _prompt(prompt)
        self.limits = _instance("limits", limits, Limits)
        self.sampling = model.sampling
        if sampling is not None:
            from hogwild_agents.engine import SamplingParams

            self.sampling = _instance("sampling", sampling, SamplingParams)
        self.seed = _seed(seed)
        self.headings = _instance("headings", headings or Headings(), Headings)
        self.coordinator = coordinator
        if coordinator is not None:
            _instance("coordinator", coordinator, CacheCoordinator)
        self._answer_type: AnswerType[Any] | None = _answer_type(answer_type)
        self._runs: WeakSet[Run] = WeakSet()
        if coordinator is not None and coordinator.engine is not model.engine:
            raise ConfigError(
                f"The coordinator runs another engine than the model {model.name!r}: make it with "
                "CacheCoordinator(model.engine)."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The workers' names, in order."""
        return tuple(worker.name for worker in self.workers)

    @property
    def opening(self) -> Opening:
        """How what the workers are given is encoded."""
        return Opening(
            headings=self.headings,
            encode=self.model.encode,
            encode_format=partial(self.model.encode, control="all"),
            encode_problem=self._encode,
            describe_tools=partial(describe_tools, self.model),
            common=self._common,
        )

    def say(
        self, text: str, to: str | Sequence[str] | None = None, *, speaker: str = "User"
    ) -> None:
        """Tell the workers of all the runs under way something; see :meth:`Run.say`.

        Raises:
            UsageError: the text is empty, or a name is wrong.
            ClosedError: no run of the team is under way.
        """
        runs = [run for run in self._runs if run.thinks]
        if not runs:
            raise ClosedError("No run of this team is under way: say it while one is.")
        for run in runs:
            run.say(text, to, speaker=speaker)

    def start(
        self,
        problem: str,
        *,
        on_event: Listener | None = None,
        transcript: str | os.PathLike[str] | None = None,
        answer_type: type[Any] | None = None,
    ) -> Run:
        """Check a problem and return its run, which begins with :meth:`Run.execute`.

        Args:
            problem: what to solve.
            on_event: called with every event at once; it must not block.
            transcript: a file that the record of the run is written to, replaced if it exists.
            answer_type: an answer of another type is asked for once more; None for the team's.

        Raises:
            ProblemError: the problem is empty, or too long for the model's context.
            ChatTemplateError: the model's tokenizer has no chat template.
            ConfigError: nothing can be written to the transcript's path, a policy cannot be
                copied, or pydantic does not know the type.
        """
        kind = _answer_type(answer_type) or self._answer_type
        given = problem if kind is None else kind.describe(problem)
        prompt = self._encode(given)
        writer = None
        if transcript is not None:
            from hogwild_agents.transcript import TranscriptWriter

            writer = TranscriptWriter(transcript)
        run = Run(
            self,
            problem,
            prompt,
            on_event=on_event,
            transcript=writer,
            answer_type=kind,
        )
        self._runs.add(run)
        return run

    @overload
    async def solve(
        self,
        problem: str,
        *,
        on_event: Listener | None = None,
        transcript: str | os.PathLike[str] | None = None,
    ) -> R_co: ...

    @overload
    async def solve(
        self,
        problem: str,
        *,
        answer_type: type[T],
        on_event: Listener | None = None,
        transcript: str | os.PathLike[str] | None = None,
    ) -> TypedResult[T]: ...

    async def solve(
        self,
        problem: str,
        *,
        answer_type: type[Any] | None = None,
        on_event: Listener | None = None,
        transcript: str | os.PathLike[str] | None = None,
    ) -> RunResult:
        """Solve a problem; see :meth:`start` and :meth:`Run.execute` for what they raise.

        Args:
            problem: what to solve.
            answer_type: what the answer has to be; None for the team's. Where there is one, the
                result is a :class:`TypedResult`, with the value as ``parsed``.
            on_event: see :meth:`start`.
            transcript: see :meth:`start`.

        Raises:
            AnswerError: there is no answer of the type; its ``result`` holds what was written.
        """
        run = self.start(problem, on_event=on_event, transcript=transcript, answer_type=answer_type)
        result = await run.execute()
        return result if run.answer_type is None else run.answer_type.result(result)

    def stream(
        self, problem: str, *, transcript: str | os.PathLike[str] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Solve a problem and yield every event, the last one a :class:`RunEnded`::

            async with aclosing(team.stream(problem)) as events:
                async for event in events: ...

        A plain ``async for`` will do where the loop is never left early. Leaving it cancels the
        run and waits for its end, at once if it is left through ``aclosing``, as above, else when
        the event loop closes the generator. That may be done in any task. The run is a task of the
        team's coordinator, if it has one, and never waits for whoever reads the events.

        See :meth:`start` and :meth:`Run.execute` for what the loop raises.

        Raises:
            ClosedError: the team's coordinator is not open, or was closed under way.
        """
        begin = partial(self._begin, problem, transcript)
        return stream(begin, self.coordinator)

    def _begin(
        self, problem: str, transcript: str | os.PathLike[str] | None, listener: Listener
    ) -> Run:
        return self.start(problem, on_event=listener, transcript=transcript)

    @cached_property
    def _common(self) -> tuple[int, ...]:
        """The ids that begin the prompts of all problems, as far as can be told from two."""
        one, other = (self._encode(problem) for problem in ("A", "7"))
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        return tuple(token for token, _ in pairs)

    @cached_property
    def _system(self) -> str:
        """The system prompt, the same for all problems."""
        return self.prompt.render(
            names=list(self.names), layout=self.layout.name, headings=self.headings
        )

    def _encode(self, problem: str) -> list[int]:
        if not isinstance(problem, str):
            raise ProblemError(f"The problem is {problem!r}: give it as a string.")
        if not problem.strip():
            raise ProblemError("The problem is empty: give the team something to solve.")
        tokens = encode_prompt(self.model.tokenizer, system=self._system, user=problem)
        context = self.model.engine.context_length
        if context is not None and len(tokens) >= context:
            raise ProblemError(
                f"The problem with its prompt is {len(tokens)} tokens long, but the context of "
                f"{self.model.name!r} has {context}, which leaves no room to think: shorten it."
            )
        return tokens

    def __repr__(self) -> str:
        return f"Team({self.model.name!r}, {', '.join(self.names)}, {self.layout!r})"


def _model(given: object) -> LanguageModel:
    if isinstance(given, LanguageModel):
        return given
    raise ConfigError(
        f"The model of a team is {given!r}, which is no loaded one: give load_model({given!r})."
        if isinstance(given, str)
        else f"The model of a team is {given!r}: give what load_model() returns."
    )


def _instance(name: str, given: object, kind: type[T]) -> T:
    if not isinstance(given, kind):
        raise ConfigError(f"{name} is {given!r}, but must be of type {kind.__name__}.")
    return given


def _seed(given: int) -> int:
    if not is_whole(given) or given < 0:
        raise ConfigError(f"seed is {given!r}, but must be a whole number from 0.")
    return given


def _prompt(given: object) -> Prompt:
    if isinstance(given, Prompt):
        return given
    if isinstance(given, str | os.PathLike):
        return Prompt.load(os.fspath(given))
    raise ConfigError(f"prompt is {given!r}: give the name or the path of one, or a Prompt.")


def _workers(given: int | Iterable[str | Worker]) -> tuple[Worker, ...]:
    if isinstance(given, str):
        raise ConfigError(f"workers is the string {given!r}: give a list, such as [{given!r}].")
    if isinstance(given, int):
        given = worker_names(given)
    elif not isinstance(given, Iterable):
        raise ConfigError(f"workers is {given!r}: give a number, or a list of names or Workers.")
    workers = tuple(one if isinstance(one, Worker) else Worker(one) for one in given)
    if not workers:
        raise ConfigError("A team needs at least one worker, but none was given.")
    seen: set[str] = set()
    for worker in workers:
        if worker.name in seen:
            raise ConfigError(
                f"Two workers are called {worker.name!r}: give each a name of its own."
            )
        seen.add(worker.name)
    return workers


def _layout(given: object) -> Layout:
    if given is None:
        return Combined()
    if isinstance(given, Layout):
        return given
    if isinstance(given, str) and given in LAYOUTS:
        return LAYOUTS[given]()
    raise ConfigError(
        f"There is no layout {given!r}: choose one of {', '.join(LAYOUTS)}, or give an object of "
        "a subclass of Layout."
    )


def _policies(given: object) -> tuple[Policy, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"policies is {given!r}: give a list of policies.")
    policies = tuple(given)
    for policy in policies:
        if not isinstance(policy, Policy):
            raise ConfigError(f"{policy!r} is no policy: give objects of subclasses of Policy.")
    return policies


def _answer_type(given: type[Any] | None) -> AnswerType[Any] | None:
    return None if given is None else AnswerType(given)
