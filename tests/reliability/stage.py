"""Stage: plays a schedule with a real team on a real tiny model, watched."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import anyio

from hogwild_agents import actions as act, events as ev
from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.errors import ClosedError, UsageError
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.policy import Observer, Policy
from hogwild_agents.result import RunResult
from hogwild_agents.run_view import RunView
from hogwild_agents.team import Team
from hogwild_agents.tools import Tool
from hogwild_agents.transcript import Transcript, read_transcript
from hogwild_agents.worker import Worker
from tests.reliability.schedule import NAMES, NEWCOMERS, SPEAKERS, Member, Op, Schedule
from tests.reliability.watch import Log, Spoken, Told, WatchedCoordinator, WatchedEngine
from tests.runtime.rig import JOINED, PLAIN, PROBLEM, family, talkative, tokenizer

TIME = 30.0
"""Seconds after which a run counts as hanging."""
TEXTS = ("so ", "Look: 7.\n\nThen ", "Hm. ", "wait, no! ", "I agree with Bob. " * 3)
QUESTIONS = ("Sure? ", "\n\nAm I doing redundant work? (yes/no): ")
ANSWERS = (("yes", "no"), ("Alice says hello", "Bob says hello", "7"))
BYSTANDERS = ("Xena", "Yuri")


class Crash(Exception):
    """What a worker or a policy raises."""


@cache
def watched_model(context: int, budget: int | None) -> LanguageModel:
    """A tiny random model on a watched engine; equal weights for all."""
    network = family(JOINED, "qwen3", context).build()
    engine = WatchedEngine(network, max_tokens=budget, verify=False)
    return LanguageModel(name="tiny", engine=engine, tokenizer=tokenizer(JOINED))


# -- who takes part


class Actor(Worker):
    """A worker that does what a schedule says."""

    def __init__(self, name: str, member: Member, stage: Stage) -> None:
        uses_tools = any(kind == "tool" for kind, _ in member.acts)
        super().__init__(
            name,
            role="I check." if member.role else "",
            public_role="plans" if member.public else "",
            problem="Say no." if member.own_problem else None,
            sampling=talkative(stage.model, member.bias),
            sees=_named(member.sees),
            seen_by=_named(member.seen_by),
            tools=TOOLS if uses_tools else (),
        )
        self.member = member
        self.stage = stage

    async def run(self) -> None:
        for kind, amount in self.member.acts:
            if kind == "leave":
                return
            await getattr(self, f"_{kind}")(amount)
        if self.member.stays:
            await self.think()

    async def _think(self, amount: int) -> None:
        for _ in range(amount + 1):
            await self.next_token()

    async def _write(self, amount: int) -> None:
        await self.write(TEXTS[amount])

    async def _end(self, amount: int) -> None:
        await self.end_step()

    async def _flush(self, amount: int) -> None:
        await self.flush()

    async def _read(self, amount: int) -> None:
        assert self.name not in self.others

    async def _crash(self, amount: int) -> None:
        raise Crash(f"{self.name} crashes")

    async def _wait(self, amount: int) -> None:
        """Wait, parked, for some ticks of the others."""
        with self.parked():
            await self.stage.wait(self.name, amount)

    async def _cancel(self, amount: int) -> None:
        with anyio.CancelScope() as scope:
            if amount % 2:
                scope.cancel()
                await self.next_token()
            else:
                with self.parked():
                    scope.cancel()
                    await anyio.sleep(1)
        await self.write("so ")

    async def _shield(self, amount: int) -> None:
        with anyio.CancelScope(shield=True):
            await self._think(amount % 2)

    async def _sleep(self, amount: int) -> None:
        with self.parked():
            await anyio.sleep(0.001 * amount)

    async def _hurry(self, amount: int) -> None:
        with anyio.move_on_after(0.001 * amount):
            await self.next_token()
        await self.write("so ")

    async def _tool(self, amount: int) -> None:
        calls = ['@fine {"n": 1}\n', '@broken {}\n@fine {"n": 2}\n', "@slow {}\n", "@none {}\n"]
        await self.write(calls[amount % 4])
        await self.use_tools()

    async def _twice(self, amount: int) -> None:
        """Let two tasks write at once."""

        async def next_token() -> None:
            with suppress(UsageError):
                await self.next_token()

        async with anyio.create_task_group() as group:
            group.start_soon(next_token)
            group.start_soon(next_token)
        await self.write("so ")


def _named(numbers: tuple[int, ...] | None) -> list[str] | None:
    return None if numbers is None else [NAMES[number] for number in numbers]


async def fine(n: int) -> str:
    """Works."""
    return f"{n} is fine"


async def broken() -> str:
    """Fails."""
    await anyio.sleep(0.001)
    raise Crash("it is broken")


async def slow() -> str:
    """Takes too long."""
    await anyio.sleep(30)
    return "never"


TOOLS = (fine, broken, Tool(slow, timeout=0.004))

MOMENTS = {
    ev.TickEnded: "tick",
    ev.TokensWritten: "written",
    ev.StepEnded: "step",
    ev.WorkerLeft: "left",
    ev.WorkerJoined: "joined",
    ev.ProbeAnswered: "answered",
    ev.RunStarted: "started",
}


class _Listening(Policy):
    """A policy that takes its turns from the stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def answer(self, event: Any) -> Any:
        return None

    async def _hear(self, event: Any) -> Any:
        return await self.answer(event)

    on_run_started = on_worker_joined = on_tokens_written = on_step_ended = _hear
    on_tick_ended = on_probe_answered = on_worker_left = _hear


