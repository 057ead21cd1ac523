"""Workers of one's own, and what one worker does to the others: nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings, strategies as st

from hogwild_agents.actions import (
    Action,
    Dismiss,
    EndStep,
    Finish,
    Park,
    Probe,
    Resume,
    Say,
    Spawn,
)
from hogwild_agents.engine import Engine, SamplingParams
from hogwild_agents.errors import ClosedError, ConfigError, RunError
from hogwild_agents.events import (
    ActionTaken,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.layouts import LAYOUTS, Board, Combined, Layout, Place
from hogwild_agents.limits import Limits
from hogwild_agents.policy import Policy
from hogwild_agents.unknown_names import UnknownWorkerWarning
from hogwild_agents.worker import Token, Worker
from tests.runtime.book import check_feeds
from tests.runtime.rig import (
    GREEDY,
    PROBLEM,
    Play,
    Typist,
    language_model,
    make_team,
    play,
    run_on,
    solve,
    steps_of,
    until,
    watched,
)

pytestmark = pytest.mark.anyio
NONE = Limits()


def left(record: Play) -> dict[str, str | None]:
    return {event.worker: event.error for event in record.told(WorkerLeft)}


# -- what a worker can do


async def test_a_scripted_worker_writes_reads_and_leaves() -> None:
    seen: list[str] = []

    class Clerk(Worker):
        async def run(self) -> None:
            await self.write("Let me see. ")
            token = await self.next_token()
            assert isinstance(token, Token)
            assert self.text == f"**Clerk [1]:** Let me see. {token.text}" == self.step_text
            assert self.step == 1
            seen.append(self.others["Bob"])
            await self.write(f"Bob wrote {len(self.others['Bob'])} characters.")

    record = await solve(make_team(workers=[Clerk("Clerk"), "Bob"], limits=Limits(ticks=6)))
    check_feeds(record)
    assert seen[0].startswith("**Bob [1]:** ")
    assert " characters." in record.result.texts["Clerk"]
    assert left(record) == {"Clerk": None}
    assert record.result.reason == "ticks"


async def test_what_is_written_is_fed_before_a_worker_leaves() -> None:
    workers = [Typist("Alice", "hello", ".\n\n"), Typist("Bob", "hello to Alice")]
    record = await solve(make_team(workers=workers, limits=NONE))
    ledger = check_feeds(record)
    assert record.result.reason == "left"
    model = record.team.model
    assert model.decode(ledger.named("history")) == "**Alice [1]:** hello.\n\n"
    assert model.decode(ledger.named("Alice [2]")) == "**Alice [2]:** "
    assert model.decode(ledger.named("Bob [1]")) == record.result.texts["Bob"]


async def test_a_worker_that_has_left_stays_visible() -> None:
    record = await solve(make_team(workers=[Typist("Alice", "hello"), Typist("Bob", 9)]))
    check_feeds(record)
    views = [
        [entry.name for entry in feed.view]  # type: ignore[union-attr]
        for commit in record.commits
        if commit.seat == "Bob"
        for feed in commit.feeds
    ]
    assert all("Alice [1]" in view for view in views)


async def test_a_worker_whose_run_returns_at_once() -> None:
    for workers in ([Typist("Alice")], [Typist("Alice"), Typist("Bob", 4)]):
        record = await solve(make_team(workers=workers, limits=NONE))
        ledger = check_feeds(record)
        assert record.result.reason == "left"
        assert record.result.texts["Alice"] == "**Alice [1]:** "
        assert record.team.model.decode(ledger.named("Alice [1]")) == "**Alice [1]:** "


async def test_thinking_can_have_a_length() -> None:
    class Short(Worker):
        async def run(self) -> None:
            await self.think(max_tokens=5)

    record = await solve(make_team(workers=[Short("Alice"), Short("Bob")], limits=NONE))
    assert record.result.reason == "left"
    assert record.result.tokens == 10
    assert record.result.ticks == 6  # the last tokens are fed too
    check_feeds(record)


async def test_thinking_ends_at_the_end_of_text() -> None:
    model = language_model()
    stop = min(model.stop_ids)
    assert stop in model.reasoning_bans

    class Ender(Typist):
        async def run(self) -> None:
            params = self.desk.sampler.params
            self.desk.sampler.params = params.replace(banned=frozenset(), bias={stop: 1e4})
            await self.think()

    record = await solve(make_team(model, workers=[Ender("Alice")], limits=NONE))
    assert record.result.tokens == 1
    assert record.result.reason == "left"


async def test_a_parked_worker_holds_nobody_up() -> None:
    async def wait_for_bob(worker: Typist) -> None:
        with worker.parked():
            await until(lambda: "[2]" in worker.others["Bob"])
        await worker.write("Thanks, Bob. ")

    workers = [Typist("Alice", 2, wait_for_bob, 2), steps_of("Bob", [6, 9])]
    record = await solve(make_team(workers=workers))
    check_feeds(record)
    assert "Thanks, Bob. " in record.result.texts["Alice"]
    ticks = [e.tick for e in record.told(TokensWritten) if e.worker == "Alice"]
    assert max(b - a for a, b in pairwise(ticks)) >= 5


async def test_all_may_be_parked_at_once() -> None:
    async def nap(worker: Typist) -> None:
        with worker.parked():
            await anyio.sleep(0.02)

    workers = [Typist("Alice", 2, nap, 2), Typist("Bob", nap, 2, nap)]
    record = await solve(make_team(workers=workers, limits=NONE))
    check_feeds(record)
    assert record.result.reason == "left"


async def test_what_is_written_before_a_pause_is_seen_during_it_if_flushed() -> None:
    async def pause(worker: Typist) -> None:
        with worker.parked():
            await anyio.sleep(0.05)

    async def flush(worker: Typist) -> None:
        await worker.flush()

    for script in (("hello", flush, pause), ("hello", pause)):
        record = await solve(
            make_team(workers=[Typist("Alice", *script), "Bob"], limits=Limits(ticks=7))
        )
        check_feeds(record)


async def test_an_interrupted_worker_goes_on_with_new_text() -> None:
    lost: list[bool] = []

    async def interrupt(worker: Typist) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.next_token)
            for _ in range(60):
                await checkpoint()
            group.cancel_scope.cancel()
        await worker.write("Where was I? ")
        lost.append(True)

    record = await solve(make_team(workers=[Typist("Alice", 2, interrupt, 3), Typist("Bob", 9)]))
    check_feeds(record)
    assert lost
    assert not record.result.failures


async def test_a_lost_token_is_told_where_nothing_can_follow() -> None:
    async def lose(worker: Typist) -> None:
        worker._ahead = None
        await worker.next_token()

    async def flush(worker: Typist) -> None:
        await worker.flush()

    record = await solve(make_team(workers=[Typist("Alice", flush, lose), Typist("Bob", 3)]))
    assert "nothing to continue from" in record.result.failures["Alice"]


class Loses(Typist):
    """Loses a token: it is cancelled while the tick is computed that it comes of."""

    async def lose(self) -> None:
        with anyio.CancelScope() as scope:
            with cancelled_in_mid_tick(scope, self.desk._thinking.model.engine):
                await self.next_token()
        assert scope.cancelled_caught


@contextmanager
def cancelled_in_mid_tick(scope: anyio.CancelScope, engine: Engine) -> Iterator[None]:
    plain = engine.forward

    def forward(*args: Any, **options: Any) -> Any:
        anyio.from_thread.run_sync(scope.cancel)
        return plain(*args, **options)

    with patch.object(engine, "forward", forward):
        yield


async def test_a_token_lost_with_a_tick_under_way_is_told_where_nothing_can_follow() -> None:
    async def lose(worker: Typist) -> None:
        assert isinstance(worker, Loses)
        await worker.lose()
        await worker.flush()
        await worker.next_token()

    record = await solve(make_team(workers=[Loses("Alice", 1, lose), Typist("Bob", 5)]))
    assert "nothing to continue from" in record.result.failures["Alice"]
    check_feeds(record)


async def test_who_finds_out_what_is_fed_is_asked_with_what_it_feeds_next() -> None:
    class Asks(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            if event.tick != 2:
                return []
            return [Probe(worker="Alice", question="Sure? ", answers=("yes", "no"))]

    async def lose(worker: Typist) -> None:
        assert isinstance(worker, Loses)
        await worker.lose()
        await worker.write("Where was I? ")

    record = await solve(
        make_team(workers=[Loses("Alice", 1, lose), Typist("Bob", 5)], policies=[Asks()])
    )
    assert not record.result.failures
    fed = [
        [feed.block.name for feed in commit.feeds]
        for commit in record.commits
        if commit.seat == "Alice" and commit.feeds
    ]
    assert [names[:2] for names in fed] == [["Alice [1]"], ["Alice [1]"], ["Alice [1]", "probe"]]


@pytest.mark.parametrize("reference_order", [False, True])
async def test_a_parked_worker_that_was_cancelled_in_mid_tick_moves_its_step_once(
    reference_order: bool,
) -> None:
    """In the reference's order, all but the step's last token is fed already, and only moves."""

    class Parks(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            return [Park(worker="Alice")] if event.step == 1 else []

        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            return [Resume(worker="Alice")] if event.tick == 4 else []

    async def write(worker: Typist) -> None:
        await worker.write("Well, ")

    async def lose(worker: Typist) -> None:
        await worker.end_step()
        with (
            anyio.CancelScope() as scope,
            cancelled_in_mid_tick(scope, worker.desk._thinking.model.engine),
        ):
            await worker.flush()
        assert scope.cancelled_caught

    async def end(worker: Typist) -> None:
        await worker.end_step()
        await worker.flush()

    record = await solve(
        make_team(
            workers=[Typist("Alice", write, lose, write, end, write, end), Typist("Bob", 12)],
            layout=Combined(reference_order=reference_order),
            policies=[Parks()],
        )
    )
    assert not record.result.failures
    moves = [move for commit in record.commits for move in commit.moves if commit.seat == "Alice"]
    assert [move.source.name for move in moves] == ["Alice [1]", "Alice [2]", "Alice [3]"]


async def test_a_step_that_ends_while_another_one_is_fed_waits_for_it() -> None:
    async def lose(worker: Typist) -> None:
        with (
            anyio.CancelScope() as scope,
            cancelled_in_mid_tick(scope, worker.desk._thinking.model.engine),
        ):
            await worker.write("one. ")
        assert scope.cancelled_caught
        await worker.end_step()
        await worker.write("two. ")

    record = await solve(
        make_team(workers=[Typist("Alice", "Now.\n\n", lose, 3), Typist("Bob", 14)], limits=NONE)
    )
    assert not record.result.failures
    expected = "**Alice [1]:** Now.\n\n**Alice [2]:** one. \n\n**Alice [3]:** two. "
    assert record.result.texts["Alice"].startswith(expected)
    check_feeds(record)


async def test_what_is_written_behind_the_end_of_a_step_stands_behind_it() -> None:
    """Though what a policy said has begun that step, and the end of the one before is not fed."""

    class Notes(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            return [Say(worker="Alice", text="note. ")] if event.step == 1 else []

    async def write(worker: Typist) -> None:
        await worker.end_step()
        await worker.write("two. ")
        await worker.end_step()
        await worker.write("three. ")

    alice = Typist("Alice", "Now.\n\n", write)
    record = await solve(make_team(workers=[alice], policies=[Notes()], limits=NONE))
    steps = "Now.\n\n", "note. \n\n", "two. \n\n", "three. "
    expected = "".join(f"**Alice [{number}]:** {text}" for number, text in enumerate(steps, 1))
    assert record.result.texts["Alice"] == expected
    check_feeds(record)


async def test_every_tick_is_told_though_who_ends_it_is_dismissed() -> None:
    class Dismisses(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            due = event.worker == "Alice" and event.tick == 5 and event.source == "sampled"
            return [Dismiss(worker="Bob")] if due else []

    team = make_team(workers=["Alice", "Bob"], policies=[Dismisses()], limits=Limits(ticks=9))
    record = await solve(team)
    assert [event.tick for event in record.told(TickEnded)] == list(range(1, 10))
    assert left(record) == {"Bob": None}


@pytest.mark.parametrize("cut", [TokensWritten, WorkerJoined, TickEnded])
async def test_every_tick_is_told_though_who_ends_it_cuts_its_own_call_off(cut: type) -> None:
    """Policies that were not asked meanwhile are asked after the next tick."""

    class Waits(Policy):
        async def wait(self, event: Any) -> None:
            late = event.tick == 3 and getattr(event, "worker", "") != "Alice"
            if late and type(event) is cut and not waiting.is_set():
                waiting.set()
                await anyio.sleep_forever()

        on_tokens_written = on_worker_joined = on_tick_ended = wait

    class Hears(Policy):
        decides = "team"

        async def on_tick_ended(self, event: TickEnded) -> None:
            heard.append(event.tick)

    async def cut_off(worker: Typist) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.next_token)
            await waiting.wait()
            group.cancel_scope.cancel()
        with worker.parked():
            await until(lambda: worker.run_view.ticks > 5)

    def listen(event: Any) -> None:
        record.events.append(event)
        if isinstance(event, TokensWritten) and (event.worker, event.tick) == ("Bob", 3):
            run.say("I join.", speaker="Joe")

    heard: list[int] = []
    waiting = anyio.Event()
    workers = ["Alice", Typist("Bob", 2, cut_off, 9)]
    team = make_team(workers=workers, policies=[Hears(), Waits()], limits=Limits(ticks=9))
    record = Play(team)
    async with watched(team, record):
        run = team.start(PROBLEM, on_event=listen)
        await run.execute()
    assert waiting.is_set()
    assert [event.tick for event in record.told(TickEnded)] == list(range(1, 10))
    assert heard == list(range(1, 10))


async def test_policies_hear_of_a_tick_though_who_ends_it_is_dismissed() -> None:
    class Dismisses(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            due = event.worker == "Bob" and event.tick == 3 and event.source == "sampled"
            return [Dismiss(worker="Bob")] if due else []

    class Hears(Policy):
        decides = "team"

        async def on_tokens_written(self, event: TokensWritten) -> None:
            await checkpoint()
            heard.append(event)

        async def on_tick_ended(self, event: TickEnded) -> None:
            await checkpoint()
            heard.append(event)

    heard: list[Any] = []
    policies = [Dismisses(), Hears(), Hears()]
    team = make_team(workers=["Alice", "Bob"], policies=policies, limits=Limits(ticks=5))
    record = await solve(team)
    assert left(record) == {"Bob": None}
    told = record.told(TokensWritten, TickEnded)
    assert heard == [event for event in told for _ in range(2)]


async def test_a_parked_worker_whose_step_is_to_end_leaves_when_it_is_dismissed() -> None:
    class Dismisses(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            name = event.worker
            if event.step > 1:
                return []
            end = EndStep(worker=name)
            return [Say(worker=name, text="note. "), end, Park(worker=name), Dismiss(worker=name)]

    workers = [Typist("Alice", "Now.\n\n", 9), Typist("Bob", 12)]
    record = await solve(make_team(workers=workers, policies=[Dismisses()], limits=NONE))
    assert left(record) == {"Alice": None, "Bob": None}
    assert record.result.reason == "left"


async def test_who_leaves_while_policies_wait_is_no_fault_of_theirs() -> None:
    class Asks(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            return [Say(worker="Bob", text="Go on. ")]

    class Watches(Policy):
        async def on_step_ended(self, event: StepEnded) -> None:
            ended.set()
            await until(lambda: "Bob" not in self.run.names)

    async def leave(worker: Typist) -> None:
        with worker.parked():
            await ended.wait()

    ended = anyio.Event()
    workers = [Typist("Alice", "Now.\n\n", 3), Typist("Bob", leave)]
    record = await solve(make_team(workers=workers, policies=[Asks(), Watches()], limits=NONE))
    assert record.result.reason == "left"
    assert "Go on." not in record.result.texts["Bob"]


@pytest.mark.parametrize("layout", list(LAYOUTS))
async def test_who_goes_on_from_the_text_of_one_who_leaves_joins(layout: str) -> None:
    """Though all of that is fed, so that the one who leaves takes part in no more ticks."""

    class Forks(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            fork = Spawn(worker=Typist("Carol", 3), fork_of="Alice")
            return [fork] if event.tick == 1 else []

    async def write(worker: Typist) -> None:
        await worker.write("It is 7, ")

    team = make_team(workers=[Typist("Alice", write)], layout=layout, policies=[Forks()])
    record = Play(team)
    async with watched(team, record):
        result = await team.solve(PROBLEM, on_event=record.events.append)
    assert result.reason == "left"
    assert left(record) == {"Alice": None, "Carol": None}
    assert result.texts["Carol"].startswith(result.texts["Alice"])
    assert result.ticks == 1 + 3 + 1  # hers, his tokens, and the last of them is fed
    (copy,) = [fork for commit in record.commits for fork in commit.forks]
    hers, his, *_ = [
        feed for c in record.commits if c.seat in ("Alice", "Carol") for feed in c.feeds
    ]
    assert his.block is copy.target
    assert his.tokens == hers.tokens[-1:]


async def test_the_name_of_a_fork_whose_source_fails_is_free() -> None:
    class Picky(Combined):
        def view(self, board: Board, place: Place, block: Any) -> Sequence[Any]:
            if place.name == "Alice":
                raise LookupError("no view for Alice")
            return super().view(board, place, block)

    class Spawns(Policy):
        async def on_run_started(self, event: RunStarted) -> Sequence[Action]:
            return [Spawn(worker=Typist("Carol", 3), fork_of="Alice")]

        async def on_worker_left(self, event: WorkerLeft) -> Sequence[Action]:
            return [Spawn(worker=Typist("Carol", 3))] if event.worker == "Alice" else []

    team = make_team(workers=["Alice", Typist("Bob", 2)], layout=Picky(), policies=[Spawns()])
    record = await solve(team)
    assert left(record).keys() == {"Alice", "Bob", "Carol"}
    assert record.result.texts["Carol"].startswith("**Carol [1]:** ")


async def test_who_leaves_before_policies_hear_of_a_speech_is_no_fault_of_theirs() -> None:
    """They are asked about it at the end of the tick."""

    class Passes(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            heard.append(event.worker)
            return [Say(worker="Bob", text="Do that. ")] if event.worker == "Pat" else []

    async def hear_and_leave(worker: Typist) -> None:
        worker.desk._thinking.say("Stop, please.", None, "Pat")

    heard: list[str] = []
    workers = [Typist("Alice", 9), Typist("Bob", 2, hear_and_leave)]
    record = await solve(make_team(workers=workers, policies=[Passes()], limits=NONE))
    assert heard == ["Pat"]
    assert left(record) == {"Bob": None, "Alice": None}
    assert "Do that." not in record.result.texts["Bob"]


async def test_who_dismisses_somebody_has_all_other_actions_taken_too() -> None:
    """Though the policies are asked in the task of who is dismissed, and somebody joins."""

    class Replaces(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            if "Enough" not in event.text:
                return []
            said = [Say(worker="Bob", text=text) for text in ("Go ", "on ", "then. ")]
            return [Dismiss(worker="Alice"), Spawn(worker=Typist("Carol", 2)), *said]

        async def on_action_taken(self, event: ActionTaken) -> None:
            await checkpoint()

    async def write(worker: Typist) -> None:
        await worker.write("Enough. ")

    workers = [Typist("Alice", 2, write, 5), Typist("Bob", 9)]
    record = await solve(make_team(workers=workers, policies=[Replaces()], limits=NONE))
    assert left(record) == {"Alice": None, "Bob": None, "Carol": None}
    assert "Go on then. " in record.result.texts["Bob"]


async def test_two_tasks_of_a_worker_cannot_write_at_once() -> None:
    class Torn(Worker):
        async def run(self) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(self.write, "one ")
                group.start_soon(self.write, "two ")

    record = await solve(make_team(workers=[Torn("Alice"), Typist("Bob", 4)], limits=NONE))
    assert "waits for a tick already" in record.result.failures["Alice"]
    check_feeds(record)


async def test_writing_nothing_changes_nothing() -> None:
    async def nothing(worker: Typist) -> None:
        await worker.write("")

    alone = await solve(make_team(workers=[Typist("Alice", 3)], limits=NONE))
    record = await solve(make_team(workers=[Typist("Alice", 1, nothing, 2)], limits=NONE))
    assert record.result.texts == alone.result.texts


async def test_log_probabilities_come_with_the_tokens() -> None:
    tokens: list[Token] = []

    class Watcher(Worker):
        async def run(self) -> None:
            tokens.append(await self.next_token())

    sampling = SamplingParams(temperature=0.0, logprobs=3)
    record = await solve(make_team(workers=[Watcher("Alice", sampling=sampling)], limits=NONE))
    (token,) = tokens
    (event,) = [e for e in record.told(TokensWritten) if e.source == "sampled"]
    assert token.logprob is not None
    assert event.logprobs == (token.logprob,)
    assert token.top[0] == (token.id, token.logprob)
    assert len(token.top) == 3


def test_a_worker_in_no_run_says_so() -> None:
    worker = Worker("Alice")
    assert repr(worker) == "Worker('Alice')"
    with pytest.raises(ClosedError, match="in no run"):
        _ = worker.text


async def test_each_run_works_on_a_copy_of_a_worker() -> None:
    class Counter(Worker):
        count = 0

        async def run(self) -> None:
            self.count += 1
            await self.think(2)

    worker = Counter("Alice")
    team = make_team(workers=[worker], limits=NONE)
    await solve(team)
    await solve(team)
    assert worker.count == 0
    assert worker._desk is None


# -- what becomes of the others


async def fail(worker: Typist) -> None:
    raise ValueError("my tool broke")


async def fail_parked(worker: Typist) -> None:
    with worker.parked():
        await checkpoint()
        raise ValueError("my tool broke")


async def fail_in_a_group(worker: Typist) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(fail, worker)


async def cancel_oneself(worker: Typist) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await worker.next_token()


TROUBLE = [fail, fail_parked, fail_in_a_group, cancel_oneself]


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("layout", ["combined", "contiguous"])
async def test_a_worker_in_trouble_harms_nobody(
    trouble: Callable[[Typist], Awaitable[None]], layout: str
) -> None:
    workers = [steps_of("Alice", [2, 7]), Typist("Bob", 1, ".\n\n", trouble), "Carol"]
    record = await solve(make_team(workers=workers, layout=layout, limits=Limits(ticks=12)))
    check_feeds(record)
    assert record.result.reason == "ticks"
    failed = trouble is not cancel_oneself
    assert ("ValueError: my tool broke" in str(record.result.failures)) is failed
    assert left(record)["Bob"] == record.result.failures.get("Bob")
    assert record.result.ticks == 12


async def test_if_all_workers_fail_the_run_does() -> None:
    workers = [Typist("Alice", 1, fail), Typist("Bob", 3, fail)]
    record = await play(make_team(workers=workers, limits=NONE))
    assert isinstance(record.error, RunError)
    assert "Bob" in str(record.error)
    assert "my tool broke" in str(record.error)
    assert isinstance(record.error.__cause__, ValueError)
    assert record.error.result == record.result
    assert set(record.result.failures) == {"Alice", "Bob"}
    assert len(record.result.texts["Bob"]) > len("**Bob [1]:** ")
    check_feeds(record)


async def test_if_some_workers_fail_the_run_does_not() -> None:
    for workers in (
        [Typist("Alice", 1, fail), Typist("Bob", 3)],
        [Typist("Alice", 1), Typist("Bob", 3, fail)],
    ):
        record = await solve(make_team(workers=workers, limits=NONE))
        assert record.result.reason == "left"
        assert len(record.result.failures) == 1


async def test_a_policy_may_save_a_run_whose_workers_fail() -> None:
    class Last(Policy):
        async def on_worker_left(self, event: WorkerLeft) -> Sequence[Action]:
            return [Finish(answer="none", reason="gave up")] if event.error else []

    record = await solve(make_team(workers=[Typist("Alice", 1, fail)], policies=[Last()]))
    assert record.result.answer == "none"
    assert record.result.reason == "gave up"


async def test_a_worker_that_swallows_all_errors_cannot_hide_a_failed_run() -> None:
    class Broken(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            raise KeyError("x")

    class Deaf(Worker):
        async def run(self) -> None:
            while True:
                try:
                    await self.next_token()
                except Exception:
                    await checkpoint()

    record = await play(make_team(workers=[Deaf("Alice")], policies=[Broken()], limits=NONE))
    assert record.error is not None
    assert "Broken" in str(record.error)


async def test_a_view_that_cannot_be_made_fails_its_worker_only() -> None:
    class Picky(Layout):
        def view(self, board: Board, place: Place, block: Any) -> Sequence[Any]:
            if place.name == "Alice":
                raise LookupError("no view for Alice")
            return [board.prompt, board.own, block]

    record = await solve(make_team(workers=["Alice", "Bob"], layout=Picky()))
    assert "no view for Alice" in record.result.failures["Alice"]
    assert record.result.reason == "ticks"


@settings(max_examples=15)
@given(
    scripts=st.lists(
        st.lists(st.one_of(st.integers(0, 3), st.just(".\n\n"), st.sampled_from(TROUBLE))),
        min_size=1,
        max_size=6,
    ),
    ticks=st.integers(1, 12),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_whatever_workers_do_a_run_ends_in_order(
    scripts: list[list[Any]], ticks: int, backend: str
) -> None:
    workers = [Typist(f"W{i}", *script) for i, script in enumerate(scripts)]
    team = make_team(workers=workers, limits=Limits(ticks=ticks))
    record: Play = run_on(backend, lambda: play(team))
    check_feeds(record)
    assert record.result.ticks <= ticks
    all_failed = len(record.result.failures) == len(workers)
    assert record.error is None or all_failed


# -- names


@pytest.mark.parametrize("count", range(1, 7))
async def test_any_number_of_workers_with_any_names(count: int) -> None:
    names = ["Ann", "José María", "王小明", "🦊", "a", "{x} **[1]:**"][:count]
    record = await solve(make_team(workers=names, limits=Limits(ticks=3)))
    check_feeds(record)
    assert list(record.result.texts) == names
    for name, text in record.result.texts.items():
        assert text.startswith(f"**{name} [1]:** ")


@pytest.mark.parametrize("name", ["", " ", "\n", "a\nb", "a\r", "a\u2028b", None, 3, b"Al"])
def test_a_name_is_one_line_of_text(name: Any) -> None:
    with pytest.raises(ConfigError, match="one line of text"):
        Worker(name)


def test_names_are_unique() -> None:
    with pytest.raises(ConfigError, match=r"'Bob'.*name of its own"):
        make_team(workers=["Bob", "Alice", Worker("Bob", role="I check.")])


async def test_a_worker_may_be_spoken_to_while_it_is_parked() -> None:
    class Host(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            return [Say(worker="Alice", text="Hello? ")] if event.tick == 3 else []

    async def nap(worker: Typist) -> None:
        with worker.parked():
            await until(lambda: worker.desk._thinking.clock.ticks >= 6)

    workers = [Typist("Alice", 2, nap, 2), Typist("Bob", 9)]
    record = await solve(make_team(workers=workers, policies=[Host()]))
    check_feeds(record)
    (event,) = [e for e in record.told(TokensWritten) if e.text.endswith("Hello? ")]
    assert event.tick >= 6
    assert event.source == "forced"


async def test_what_was_said_to_a_worker_that_just_leaves_is_written() -> None:
    class Host(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            ends = event.worker == "Bob" and event.tick == 3
            return [Say(worker="Alice", text="Bye. ")] if ends else []

    workers = [Typist("Bob", 9), Typist("Alice", 3)]
    record = await solve(make_team(workers=workers, policies=[Host()], limits=NONE))
    ledger = check_feeds(record)
    assert record.result.texts["Alice"].endswith("Bye. ")
    assert record.team.model.decode(ledger.named("Alice [1]")).endswith("Bye. ")


async def test_speaking_to_a_worker_that_has_left_is_an_error_by_name() -> None:
    class Host(Policy):
        async def on_worker_left(self, event: WorkerLeft) -> Sequence[Action]:
            return [Say(worker=event.worker, text="Come back! ")]

    record = await play(make_team(workers=[Typist("Alice", 1), "Bob"], policies=[Host()]))
    assert "Host" in str(record.error)
    assert "has left" in str(record.error)


async def test_who_speaks_at_the_start_opens_the_first_steps() -> None:
    class Host(Policy):
        async def on_run_started(self, event: RunStarted) -> Sequence[Action]:
            return [Say(worker=name, text=f"I am {name}. ") for name in event.workers]

    record = await solve(make_team(policies=[Host()], sampling=GREEDY))
    check_feeds(record)
    for name, text in record.result.texts.items():
        assert text.startswith(f"**{name} [1]:** I am {name}. ")


def test_a_script_that_is_not_async_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^Hasty\.run is not async: define it with `async def`"):

        class Hasty(Worker):
            def run(self) -> None:  # type: ignore[override]
                pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": None}, "role of 'Ada' is None, but must be a text."),
        ({"public_role": 3}, "public_role of 'Ada' is 3, but must be a text."),
        ({"problem": 3}, "problem of 'Ada' is 3, but must be a text."),
        ({"problem": " "}, "The problem of 'Ada' is empty: give it a text, or None."),
        ({"sampling": 0.5}, "sampling of 'Ada' is 0.5: give SamplingParams, or None."),
        ({"seed": -1}, r"seed of 'Ada' is -1: give a whole number from 0 to 2\*\*64 - 1, or None."),
        ({"seed": 2**64}, "seed of 'Ada' is 18446744073709551616: give a whole number from 0"),
        ({"tools": 3}, "tools is 3: give a list of functions or Tools."),
    ],
)
def test_what_a_worker_cannot_have_is_refused_at_once(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Worker("Ada", **options)


# -- whom a worker names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Bob", "sees of 'Ada' is the string 'Bob': give a list of names."),
        (5, "sees of 'Ada' is 5: give a list of names."),
        ([Worker("Bob")], r"sees of 'Ada' has Worker\('Bob'\) in it, which can be nobody's name: "),
        (["Bob", ""], "sees of 'Ada' has '' in it, which can be nobody's name: give names"),
    ],
)
def test_what_can_be_nobodys_name_is_refused_at_once(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Worker("Ada", sees=given)
    with pytest.raises(ConfigError, match=message.replace("sees", "seen_by")):
        Worker("Ada", seen_by=given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sees": ["Bobb"]},
            "sees of 'Ada' names 'Bobb', but nobody of that name was in the run: did you mean "
            "'Bob'? There were Ada, Bob.",
        ),
        (
            {"seen_by": ["Bob", "Zeno"]},
            "seen_by of 'Ada' names 'Zeno', but nobody of that name was in the run: there were "
            "Ada, Bob.",
        ),
    ],
)
async def test_a_name_that_nobody_had_is_told_in_the_end(options: Any, message: str) -> None:
    team = make_team(workers=[Worker("Ada", **options), "Bob"])
    with pytest.warns(UnknownWorkerWarning) as told:
        record = await solve(team)
    assert [str(one.message) for one in told] == [message]
    assert record.result.reason == "ticks"


class Staff(Policy):
    """Lets a worker join, and another one leave."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    async def on_run_started(self, event: RunStarted) -> list[Action]:
        return [Spawn(worker=self.worker), Dismiss(worker="Bob")]


