"""Run: one problem being solved by one team, from the prompt to the result.

Four phases: the prompt and the headings are encoded; the workers think until something ends it;
one of them may conclude; the blocks are given back. Whatever happens in between, the result holds
what was written.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio

from hogwild_agents import events as ev
from hogwild_agents.actions import Conclude, Finish, Say
from hogwild_agents.conclusion import answer
from hogwild_agents.coordinator import CacheCoordinator, Commit, Seat, TickFeed
from hogwild_agents.desk import Desk
from hogwild_agents.draft import Draft
from hogwild_agents.engine import CacheBlock, Sampled, Sampler, SamplingParams
from hogwild_agents.errors import (
    ContextLengthError,
    LimitError,
    PolicyError,
    RunError,
    TickError,
    UsageError,
)
from hogwild_agents.layouts import Board, Place
from hogwild_agents.limits import Limits
from hogwild_agents.log import get_logger
from hogwild_agents.panel import Panel, check
from hogwild_agents.result import RunResult, Step
from hogwild_agents.worker import Token, Worker

if TYPE_CHECKING:
    from hogwild_agents.team import Team
    from hogwild_agents.transcript import TranscriptWriter

__all__ = ["Limits", "Listener", "Run", "RunResult", "Step"]

_log = get_logger(__name__)

Listener = Callable[[ev.Event], None]
"""Gets every event at once; must not block."""


class _Halt(BaseException):
    """Ends a worker when a limit ends the thinking; no ``except Exception`` may keep it."""


class Run:
    """One problem being solved. Made by :meth:`Team.start`; runs once.

    Args:
        team: whose workers, layout, policies and limits it uses; each run works on copies.
        problem: the problem, checked.
        prompt: the token ids of the prompt.
        on_event: gets every event.
        transcript: where the record goes, if anywhere.
    """

    def __init__(
        self,
        team: Team,
        problem: str,
        prompt: Sequence[int],
        *,
        on_event: Listener | None = None,
        transcript: TranscriptWriter | None = None,
    ) -> None:
        self.team = team
        self.problem = problem
        self.coordinator: CacheCoordinator | None = team.coordinator
        self._prompt = prompt
        self._on_event = on_event
        self._transcript = transcript
        self._panel = Panel(team.policies, self._tell)
        self._desks: dict[str, Desk] = {}
        self._blocks: list[CacheBlock] = []
        self._scope: anyio.CancelScope | None = None
        # what has come of it
        self._steps: list[Step] = []
        self._failures: dict[str, str] = {}
        self._answer: Finish | None = None
        # what ends it
        self._outcome: Finish | Conclude | None = None
        self._limit: str | None = None
        self._failure: Exception | None = None
        self._stopped: str | None = None
        self._ended: str | None = None
        # its clock
        self._ticks = 0
        self._last_tick = 0
        self._due: set[str] = set()  # who has not handled its token of the last tick
        self._tick_open = False
        self._began: float | None = None
        self._seconds: float | None = None

    # -- what callers use

    async def execute(self) -> RunResult:
        """Run to the end.

        Raises:
            UsageError: it was run before.
            RunError: the run failed; its ``result`` holds what was written.
            LimitError: the cache or the context has no room for the prompt.
        """
        if self._ended or self._blocks:
            raise UsageError("A run is executed once: call team.start() for another.")
        async with AsyncExitStack() as stack:
            if self.coordinator is None:
                self.coordinator = CacheCoordinator(self.team.model.engine)
                await stack.enter_async_context(self.coordinator)
            try:
                self._write_header()
                await self._phases()
            except Exception as error:
                self._ended = "failed"
                if isinstance(error, RunError):
                    error.result = self.result
                raise
            finally:
                self._ended = self._ended or "cancelled"
                self.coordinator.release(*self._blocks)
                self._tell(ev.RunEnded(result=self.result))
                if self._transcript is not None:
                    self._transcript.close()
        return self.result

    def stop(self, reason: str = "stopped") -> None:
        """End the run in order, from any task of its event loop."""
        self._stopped = self._stopped or reason
        self._end_thinking()

    @property
    def result(self) -> RunResult:
        """What the run has come to so far."""
        last = self._answer or Finish(reason=self._ended or "running")
        return RunResult(
            answer=last.answer,
            author=last.author,
            reason=last.reason,
            texts=self.texts(),
            steps=tuple(self._steps),
            ticks=self._ticks,
            tokens=self._sampled,
            seconds=self._elapsed,
            failures=dict(self._failures),
        )

    def texts(self) -> dict[str, str]:
        """Return all that each worker has written so far, by name."""
        return {name: desk.draft.text for name, desk in self._desks.items()}

    # -- phases

    async def _phases(self) -> None:
        board = await self._encode()
        if self._stopped is None:
            await self._think(board)
        if self._failure is not None:
            raise self._failure
        if self._limit and not self._outcome and not self._stopped:
            await self.emit(ev.LimitReached(limit=self._limit, tick=self._ticks))
        if isinstance(self._outcome, Conclude):
            await self._conclude(self._outcome)
        elif self._outcome is not None:
            self._answer = self._outcome
        self._ended = self._stopped or self._limit or "left"
        await self._panel.consult(ev.RunEnded(result=self.result), self._ticks)

    async def _encode(self) -> Board:
        """Put the prompt, the headings and the private roles into the cache."""
        team, encode = self.team, self.team.model.encode
        headings = team.headings
        texts = {
            "past": headings.past,
            "others": headings.others,
            "own": headings.own,
            "unfinished": headings.unfinished,
        }
        tokens = {"prompt": self._prompt, **{name: encode(text) for name, text in texts.items()}}
        shared = {name: self._block(name) for name in tokens}
        await self._prefill(
            TickFeed(block=shared[name], tokens=ids, view=[shared[name]])
            for name, ids in tokens.items()
            if ids
        )
        board = Board(
            prompt=shared["prompt"],
            past=shared["past"],
            others=shared["others"],
            own=shared["own"],
            unfinished=shared["unfinished"],
            history=self._block("history"),
            places=[self._place(worker) for worker in team.workers],
        )
        await self._prefill(
            TickFeed(
                block=place.role,
                tokens=encode(headings.role.format(name=worker.name, role=worker.role)),
                view=[board.prompt, place.role],
            )
            for worker, place in zip(team.workers, board.places, strict=True)
            if place.role is not None
        )
        return board

    async def _think(self, board: Board) -> None:
        """Let all workers live, until one of them, a policy or a limit ends it."""
        self._began = time.perf_counter()
        try:
            for worker, place in zip(self.team.workers, board.places, strict=True):
                self._desks[worker.name] = self._desk(worker, place, board)
            async with anyio.create_task_group() as group:
                self._scope = group.cancel_scope
                await self._guard(self._begin())
                for desk in self._desks.values():
                    group.start_soon(self._drive, desk, name=f"worker {desk.name}")
        finally:
            self._scope = None
            self._seconds = self._elapsed
            for desk in self._desks.values():
                desk.seat.leave()

    async def _begin(self) -> None:
        await self.emit(
            ev.RunStarted(
                problem=self.problem,
                workers=tuple(self._desks),
                layout=self.team.layout.name,
                prompt_tokens=len(self._prompt),
            )
        )
        for desk in self._desks.values():
            text, tokens = desk.draft.open_step()
            await self.emit(self._written(desk, tokens, text, "forced"))

    async def _drive(self, desk: Desk) -> None:
        """Run one worker; what it raises concerns it alone, unless the whole run is broken."""
        error: str | None = None
        try:
            await desk.worker.run()
        except _Halt:
            return desk.leave()
        except LimitError as limit:
            self._reach("context" if isinstance(limit, ContextLengthError) else "cache")
            return desk.leave()
        except (TickError, PolicyError) as failure:
            return self._fail(failure)
        except Exception as failure:
            error = self._failures[desk.name] = f"{type(failure).__name__}: {failure}"
            _log.warning("worker failed", worker=desk.name, error=error)
        desk.leave()
        await self._guard(self.emit(ev.WorkerLeft(worker=desk.name, tick=self._ticks, error=error)))
        if error and all(other.left for other in self._desks.values()):
            self._fail(
                RunError(f"The last worker failed ({error}): see the failures of the result.")
            )

    async def _conclude(self, action: Conclude) -> None:
        """Let one worker answer greedily; its tokens count in no budget."""
        desks = list(self._desks.values())
        last = self._desks[action.worker] if action.worker else desks[-1]
        tokens = last.draft.force(action.text)
        self._tell(self._written(last, tokens, action.text, "forced"))

        def write(token: int) -> str:
            text = last.draft.append(token)
            self._tell(self._written(last, (token,), text, "sampled"))
            return text

        found = await answer(
            action.text,
            action.max_tokens,
            last=last,
            desks=desks,
            rejoin=lambda desk: self.join(desk.name, lambda commit: self.committed(desk, commit)),
            write=write,
            sampler=Sampler(SamplingParams(temperature=0.0)),
        )
        self._answer = Finish(answer=found, author=last.name, reason=action.reason)

    # -- what desks call

    def join(self, name: str, on_commit: Callable[[Commit], None]) -> Seat:
        """Return a seat at the coordinator."""
        assert self.coordinator is not None
        return self.coordinator.join(name, on_commit=on_commit)

    async def admit(self, desk: Desk) -> None:
        """Let a worker go on to its next tick, unless a limit ends the thinking.

        Raises:
            _Halt: it does.
        """
        self.settle(desk)
        if self._tick_open and not self._due:
            self._tick_open = False
            await self.emit(
                ev.TickEnded(tick=self._ticks, seconds=self._elapsed, tokens=self._sampled)
            )
        limits = self.team.limits
        if limits.ticks is not None and self._ticks >= limits.ticks:
            self._reach("ticks")
        elif limits.tokens is not None and self._sampled >= limits.tokens:
            self._reach("tokens")
        elif limits.seconds is not None and self._elapsed >= limits.seconds:
            self._reach("seconds")
        if self._limit is not None:
            raise _Halt

    def settle(self, desk: Desk) -> None:
        """Note that a worker has handled its token of the last tick."""
        self._due.discard(desk.name)
        if self._limit is not None and all(other.idle for other in self._desks.values()):
            self._end_thinking()

    async def write_sampled(self, desk: Desk, sampled: Sampled) -> Token:
        """Book a sampled token, tell everybody, and take what policies ask for."""
        step = desk.draft.step
        written = desk.draft.sample(sampled.token)
        ended = written.step_ended
        await self.emit(
            ev.TokensWritten(
                worker=desk.name,
                step=step,
                tick=self._ticks,
                tokens=(sampled.token,),
                text=written.text,
                source="sampled",
                logprobs=() if sampled.logprob is None else (sampled.logprob,),
            )
        )
        if ended is not None:
            self._steps.append(Step(worker=desk.name, number=step, text=ended, tick=self._ticks))
            await self.emit(
                ev.StepEnded(
                    worker=desk.name,
                    step=step,
                    tick=self._ticks,
                    text=ended,
                    tokens_written=desk.draft.sampled,
                )
            )
            opening = self._written(desk, written.next_tokens, written.next_prefix, "forced")
            await self.emit(opening)
        return Token(
            id=sampled.token,
            text=written.text,
            ends_step=ended is not None,
            logprob=sampled.logprob,
            top=sampled.top,
        )

    async def write_forced(self, desk: Desk, text: str) -> None:
        """Append text that the model did not choose, and tell everybody."""
        tokens = desk.draft.force(text)
        await self.emit(self._written(desk, tokens, text, "forced"))

    def empty_inbox(self, desk: Desk) -> None:
        """Write what policies had a worker say, now that all before it stands."""
        while desk.inbox:
            text = desk.inbox.pop(0)
            self._tell(self._written(desk, desk.draft.force(text), text, "forced"))

    def committed(self, desk: Desk, commit: Commit) -> None:
        """Book one worker's part of a tick; called between two ticks."""
        closing = desk.draft.place.closing
        sources = desk.draft.committed(commit)
        if commit.moves and closing is not None:
            self._release(closing)
        if self._transcript is not None:
            self._transcript.commit(desk.name, commit, sources)
        if self._seconds is None:
            self._due.add(desk.name)
            self._tick_open = True
            if commit.tick != self._last_tick:
                self._last_tick = commit.tick
                self._ticks += 1

    # -- events and actions

    async def emit(self, event: ev.Event) -> None:
        """Tell an event to everybody, then take what the policies ask for, in their order.

        Raises:
            PolicyError: a controller raised, or asked for what cannot be.
        """
        self._tell(event)
        present = {name: not desk.left for name, desk in self._desks.items()}
        for proposal in await self._panel.consult(event, self._ticks):
            check(proposal, event, present, self.team.model.encode)
            action = proposal.action
            self._tell(ev.ActionTaken(policy=proposal.policy, action=action, tick=self._ticks))
            if isinstance(action, Say):
                self._desks[action.worker].inbox.append(action.text)
            elif self._outcome is None:
                self._outcome = action
                self._end_thinking()

    def _tell(self, event: ev.Event) -> None:
        if self._transcript is not None:
            self._transcript.event(event)
        if self._on_event is not None:
            self._on_event(event)

    def _written(
        self, desk: Desk, tokens: Sequence[int], text: str, source: ev.Source
    ) -> ev.TokensWritten:
        return ev.TokensWritten(
            worker=desk.name,
            step=desk.draft.step,
            tick=self._ticks,
            tokens=tuple(tokens),
            text=text,
            source=source,
        )

    # -- small change

    @property
    def _sampled(self) -> int:
        return sum(desk.draft.sampled for desk in self._desks.values())

    @property
    def _elapsed(self) -> float:
        if self._seconds is not None:
            return self._seconds
        return 0.0 if self._began is None else time.perf_counter() - self._began

    async def _guard(self, emitting: Awaitable[None]) -> None:
        """Emit outside of a worker: a policy's failure ends the run in order."""
        try:
            await emitting
        except PolicyError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._end_thinking()

    def _reach(self, limit: str) -> None:
        if self._limit is None:
            self._limit = limit
            _log.info("limit reached", limit=limit, tick=self._ticks)

    def _end_thinking(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _prefill(self, feeds: Iterable[TickFeed]) -> None:
        requests = list(feeds)
        if requests:
            with self.join("", self._record_prefill) as seat:
                await seat.submit(*requests)

    def _write_header(self) -> None:
        if self._transcript is None:
            return
        from hogwild_agents.transcript import TranscriptHeader

        team = self.team
        self._transcript.header(
            TranscriptHeader.of_run(
                model=team.model.name,
                vocab_size=team.model.engine.vocab_size,
                problem=self.problem,
                workers=team.workers,
                layout=team.layout.name,
                seed=team.seed,
                limits=team.limits,
                sampling=team.sampling,
            )
        )

    def _record_prefill(self, commit: Commit) -> None:
        if self._transcript is not None:
            forced: list[Sequence[ev.Source]] = [
                ["forced"] * len(feed.tokens) for feed in commit.feeds
            ]
            self._transcript.commit("", commit, forced)

    def _desk(self, worker: Worker, place: Place, board: Board) -> Desk:
        team = self.team
        draft = Draft(place, board, team.layout, team.headings, team.model, self._block)
        return Desk(self, copy.copy(worker), draft, self._sampler(worker), team.model.stop_ids)

    def _sampler(self, worker: Worker) -> Sampler:
        team = self.team
        params = worker.sampling or team.sampling
        params = params.replace(banned=params.banned | team.model.reasoning_bans)
        seed = worker.seed
        if seed is None:
            seed = random.Random(f"{team.seed}/{worker.name}").getrandbits(63)
        return Sampler(params, seed)

    def _place(self, worker: Worker) -> Place:
        role = self._block(f"{worker.name}'s role") if worker.role else None
        return Place(worker.name, self._block(f"{worker.name} [1]"), role)

    def _block(self, name: str) -> CacheBlock:
        block = self.team.model.engine.block(name)
        self._blocks.append(block)
        return block

    def _release(self, block: CacheBlock) -> None:
        assert self.coordinator is not None
        self._blocks.remove(block)
        self.coordinator.release(block)
