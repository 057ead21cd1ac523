"""Worker: an async agent that thinks by writing tokens into its own block.

The default worker thinks until the run ends. Subclass it and override :meth:`Worker.run` to
script anything: write text, read the others, wait, leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction, isfunction, unwrap
from typing import TYPE_CHECKING, Any, Self

from hogwild_agents.engine import Sampled, SamplingParams
from hogwild_agents.errors import ClosedError, ConfigError, UsageError
from hogwild_agents.tools import Tool, make_tools
from hogwild_agents.whole import is_whole
from hogwild_agents.worker_names import is_name

if TYPE_CHECKING:
    from hogwild_agents.desk import Desk
    from hogwild_agents.run_view import RunView


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token that a worker sampled.

    Attributes:
        id: the token id.
        text: what it adds to the worker's text; empty while a character is incomplete.
        ends_step: whether the step ended with it.
        logprob: its log-probability, if asked for.
        top: the most likely tokens and their log-probabilities, if asked for.
    """

    id: int
    text: str
    ends_step: bool
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Worker:
    """An agent of a team.

    Each run works on its own copy of the worker, so that one team can solve many problems. It is a
    shallow one: what a worker was given (a queue, a client) is shared by all runs, and what it
    gathers in a run is best made in :meth:`run`.

    Args:
        name: any name, unique in its team.
        role: a private text that only this worker sees, such as "I check the others' sums.".
        public_role: what all workers are told about this one, such as "plans".
        problem: this worker's own view of the problem, instead of the team's; None for that.
        sampling: how it samples; None for the team's way.
        seed: of its random state; None to derive it from the team's seed and the name.
        sees: whose text it sees, by name; None for everybody's. Policies may change that. Whoever
            joins later may be named too; of a name that nobody ever had, the end of the run warns
            (:class:`UnknownWorkerWarning`).
        seen_by: who sees its text, by name; None for everybody. ``()`` makes it a silent observer.
        tools: what it can call: async functions, ordinary ones, or :class:`Tool` objects.

    Raises:
        ConfigError: the name is no text, empty, or has a line break; the problem is empty; sees or
            seen_by is no list of names; or something is not what it has to be.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the script.

        Raises:
            ConfigError: it is not async.
        """
        super().__init_subclass__(**options)
        script = vars(cls).get("run")
        if isfunction(script) and not iscoroutinefunction(unwrap(script)):
            raise ConfigError(f"{cls.__name__}.run is not async: define it with `async def`.")

    def __init__(
        self,
        name: str,
        *,
        role: str = "",
        public_role: str = "",
        problem: str | None = None,
        sampling: SamplingParams | None = None,
        seed: int | None = None,
        sees: Iterable[str] | None = None,
        seen_by: Iterable[str] | None = None,
        tools: Iterable[Tool | Callable[..., Any]] = (),
    ) -> None:
        if not is_name(name):
            raise ConfigError(f"A worker's name is {name!r}, but must be one line of text.")
        if problem is not None and not _text(problem, "problem", name).strip():
            raise ConfigError(f"The problem of {name!r} is empty: give it a text, or None.")
        self.name = name
        self.role = _text(role, "role", name)
        self.public_role = _text(public_role, "public_role", name)
        self.problem = problem
        self.sees = _names(sees, "sees", name)
        self.seen_by = _names(seen_by, "seen_by", name)
        self.tools = make_tools(tools)
        self.sampling = _sampling(sampling, name)
        self.seed = _seed(seed, name)
        self._desk: Desk | None = None
        self._ahead: Sampled | None = None

    async def run(self) -> None:
        """Live: by default, think until the run ends. Override to script the worker.

        When it returns, what was written is fed, the worker has left, and the others go on. An
        exception does the same, and is noted in the result's ``failures``; only if all workers
        fail, the run does.
        """
        await self.think()

    async def think(self, max_tokens: int | None = None) -> None:
        """Write token after token, up to so many or to the model's end of text."""
        written, stop_tokens = 0, self.desk.stop_tokens
        while max_tokens is None or written < max_tokens:
            await self.use_tools(peek=True)
            token = await self.next_token()
            written += 1
            if token.id in stop_tokens:
                return

    async def next_token(self) -> Token:
        """Feed what is pending, and sample one token.

        When a limit ends the thinking, this and the other methods that feed do not return: the
        worker is cancelled, once all have handled their tokens of the last tick.

        Raises:
            TickError: the forward pass failed.
            CacheFullError: the cache has no room.
            ContextLengthError: the view is longer than the model's context.
            ClosedError: the thinking is over, and the worker has shielded itself from that.
            UsageError: there is nothing to continue from, because the last token that was sampled
                was lost with a cancelled call; or another task of this worker waits for a tick.
        """
        desk = self.desk
        if self._ahead is None or desk.writing.pending:
            await self._feed(desk)
        sampled, self._ahead = self._ahead, None
        if sampled is None:
            raise UsageError(f"{self.name} has nothing to continue from: write some text first.")
        return await desk.receive(sampled)

    async def write(self, text: str) -> None:
        """Append text to the own block and feed it, so that the others see it in this tick.

        It never ends a step. The token that follows is sampled with it, and comes out of the next
        :meth:`next_token` unless more is written first.
        """
        if text:
            await self.desk.force(text)
            await self.flush()

    async def use_tools(self, *, peek: bool = False) -> None:
        """Answer the calls of tools that stand in what was written since the last time.

        :meth:`think` does so before each token. The worker is parked while its tools are at work.

        Args:
            peek: look first whether the model goes on with another call, and if so, wait for it.
        """
        if self.desk.tool_use is not None:
            await self.desk.tool_use.turn(peek=peek)

    async def end_step(self) -> None:
        """End the current step with an empty line, if it holds more than its prefix.

        The next one opens with its prefix; :meth:`flush` feeds both, and so does whatever samples.
        """
        await self.desk.end_step()

    async def flush(self) -> None:
        """Feed what is pending, if anything is; before a long wait, so that the others see it."""
        await self._feed(self.desk)
        await self.desk.handled()

    async def _feed(self, desk: Desk) -> None:
        if desk.writing.pending:
            self._ahead = None
            self._ahead = await desk.submit()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, owing no feed, until a condition holds that other workers bring about::

            await self.until(lambda: "Bob" not in self.run_view.names)  # he has left

        It is asked at once, and again after every event of the run: each token, step, word of a
        person, worker that joins or leaves. A step that has ended is fed to its end before; what
        follows :meth:`write` was sampled before the wait, unless its step was ended too.

        When all workers who are left wait like this, or are parked by policies, nothing can come
        any more, and the thinking ends as at a limit (``"parked"``). So wait inside :meth:`parked`
        for whatever comes from elsewhere, such as a person or another run.

        Args:
            condition: must not block, nor change anything.

        Raises:
            UsageError: the condition is no plain function.
            ClosedError: the thinking is over, and the worker has shielded itself from that.
        """
        if not _can_be_asked(condition):
            raise UsageError(
                f"{self.name} waits until {condition!r}, which cannot be asked again and again: "
                "give a plain function without parameters, such as a lambda."
            )
        await self.desk.until(condition)

    @contextmanager
    def parked(self) -> Iterator[None]:
        """Owe no feed while inside: for tools, people, and whatever else comes from elsewhere."""
        with self.desk.parked():
            yield

    @property
    def text(self) -> str:
        """All that this worker has written in this run, with the prefixes of its steps."""
        return self.desk.draft.text

    @property
    def step_text(self) -> str:
        """The current step so far, with its prefix."""
        return self.desk.draft.step_text

    @property
    def step(self) -> int:
        """The number of the current step, from 1."""
        return self.desk.draft.step

    @property
    def run_view(self) -> RunView:
        """The run to read, as policies do: the problem, who is there, texts, steps, ticks."""
        return self.desk.run_view

    @property
    def others(self) -> Mapping[str, str]:
        """What the other workers have written so far, by name."""
        return self.desk.others()

    @property
    def desk(self) -> Desk:
        """Where the worker sits in its run.

        Raises:
            ClosedError: it is in no run.
        """
        if self._desk is None:
            raise ClosedError(f"The worker {self.name!r} is in no run: let a Team run it.")
        return self._desk

    def seated(self, desk: Desk) -> Self:
        """Return this worker (a copy made for one run), sitting at a desk of that run."""
        self._desk = desk
        self._ahead = None
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def _can_be_asked(condition: object) -> bool:
    return callable(condition) and not iscoroutinefunction(condition)


def _text(given: object, option: str, name: str) -> str:
    if not isinstance(given, str):
        raise ConfigError(f"{option} of {name!r} is {given!r}, but must be a text.")
    return given


def _sampling(given: object, name: str) -> SamplingParams | None:
    if given is not None and not isinstance(given, SamplingParams):
        raise ConfigError(f"sampling of {name!r} is {given!r}: give SamplingParams, or None.")
    return given


def _seed(given: int | None, name: str) -> int | None:
    if given is not None and not (is_whole(given) and 0 <= given < 2**64):
        raise ConfigError(
            f"seed of {name!r} is {given!r}: give a whole number from 0 to 2**64 - 1, or None."
        )
    return given


def _names(given: Iterable[str] | None, option: str, name: str) -> frozenset[str] | None:
    if given is None:
        return None
    if isinstance(given, str):
        raise ConfigError(f"{option} of {name!r} is the string {given!r}: give a list of names.")
    if not isinstance(given, Iterable):
        raise ConfigError(f"{option} of {name!r} is {given!r}: give a list of names.")
    names = tuple(given)
    for one in names:
        if not is_name(one):
            raise ConfigError(
                f"{option} of {name!r} has {one!r} in it, which can be nobody's name: give names, "
                "such as 'Bob'."
            )
    return frozenset(names)