async def test_a_worker_may_name_whoever_joins_leaves_or_speaks() -> None:
    ada = Worker("Ada", sees=["Bob", "Cleo", "User"], seen_by=["Cleo"])
    cleo = Worker("Cleo", sees=["Ada"], seen_by=["Ada", "Bob", "Cleo"])

    def speak(run: Any, group: Any) -> None:
        async def once() -> None:
            await until(lambda: run.thinks)
            run.say("Hello.")

        group.start_soon(once)

    team = make_team(workers=[ada, "Bob"], policies=[Staff(cleo)])
    record = await solve(team, at_start=speak)
    assert {"Ada", "Bob", "Cleo", "User"} == set(record.result.texts)


async def test_one_who_joins_may_misspell_a_name_too() -> None:
    team = make_team(workers=2, policies=[Staff(Worker("Cleo", sees=["Alcie"]))])
    with pytest.warns(UnknownWorkerWarning, match="sees of 'Cleo' names 'Alcie', .* 'Alice'"):
        await solve(team)


async def test_where_warnings_are_errors_the_run_has_ended_all_the_same() -> None:
    record = await play(make_team(workers=[Worker("Ada", sees=["Bbo"])]))
    assert isinstance(record.error, UnknownWorkerWarning)
    assert record.result.reason == "ticks"
