"""Run: one problem being solved by one team, from the prompt to the result.

Four phases: the prompt and the headings are encoded; the workers think until something ends it;
one of them may conclude; the blocks are given back. Whatever happens in between, the result holds
what was written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio

from hogwild_agents import events as ev
from hogwild_agents.actions import Action, Conclude, Finish
from hogwild_agents.answer_type import AnswerType
from hogwild_agents.conclusion import conclude
from hogwild_agents.coordinator import CacheCoordinator, Commit, TickFeed
from hogwild_agents.ending import Ending
from hogwild_agents.engine import CacheBlock, Feed
from hogwild_agents.errors import CacheFullError, RunError, UsageError
from hogwild_agents.layouts import Board
from hogwild_agents.limits import Limits
from hogwild_agents.opening import encode_opening
from hogwild_agents.panel import Panel
from hogwild_agents.record import Listener, Record
from hogwild_agents.result import RunResult, Step
from hogwild_agents.share import Share
from hogwild_agents.thinking import Thinking, only, say
from hogwild_agents.unknown_names import warn_of_unknown

if TYPE_CHECKING:
    from hogwild_agents.team import Team
    from hogwild_agents.transcript import TranscriptWriter

__all__ = ["Limits", "Listener", "Run", "RunResult", "Step"]


class Run:
    """One problem being solved. Made by :meth:`Team.start`; runs once.

    Args:
        team: whose workers, layout, policies and limits it uses; each run works on copies.
        problem: the problem, checked.
        prompt: the token ids of the prompt.
        on_event: gets every event.
        transcript: where the record goes, if anywhere.
        answer_type: what the answer has to be, if it has to be something.

    Raises:
        ConfigError: a policy cannot be copied.
    """

    def __init__(
        self,
        team: Team,
        problem: str,
        prompt: Sequence[int],
        *,
        on_event: Listener | None = None,
        transcript: TranscriptWriter | None = None,
        answer_type: AnswerType[Any] | None = None,
    ) -> None:
        self.answer_type = answer_type
        self.team = team
        self.problem = problem
        self._prompt = prompt
        self._ending = Ending()
        self._record = Record(transcript, on_event, self._ending.fail)
        self._panel = Panel(team.policies)
        self._share = Share(team.model.engine, team.coordinator)
        self._thinking = Thinking(
            problem, team, self._panel, self._record, self._ending, self._share
        )
        self._panel.seat(self._thinking.view)
        self._begun = False
        self._ended: str | None = None
        self._answer: Finish | None = None
        self._result: RunResult | None = None

    # -- what callers use

    @property
    def coordinator(self) -> CacheCoordinator | None:
        """What runs the ticks; None before :meth:`execute` has made it."""
        return self._share.coordinator

    async def execute(self) -> RunResult:
        """Run to the end.

        Raises:
            UsageError: it was run before.
            RunError: the run failed; its ``result`` holds what was written.
            LimitError: the cache or the context has no room for the prompt.
            TranscriptError: the transcript could not be written to its end.
        """
        if self._begun:
            raise UsageError("A run is executed once: call team.start() for another.")
        self._begun = True
        async with AsyncExitStack() as stack:
            stack.callback(self._close)
            await self._attempt(self._solve(stack))
            self._ended = self._ending.reason
            event = ev.RunEnded(result=self.result)
            await self._attempt(self._thinking.exchange.end(event))
        failure = self._ending.failure
        if isinstance(failure, RunError):
            failure.result = self.result
        if failure is not None:
            raise failure
        warn_of_unknown(self._thinking.workers, self._thinking.texts)
        return self.result

    @property
    def thinks(self) -> bool:
        """Whether workers are thinking at the moment."""
        return self._thinking.thinks

    def stop(self, reason: str = "stopped") -> None:
        """End the run in order, from any task of its event loop."""
        self._ending.stop(reason)

    def say(
        self, text: str, to: str | Sequence[str] | None = None, *, speaker: str = "User"
    ) -> None:
        """Tell the workers something; they see it with the next tick, as a step of the speaker.

        Call it from any task of the run's event loop while the workers think.

        Args:
            text: what to say.
            to: who shall see it: a name or several; None for all workers, those to come too.
            speaker: under which name, one line; not that of a worker.

        Raises:
            UsageError: the text is empty, or a name is wrong; nothing was said.
            ClosedError: nobody is thinking yet, or any more.
        """
        self._thinking.say(text, (to,) if isinstance(to, str) else to, speaker)

    def act(self, action: Action) -> None:
        """Take an action from outside, as a policy would; policies hear of it after the next tick.

        Raises:
            UsageError: it cannot be taken; nothing has changed, and nobody is told.
            ConfigError: likewise, because a policy cannot be copied for who would join.
            ClosedError: nobody is thinking yet, or any more.
        """
        self._thinking.act(action, "The caller of act")

    def switch(self, policy: str, *, on: bool) -> None:
        """Switch the policies of this name on or off from now on.

        One that decides for a team is switched in all the team's runs.

        Raises:
            UsageError: the run has no such policy.
        """
        self._panel.switch(policy, on)

    @property
    def result(self) -> RunResult:
        """What the run has come to so far; once it has ended, always the same."""
        return self._result or self._so_far()

    def _so_far(self) -> RunResult:
        last = self._answer or Finish(reason=self._ended or "running")
        thinking = self._thinking
        return RunResult(
            answer=last.answer,
            author=last.author,
            reason=last.reason,
            texts=thinking.texts,
            steps=tuple(thinking.steps),
            ticks=thinking.clock.ticks,
            tokens=thinking.sampled,
            seconds=thinking.clock.seconds,
            failures={name: say(error) for name, error in thinking.failures.items()},
            problem=self.problem,
        )

    # -- phases

    async def _solve(self, stack: AsyncExitStack) -> None:
        """Go through the phases, up to an answer or a reason why there is none."""
        ending = self._ending
        await self._share.open(stack)
        self._record.begin(self.team, self.problem)
        with ending.phase() as scope:
            board = await self._encode()
            await self._think(board, scope)
        if scope.cancelled_caught and ending.natural:  # so it was the deadline
            ending.reach("seconds")
        await self._share.let_pass()
        self._fail_if_all_have()
        if ending.failure is None:
            await self._draw_conclusion()

    async def _encode(self) -> Board:
        team = self.team
        return await encode_opening(
            self._prompt,
            team.workers,
            team.opening,
            new_block=self._share.block,
            prefill=self._prefill,
            borrow=self._borrow if self._share.several else None,
        )

    async def _think(self, board: Board, scope: anyio.CancelScope) -> None:
        if self.team.limits.seconds is not None:
            scope.deadline = anyio.current_time() + self.team.limits.seconds
        started = ev.RunStarted(
            problem=self.problem,
            workers=self.team.names,
            layout=self.team.layout.name,
            prompt_tokens=len(self._prompt),
        )
        await self._thinking.think(board, started)

    def _fail_if_all_have(self) -> None:
        failures = self._thinking.failures
        if self._ending.natural and len(failures) == len(self.team.workers):
            *_, (name, last) = failures.items()
            error = RunError(
                f"All workers failed, the last one was {name} ({say(last)}): mend what they run."
            )
            error.__cause__ = last
            self._ending.fail(error)

    async def _draw_conclusion(self) -> None:
        """Take the answer that there is, or have one given."""
        ending, thinking = self._ending, self._thinking
        if ending.outcome and not ending.stopped:
            await thinking.exchange.wind_up()
        elif not ending.stopped:
            limit, tick = ending.limit, thinking.clock.ticks
            reached = [] if limit is None else [ev.LimitReached(limit=limit, tick=tick)]
            await thinking.exchange.hear_out(*reached)
        if isinstance(ending.outcome, Finish):
            self._answer = ending.outcome
        elif isinstance(ending.outcome, Conclude) and ending.stopped is None:
            self._answer = await self._conclude(ending.outcome)
        if self.answer_type is not None and self._answer is not None:
            await self._insist(self._answer, self.answer_type)

    async def _conclude(self, action: Conclude) -> Finish | None:
        with self._ending.phase():
            return await conclude(action, self._thinking, self._share.join)
        return None  # it was stopped meanwhile

    async def _insist(self, answer: Finish, kind: AnswerType[Any]) -> None:
        """Have an answer that is not of the right type given once more, by the same worker."""
        fault = kind.fault(answer.answer)
        if fault is None or answer.answer is None or self._ending.stopped is not None:
            return
        action, tick = kind.retry(answer, fault), self._thinking.clock.ticks
        self._record.tell(ev.ActionTaken(policy="AnswerType", action=action, tick=tick))
        second = await self._conclude(action)
        if second is not None and kind.fault(second.answer) is None:
            self._answer = second

    async def _borrow(self, tokens: Sequence[int], name: str) -> CacheBlock:
        """Take a block that runs share; the transcript has its tokens, whoever has fed them."""
        fed = False

        async def prefill(block: CacheBlock) -> None:
            nonlocal fed
            fed = True
            await self._prefill([TickFeed(block=block, tokens=tokens, view=[block])])

        block = await self._share.borrow(tokens, name, prefill)
        if not fed and tokens and self._record.kept:
            assert self.coordinator is not None, "the block is from it"
            tick = self.coordinator.statistics().ticks
            feed = Feed(block, [block], tokens)
            self._record.prefilled(Commit(tick=tick, seat="", feeds=(feed,), moves=()))
        return block

    async def _prefill(self, feeds: Sequence[TickFeed]) -> None:
        with self._share.join("", self._record.prefilled) as seat:
            try:
                await seat.submit(*feeds)
            except CacheFullError as error:
                assert self.coordinator is not None, "the seat is its"
                engine = self.coordinator.engine
                raise CacheFullError(
                    f"The run begins with {sum(len(feed.tokens) for feed in feeds)} tokens, but of "
                    f"the cache budget of {engine.max_tokens} there is room for "
                    f"{engine.free_tokens}: shorten the prompt, or load the model with a larger "
                    "max_tokens or max_bytes (--cache-tokens)."
                ) from error

    # -- the end

    async def _attempt(self, phase: Awaitable[object]) -> None:
        try:
            await phase
        except Exception as error:
            self._ending.fail(only(error))

    def _close(self) -> None:
        """Give the blocks back, and tell the end; also when the run is cancelled from outside."""
        failed = self._ending.failure is not None
        self._ended = "failed" if failed else self._ended or "cancelled"
        self._share.give_back()
        self._result = self._so_far()
        self._record.end(ev.RunEnded(result=self._result))