class Director(_Listening):
    """Does what controllers do in a schedule."""

    async def answer(self, event: Any) -> Any:
        taken: list[act.Action | None] = []
        for op in self.stage.due(event, "controller"):
            if op.kind == "controller fails":
                self.stage.broken = True
                raise Crash("the director fails")
            if op.kind == "wrong action":
                self.stage.broken = True
                taken.append(act.Say(worker="Nobody", text="Hm."))
            taken.append(self.stage.action(op))
        return [action for action in taken if action is not None]

    async def on_limit_reached(self, event: ev.LimitReached) -> Any:
        if self.stage.schedule.concludes:
            return act.Conclude(text="\n\nSo it is \\boxed{", max_tokens=3)
        return None


class Minder(_Listening):
    """Does what policies for single workers do."""

    decides = "worker"

    async def answer(self, event: Any) -> Any:
        worker = self.own_worker
        assert getattr(event, "worker", worker) == worker
        if worker not in self.run.names:
            return None
        taken = [self.stage.action(op, worker) for op in self.stage.due(event, "minder")]
        return [action for action in taken if action is not None]


class Extra(_Listening):
    """A policy that is switched on and off."""

    enabled = False

    async def answer(self, event: Any) -> Any:
        if isinstance(event, ev.StepEnded) and event.worker in self.run.names:
            return act.Say(worker=event.worker, text="Well, ")
        return None


class Grumbler(_Listening, Observer):
    """Fails, and may."""

    async def answer(self, event: Any) -> Any:
        if self.stage.due(event, "observer fails"):
            raise Crash("nobody minds")
        return act.Finish(reason="nobody asked")


class Sleeper(_Listening, Observer):
    """Hangs, and is cut off."""

    timeout = 0.003

    async def answer(self, event: Any) -> Any:
        if self.stage.due(event, "observer hangs"):
            await anyio.sleep(30)
        return None


class Staller(_Listening):
    """Hangs, and may not."""

    timeout = 0.003

    async def answer(self, event: Any) -> Any:
        if self.stage.due(event, "controller hangs"):
            self.stage.broken = True
            await anyio.sleep(30)
        return None


POLICY_FAULTS = ("Grumbler", "Sleeper")


# -- the play


@dataclass
class Play:
    """A schedule that was played.

    Attributes:
        log: all that happened.
        newcomers: the workers that were spawned.
        result, error: what came of the run.
        broken: whether a controller was made to fail.
        cancelled: whether the run was cancelled from outside.
        unruly: whether a wait took longer than it should, so that the clock had a say.
        transcript: of the run.
    """

    schedule: Schedule
    team: Team
    log: Log
    newcomers: list[Worker] = field(default_factory=list)
    result: RunResult | None = None
    error: Exception | None = None
    broken: bool = False
    cancelled: bool = False
    unruly: bool = False
    transcript: Transcript | None = None
    bystander: RunResult | None = None

    @property
    def events(self) -> list[ev.Event]:
        """What was told."""
        return [entry.event for entry in self.log if isinstance(entry, Told)]

    def told(self, *kinds: type) -> list[Any]:
        """The events of some kinds."""
        return [event for event in self.events if isinstance(event, kinds)]


class Stage:
    """Where a schedule is played: everybody who takes part knows it; copies are itself."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.model = watched_model(schedule.context, schedule.budget)
        self.broken = False
        self.unruly = False
        self.newcomers: list[Worker] = []
        self._ops = list(schedule.ops)
        self._waiting: dict[str, tuple[int, anyio.Event]] = {}
        self._acts = False
        members = zip(NAMES, schedule.team, strict=False)
        self.team = Team(
            self.model,
            workers=[Actor(name, member, self) for name, member in members],
            layout=schedule.make_layout(),
            policies=[kind(self) for kind in KINDS],
            prompt=PLAIN,
            limits=Limits(ticks=schedule.ticks, tokens=schedule.tokens, seconds=schedule.seconds),
            seed=schedule.seed,
        )

    def __deepcopy__(self, memo: object) -> Stage:
        return self

    # -- what is done

    def due(self, event: Any, by: str) -> list[Op]:
        """Take the operations that answer an event, of those that somebody does."""
        moment, ticks = MOMENTS.get(type(event)), self.view.ticks
        found = [
            op
            for op in self._ops
            if op.moment == moment and op.at <= ticks and by in (_doer(op), op.kind)
        ]
        for op in found:
            self._ops.remove(op)
        return found

    def action(self, op: Op, worker: str | None = None) -> act.Action | None:
        """Return the action of an operation; None if there is nobody for it."""
        names = self.view.names
        if not names:
            return None
        name = worker or names[op.who % len(names)]
        authors = [one for one in self.view.texts if one != name]
        author = authors[op.whom % len(authors)] if authors else None
        steps = self.view.steps
        step = steps[op.who % len(steps)] if steps else None
        some = op.amount or None
        match op.kind:
            case "say":
                return act.Say(worker=name, text=TEXTS[op.amount])
            case "end":
                return act.EndStep(worker=name)
            case "ban":
                return act.Ban(worker=name, texts=("e", "."), token_ids=(40,), for_tokens=some)
            case "bias":
                return act.Bias(worker=name, bias={41: 3.0, 42: -2.0}, for_tokens=some)
            case "sampling":
                heat = op.amount * 0.4
                return act.ChangeSampling(worker=name, temperature=heat, for_tokens=some)
            case "park":
                return act.Park(worker=name)
            case "resume":
                return act.Resume(worker=name)
            case "spawn" | "fork":
                return self._spawn(name if op.kind == "fork" else None)
            case "dismiss":
                return act.Dismiss(worker=name)
            case "hide" if author is not None:
                return act.Hide(author=author, viewers=(name,))
            case "show" if author is not None:
                return act.Show(author=author, viewers=(name,))
            case "hide from all":
                return act.Hide(author=author or name)
            case "show to all":
                return act.Show(author=author or name)
            case "forget" if step is not None:
                return act.Forget(worker=step.worker, step=step.number)
            case "forget for some" if step is not None:
                return act.Forget(worker=step.worker, step=step.number, viewers=(name,))
            case "probe":
                return act.Probe(
                    worker=name,
                    question=QUESTIONS[op.amount % 2],
                    answers=ANSWERS[op.whom % 2],
                )
            case "conclude":
                who = name if op.amount % 2 else None
                return act.Conclude(
                    text="\n\nSo it is \\boxed{", worker=who, max_tokens=op.amount + 1
                )
            case "finish":
                return act.Finish(answer="8", author=name)
        return None

    def _spawn(self, fork_of: str | None) -> act.Spawn | None:
        number = len(self.newcomers)
        if number == len(NEWCOMERS):
            return None
        members = self.schedule.newcomers
        worker = Actor(NEWCOMERS[number], members[number % len(members)], self)
        self.newcomers.append(worker)
        return act.Spawn(worker=worker, fork_of=fork_of)

    def do(self, op: Op) -> None:
        """Do something from outside of the run."""
        names = self.view.names
        match op.kind:
            case "speak" | "speak to some":
                to = None if op.kind == "speak" or not names else (names[op.who % len(names)],)
                speaker = SPEAKERS[op.whom % len(SPEAKERS)]
                before = len(self.log)
                self.run.say(TEXTS[op.amount], to, speaker=speaker)
                self.log.insert(before, Spoken(speaker, to))  # who hears of it may speak, too
            case "stop":
                self.run.stop("enough")
            case "cancel run":
                self.scope.cancel()
            case "switch":
                self.run.switch("Extra", on=bool(op.amount % 2))
            case _:
                action = self.action(op)
                if action is not None:
                    self.run.act(action)

    def listen(self, event: ev.Event) -> None:
        """Note an event; some who hear of it act at once."""
        self.log.append(Told(event))
        self._release(event)
        if self._acts or not self.run.thinks:
            return
        self._acts = True
        try:
            for op in self.due(event, "inside"):
                with suppress(ClosedError):
                    self.do(op)
        finally:
            self._acts = False

    async def _disturb(self) -> None:
        """Do what is done from outside, at any moment of a tick."""
        for op in sorted(self._ops, key=lambda op: op.at):
            if _doer(op) != "outside":
                continue
            while not (self.run.thinks and self.view.ticks >= op.at):  # noqa: ASYNC110 -- any time
                await anyio.sleep(0.0005)
            await anyio.sleep(0.0004 * op.amount)
            with suppress(ClosedError):
                self.do(op)

    # -- waiting

    async def wait(self, name: str, ticks: int) -> None:
        """Wait for some ticks of the others, if there is somebody who makes them."""
        until, woken = self.view.ticks + ticks + 1, anyio.Event()
        self._waiting[name] = (until, woken)
        self._release(None)
        with anyio.move_on_after(5) as scope:
            await woken.wait()
        self.unruly |= scope.cancelled_caught
        self._waiting.pop(name, None)

    def _release(self, event: ev.Event | None) -> None:
        """Wake one whose ticks are over, or if nobody else is at work.

        Two at once would go on in any order, as whoever parks does.
        """
        ticks = event.tick if isinstance(event, ev.TickEnded) else 0
        busy = {*self.view.names} - {*self.view.parked} - self._waiting.keys()
        for name, (until, woken) in list(self._waiting.items()):
            if ticks >= until or not busy:
                woken.set()
                del self._waiting[name]
                return

    # -- the run

    async def play(self) -> Play:
        """Play it, and check that nobody hangs and nothing is left."""
        engine: Any = self.model.engine
        assert not engine.used_tokens
        tasks = len(anyio.get_running_tasks())
        self.log: Log = []
        self.scope = anyio.CancelScope()
        engine.start(self.log, self.schedule.fails_at)
        play = Play(self.schedule, self.team, self.log, self.newcomers)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "run.jsonl"
            with anyio.fail_after(TIME):
                await self._play(play, path)
            play.transcript = read_transcript(path)
        play.broken, play.unruly = self.broken, self.unruly
        assert engine.used_tokens == 0
        engine.check_integrity()
        assert not engine._cache.blocks, f"left behind: {list(engine._cache.blocks.values())}"
        assert len(anyio.get_running_tasks()) == tasks
        return play

    async def _play(self, play: Play, path: Path) -> None:
        async with self._coordinator() as coordinator:
            async with anyio.create_task_group() as group:
                if coordinator is not None and self.schedule.accompanied:
                    group.start_soon(_stand_by, play, self.model, coordinator)
                await self._execute(play, path)
            if coordinator is not None:
                assert not coordinator.statistics().seats
                assert not len(coordinator.common)

    async def _execute(self, play: Play, path: Path) -> None:
        self.run = self.team.start(PROBLEM, on_event=self.listen, transcript=path)
        self.view = RunView(PROBLEM, self.run._thinking)
        async with anyio.create_task_group() as disturbers:
            disturbers.start_soon(self._disturb)
            with self.scope:
                try:
                    play.result = await self.run.execute()
                except Exception as error:
                    play.error = error
            play.cancelled = self.scope.cancelled_caught
            disturbers.cancel_scope.cancel()
        assert play.result in (None, self.run.result)
        play.result = self.run.result

    @asynccontextmanager
    async def _coordinator(self) -> AsyncIterator[WatchedCoordinator | None]:
        """A coordinator that others may use too; None where the run makes one for itself."""
        cut, ahead = self.schedule.cut, self.schedule.ahead
        make = partial(WatchedCoordinator, prefill_chunk=cut, ahead=ahead)
        engine: Any = self.model.engine
        if self.schedule.shared or self.schedule.accompanied:
            async with make(engine) as coordinator:
                self.team.coordinator = coordinator
                yield coordinator
        else:
            with patch("hogwild_agents.share.CacheCoordinator", make):
                yield None


OUTSIDE = ("speak", "speak to some", "switch", "stop", "cancel run")
KINDS = (Director, Minder, Extra, Grumbler, Sleeper, Staller)


def _doer(op: Op) -> str:
    """Return who does something; "" for what one policy alone does."""
    if op.kind in ("observer fails", "observer hangs", "controller hangs"):
        return ""
    if op.kind in ("controller fails", "wrong action"):
        return "controller"
    if op.kind in OUTSIDE and op.by in ("controller", "minder"):
        return "inside"
    return op.by


# -- whoever else is there


async def _stand_by(play: Play, model: LanguageModel, coordinator: CacheCoordinator | None) -> None:
    """Let another team solve its own problem at the same coordinator."""
    team = Team(
        model,
        workers=BYSTANDERS,
        prompt=PLAIN,
        limits=Limits(ticks=8),
        sampling=talkative(model),
        seed=5,
        coordinator=coordinator,
    )
    play.bystander = await team.solve("Say no.")


@cache
def undisturbed(chunk: int) -> RunResult:
    """What the other team comes to when it is alone."""
    stage = Stage(Schedule(chunk=chunk))
    play = Play(stage.schedule, stage.team, [])

    async def main() -> None:
        engine: Any = stage.model.engine
        async with CacheCoordinator(engine, prefill_chunk=chunk) as coordinator:
            await _stand_by(play, stage.model, coordinator)

    anyio.run(main)
    assert play.bystander is not None
    return play.bystander


class Hang(Exception):
    """Raised in the midst of a run that did not end, though it was cancelled."""


def perform(schedule: Schedule, backend: str) -> Play:
    """Play a schedule on one event loop.

    Raises:
        Hang: somebody who has shielded himself from cancellation waits for ever.
    """

    plays: list[Play] = []  # returned by a task, it would be spelt out whenever that one is

    async def main() -> None:
        plays.append(await Stage(schedule).play())

    try:
        with cut_off(TIME + 5):
            anyio.run(main, backend=backend)
    except BaseException:
        watched_model.cache_clear()  # its cache may hold what this run has left
        raise
    return plays[0]


@contextmanager
def cut_off(seconds: float) -> Iterator[None]:
    """Raise Hang in the main thread after so many seconds, whoever waits there."""

    def hang(number: int, frame: object) -> None:
        raise Hang(f"still going on after {seconds} seconds, and cannot be cancelled")

    def send() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, hang)
    timer = threading.Timer(seconds, send)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)
