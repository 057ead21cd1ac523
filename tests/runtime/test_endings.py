"""However a run ends, it ends once, in order, with a result, and leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents.actions import Action, Conclude, EndStep, Finish, Forget, Park, Say
from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.engine import Engine
from hogwild_agents.errors import (
    CacheFullError,
    ClosedError,
    ConfigError,
    ContextLengthError,
    LimitError,
    PolicyError,
    RunError,
    TickError,
    TranscriptError,
    UsageError,
)
from hogwild_agents.events import (
    ActionTaken,
    Event,
    LimitReached,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerLeft,
)
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.policies import Finisher
from hogwild_agents.policy import Policy
from hogwild_agents.transcript import read_transcript, rebuild
from hogwild_agents.worker import Worker
from tests.runtime.book import Ledger, by_tick, check_feeds
from tests.runtime.rig import (
    JOINED,
    PROBLEM,
    Play,
    Typist,
    Watched,
    family as family_of,
    language_model,
    make_team,
    play,
    solve,
    steps_of,
    tokenizer,
    until,
    watched,
)

pytestmark = pytest.mark.anyio
NONE = Limits()


def thinking_ticks(record: Play) -> int:
    return len([commits for commits in by_tick(record.commits) if commits[0].seat])


@contextmanager
def gated(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hold every forward up until the gate is opened; yields (entered, gate)."""
    entered, gate = threading.Event(), threading.Event()
    plain = engine.forward

    def forward(*args: Any, **options: Any) -> Any:
        entered.set()
        assert gate.wait(20)
        return plain(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "forward", forward)
        try:
            yield entered, gate
        finally:
            gate.set()


# -- limits


async def test_a_limit_of_ticks_is_that_many_forwards() -> None:
    for ticks in (1, 7):
        record = await solve(make_team(limits=Limits(ticks=ticks)))
        assert record.result.reason == "ticks"
        assert record.result.answer is None
        assert record.result.ticks == ticks == thinking_ticks(record)
        assert record.result.tokens == 2 * ticks
        assert [event.tick for event in record.told(TickEnded)] == list(range(1, ticks + 1))
        assert record.told(LimitReached) == [LimitReached(limit="ticks", tick=ticks)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ticks": 1.5}, r"The limit of ticks is 1\.5, but must be a whole number above 0\."),
        ({"ticks": 0}, r"The limit of ticks is 0, but must be a whole number above 0\."),
        ({"tokens": True}, r"The limit of tokens is True, but must be a whole number above 0\."),
        ({"seconds": "5"}, r"The limit of seconds is '5', but must be a number above 0\."),
        ({"seconds": True}, r"The limit of seconds is True, but must be a number above 0\."),
        ({"seconds": float("nan")}, r"The limit of seconds is nan, but must be a number above 0\."),
    ],
)
def test_a_limit_that_is_no_such_number_is_refused_at_once(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Limits(**options)


async def test_a_limit_of_tokens_counts_all_workers() -> None:
    workers = ["Alice", "Bob", "Carol"]
    record = await solve(make_team(workers=workers, limits=Limits(tokens=10)))
    assert record.result.reason == "tokens"
    assert record.result.tokens == 12  # those of the tick that reaches it count
    assert record.result.ticks == 4 == thinking_ticks(record)


async def test_all_workers_handle_their_last_tokens() -> None:
    record = await solve(make_team(workers=["Alice", "Bob", "Carol"], limits=Limits(tokens=4)))
    sampled = [e.worker for e in record.told(TokensWritten) if e.source == "sampled"]
    assert sampled == ["Alice", "Bob", "Carol"] * 2
    kinds = [type(event) for event in record.events[-3:]]
    assert kinds == [TickEnded, LimitReached, RunEnded]


async def test_a_limit_of_seconds_ends_also_who_waits_for_ever() -> None:
    async def wait(worker: Typist) -> None:
        with worker.parked():
            await anyio.sleep_forever()

    async def hold_up(worker: Typist) -> None:
        await anyio.sleep_forever()

    for pause in (wait, hold_up):
        team = make_team(workers=[Typist("Alice", 2, pause)], limits=Limits(seconds=0.3))
        record = await solve(team)
        assert record.result.reason == "seconds"
        assert record.told(LimitReached) == [LimitReached(limit="seconds", tick=2)]
        assert 0.3 <= record.result.seconds < 5


async def test_seconds_end_the_thinking_of_who_goes_on_and_on(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    team = make_team(limits=Limits(seconds=0.3), policies=[Finisher(max_tokens=2)])
    record = await solve(team, transcript=path)
    assert record.result.reason == "finisher"
    assert record.told(LimitReached)[0].limit == "seconds"
    check_feeds(record)
    ticks = [line.tick for line in read_transcript(path).lines if line.type == "tick"]
    assert len(set(ticks)) == len(by_tick(record.commits))


async def test_a_pause_does_not_hold_up_a_limit() -> None:
    async def wait(worker: Typist) -> None:
        with worker.parked():
            await anyio.sleep_forever()

    record = await solve(
        make_team(workers=[Typist("Alice", 1, wait), "Bob"], limits=Limits(ticks=5))
    )
    assert record.result.reason == "ticks"
    assert record.result.ticks == 5


@pytest.mark.parametrize("policies", [[], [Finisher(max_tokens=4)]])
async def test_a_full_cache_ends_the_run_in_order(policies: list[Policy]) -> None:
    model = limited_model(max_tokens=160)
    team = make_team(
        model, workers=[steps_of("Alice", [2] * 9), "Bob"], policies=policies, limits=NONE
    )
    record = await solve(team)
    assert record.told(LimitReached)[0].limit == "cache"
    assert record.result.reason == ("finisher" if policies else "cache")
    assert record.result.ticks > 3
    assert not record.result.failures
    assert record.result.answer is None or policies
    check_feeds(record)


async def test_the_context_ends_the_run_in_order() -> None:
    model = limited_model(context=150)
    record = await solve(make_team(model, limits=NONE, policies=[Finisher(max_tokens=4)]))
    assert record.told(LimitReached)[0].limit == "context"
    assert record.result.reason == "finisher"
    assert record.result.answer is None  # there is no room for the finisher's sentence
    assert record.result.author is None
    check_feeds(record)


@pytest.mark.parametrize("layout", ["combined", "interleaved", "contiguous", "isolated"])
async def test_in_a_full_context_whoever_concludes_forgets_the_oldest_steps(layout: str) -> None:
    model = limited_model(context=500)
    team = make_team(
        model,
        workers=[steps_of("Alice", [3] * 99), steps_of("Bob", [5] * 99)],
        layout=layout,
        limits=NONE,
        policies=[Finisher(max_tokens=4)],
    )
    record = await solve(team)
    (limit,) = record.told(LimitReached)
    assert limit.limit == "context"
    after = record.events[record.events.index(limit) :]
    forgotten = [
        event.action
        for event in after
        if isinstance(event, ActionTaken) and isinstance(event.action, Forget)
    ]
    assert all(action.viewers == ("Bob",) for action in forgotten)
    steps = [
        (step.worker, step.number)
        for step in record.result.steps
        if layout != "isolated" or step.worker == "Bob"
    ]
    assert [(action.worker, action.step) for action in forgotten] == steps[: len(forgotten)]
    assert 0 < len(forgotten) < len(steps) / 2
    answered = [e for e in after if isinstance(e, TokensWritten) and e.source == "sampled"]
    assert 1 <= len(answered) <= 4
    assert {event.worker for event in answered} == {"Bob"}
    ledger = Ledger()
    seen: tuple[int, ...] = ()
    for commits in by_tick(record.commits):
        ledger.feed([feed for commit in commits for feed in commit.feeds])
        for commit in commits:
            if commit.seat == "Bob" and commit.feeds:
                seen = ledger.view(commit.feeds[-1].view)
            ledger.move(commit)
    assert 440 < len(seen) <= 500  # no more was forgotten than had to be
    text = model.tokenizer.decode(seen)
    left = [(name, number) for name, number in steps if f"**{name} [{number}]:**" in text]
    assert left == steps[len(forgotten) :]


async def test_a_prompt_without_room_is_told_before_anybody_thinks(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    record = await play(make_team(limited_model(max_tokens=60)), transcript=path)
    assert isinstance(record.error, CacheFullError)
    assert "tokens, but of the cache budget of 60 there is room for " in str(record.error)
    assert record.result.reason == "failed"
    assert not record.told(RunStarted)
    assert read_transcript(path).result == record.result
    role = Worker("Alice", role="word " * 100)
    record = await play(make_team(limited_model(context=150), workers=[role]))
    assert isinstance(record.error, ContextLengthError)


def limited_model(*, max_tokens: int | None = None, context: int = 4096) -> LanguageModel:
    engine = Engine(
        family_of(JOINED, "qwen3", context).build(), max_tokens=max_tokens, verify=False
    )
    return LanguageModel(name="limited", engine=engine, tokenizer=tokenizer(JOINED))


# -- stopping


async def test_stop_ends_the_run_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def at_start(run: Any, group: Any) -> None:
        async def stop() -> None:
            await until(lambda: run.result.ticks >= 3)
            run.stop("interrupted")
            run.stop("again")

        group.start_soon(stop)

    record = await solve(make_team(limits=NONE), at_start=at_start, transcript=path)
    assert record.result.reason == "interrupted"
    assert 3 <= record.result.ticks < 50
    check_feeds(record)
    transcript = read_transcript(path)
    assert transcript.result == record.result
    ticks = {line.tick for line in transcript.lines if line.type == "tick"}
    assert len(ticks) == len(by_tick(record.commits))  # the tick under way is in it too


async def test_stop_before_the_run_begins() -> None:
    run = make_team().start(PROBLEM)
    run.stop()
    result = await run.execute()
    assert result.reason == "stopped"
    assert result.ticks == 0
    assert result.texts == {}


async def test_stop_cuts_a_long_prompt_short(monkeypatch: pytest.MonkeyPatch) -> None:
    team = make_team()

    def at_start(run: Any, group: Any) -> None:
        async def stop() -> None:
            with gated(team.model.engine, monkeypatch) as (entered, gate):
                await until(entered.is_set)
                run.stop()
                await checkpoint()
                gate.set()

        group.start_soon(stop)

    record = await solve(team, "word " * 60, at_start=at_start, prefill_chunk=8)
    assert record.result.reason == "stopped"
    assert len(by_tick(record.commits)) <= 2
    assert not record.told(RunStarted)


async def test_stop_cuts_a_conclusion_short() -> None:
    team = make_team(limits=Limits(ticks=2), policies=[Finisher(max_tokens=400)])

    def at_start(run: Any, group: Any) -> None:
        async def stop() -> None:
            await until(lambda: len(run.result.texts.get("Bob", "")) > 300)
            run.stop()

        group.start_soon(stop)

    record = await solve(team, at_start=at_start)
    assert record.result.reason == "stopped"
    assert record.result.answer is None


async def test_a_worker_or_a_policy_may_stop_the_run() -> None:
    runs: list[Any] = []

    async def stop(worker: Typist) -> None:
        runs[0].stop("enough")

    workers = [Typist("Alice", 3, stop, 50), "Bob"]
    record = await solve(make_team(workers=workers), at_start=lambda run, group: runs.append(run))
    assert record.result.reason == "enough"
    assert record.result.ticks == 3


async def test_a_run_is_executed_once() -> None:
    run = make_team(limits=Limits(ticks=1)).start(PROBLEM)
    assert run.result.reason == "running"
    async with anyio.create_task_group() as group:
        group.start_soon(run.execute)
        await until(lambda: run.coordinator is not None)
        with pytest.raises(UsageError, match="once"):
            await run.execute()
    assert run.result.reason == "ticks"
    with pytest.raises(UsageError, match="once"):
        await run.execute()


# -- cancellation


@pytest.mark.parametrize("ticks", [0, 1, 5])
async def test_cancellation_passes_on_and_leaves_nothing(ticks: int, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = language_model()
    events: list[Event] = []
    before = model.engine.used_tokens
    team = make_team(model, limits=NONE)
    run = team.start(PROBLEM, on_event=events.append, transcript=path)
    finished = False
    async with anyio.create_task_group() as group:

        async def execute() -> None:
            nonlocal finished
            await run.execute()
            finished = True

        group.start_soon(execute)
        await until(lambda: run.result.ticks >= ticks and bool(run.coordinator))
        group.cancel_scope.cancel()
    assert not finished
    assert run.result.reason == "cancelled"
    assert [type(event) for event in events].count(RunEnded) == 1
    assert model.engine.used_tokens == before
    model.engine.check_integrity()
    if path.exists():  # it may have been cancelled before it began
        assert read_transcript(path).result == run.result


async def test_cancellation_during_a_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model()
    before = model.engine.used_tokens
    for shared in (False, True):
        path = tmp_path / f"{shared}.jsonl"
        async with CacheCoordinator(model.engine) as coordinator:
            team = make_team(model, coordinator=coordinator if shared else None)
            run = team.start(PROBLEM, transcript=path)
            with gated(model.engine, monkeypatch) as (entered, gate):
                async with anyio.create_task_group() as group:
                    group.start_soon(run.execute)
                    await until(entered.is_set)
                    group.cancel_scope.cancel()
                    gate.set()
            assert run.result.reason == "cancelled"
            await until(lambda: model.engine.used_tokens == before)
        assert read_transcript(path).result == run.result


@pytest.mark.parametrize("who", ["Alice", "Bob", "Carol"])
async def test_where_a_run_is_cancelled_a_tick_ends_if_all_have_handled_it(who: str) -> None:
    """In whatever order the event loop cancels the tasks; it may be any, so this is done often."""
    names = ["Alice", "Bob", "Carol"]

    async def cancelled_by(who: str) -> Play:
        def listen(event: Event) -> None:
            record.events.append(event)
            if isinstance(event, TokensWritten) and (event.worker, event.tick) == (who, 3):
                scope.cancel()

        record = Play(make_team(workers=names, limits=Limits(ticks=9)))
        async with watched(record.team, record):
            with anyio.CancelScope() as scope:
                await record.team.start(PROBLEM, on_event=listen).execute()
        return record

    for _ in range(8):
        record = await cancelled_by(who)
        (ended,) = record.told(RunEnded)
        assert ended.result.reason == "cancelled"
        handled = [event.worker for event in record.told(TokensWritten) if event.tick == 3]
        assert handled == names[: names.index(who) + 1]
        over = 3 if handled == names else 2
        assert [event.tick for event in record.told(TickEnded)] == list(range(1, over + 1))


async def test_a_transcript_of_a_run_that_was_stopped_rebuilds_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = language_model()

    class Impatient(Worker):
        async def run(self) -> None:
            with anyio.move_on_after(0.02):
                await self.think()

    team = make_team(model, workers=[Impatient("Alice"), steps_of("Bob", [1, 2, 1])])
    record = await solve(team, transcript=path)
    check_feeds(record)
    before = model.engine.used_tokens
    blocks = rebuild(read_transcript(path), model.engine)
    fed = sum(len(feed.tokens) for commit in record.commits for feed in commit.feeds)
    assert model.engine.used_tokens - before == fed
    for block in blocks.values():
        model.engine.free(block)


# -- streaming


async def test_a_stream_yields_every_event() -> None:
    team = make_team(limits=Limits(ticks=4))
    told = (await solve(team)).events
    seen = [event async for event in team.stream(PROBLEM)]
    assert [type(event) for event in seen] == [type(event) for event in told]
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunEnded)
    assert seen[-1].result.reason == "ticks"


@pytest.mark.parametrize("after", [1, 4, 20])
async def test_leaving_a_stream_early_leaves_nothing_running(after: int, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    model = language_model()
    before = model.engine.used_tokens
    seen = 0
    async with aclosing(make_team(model, limits=NONE).stream(PROBLEM, transcript=path)) as events:
        async for _ in events:
            seen += 1
            if seen == after:
                break
    assert model.engine.used_tokens == before
    result = read_transcript(path).result
    assert result is not None
    assert result.reason == "cancelled"


async def test_an_error_in_the_loop_over_a_stream_comes_out_as_it_is() -> None:
    async def read() -> None:
        async with aclosing(make_team(limits=NONE).stream(PROBLEM)) as events:
            async for event in events:
                if isinstance(event, TickEnded):
                    raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await read()


async def test_cancelling_the_reader_of_a_stream_cancels_the_run() -> None:
    model = language_model()
    before = model.engine.used_tokens
    seen: list[Event] = []
    async with anyio.create_task_group() as group:

        async def read() -> None:
            async for event in make_team(model, limits=NONE).stream(PROBLEM):
                seen.append(event)

        group.start_soon(read)
        await until(lambda: len(seen) > 8)
        group.cancel_scope.cancel()
    assert model.engine.used_tokens == before


async def test_a_stream_raises_what_the_run_raises_after_its_last_event() -> None:
    class Broken(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            raise ValueError("no")

    seen: list[Event] = []

    async def read() -> None:
        async for event in make_team(policies=[Broken()]).stream(PROBLEM):
            seen.append(event)

    with pytest.raises(PolicyError, match="Broken"):
        await read()
    assert isinstance(seen[-1], RunEnded)
    assert seen[-1].result.reason == "failed"


# -- failures of the whole run


async def test_a_tick_that_fails_ends_the_run_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    model = language_model()
    plain, opening, calls = model.engine.forward, 6, 0  # the prompt in two parts, four headings

    def forward(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == opening + 5:
            raise RuntimeError("out of memory")
        return plain(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(model.engine, "forward", forward)
        team = make_team(model, policies=[Finisher()])
        record = await play(team, transcript=path)
    assert isinstance(record.error, TickError)
    assert "out of memory" in str(record.error)
    assert record.error.result == record.result
    assert record.result.reason == "failed"
    assert record.result.ticks == 4
    assert all(len(text) > len("**Bob [1]:** ") for text in record.result.texts.values())
    assert read_transcript(path).result == record.result
    check_feeds(record)


async def test_a_tick_that_fails_in_a_conclusion_ends_the_run_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = language_model()
    plain = model.engine.forward

    def forward(feeds: Any, **options: Any) -> Any:
        if any(len(feed.tokens) > 100 for feed in feeds):
            raise RuntimeError("out of memory")
        return plain(feeds, **options)

    with monkeypatch.context() as patch:
        patch.setattr(model.engine, "forward", forward)
        record = await play(make_team(model, limits=Limits(ticks=2), policies=[Finisher()]))
    assert isinstance(record.error, TickError)
    assert record.error.result == record.result
    assert record.result.answer is None
    assert record.result.ticks == 2


async def test_a_coordinator_that_is_closed_fails_the_run() -> None:
    model = language_model()
    coordinator = CacheCoordinator(model.engine)
    team = make_team(model, coordinator=coordinator)
    with pytest.raises(ClosedError, match="not open yet"):
        await team.solve(PROBLEM)
    run = make_team(model, coordinator=coordinator, limits=NONE).start(PROBLEM)
    raised: list[RunError] = []
    async with anyio.create_task_group() as group:

        async def execute() -> None:
            try:
                await run.execute()
            except RunError as error:
                raised.append(error)

        async with coordinator:
            group.start_soon(execute)
            await until(lambda: run.result.ticks >= 2)
    assert isinstance(raised[0], ClosedError)
    assert raised[0].result == run.result
    assert run.result.ticks >= 2


async def test_what_a_listener_raises_ends_the_run_and_is_raised() -> None:
    for kind in (RunStarted, TokensWritten, TickEnded, RunEnded):
        seen: list[Event] = []

        def listen(event: Event, seen: list[Event] = seen, kind: type = kind) -> None:
            seen.append(event)
            if isinstance(event, kind):
                raise ZeroDivisionError("mine")

        model = language_model()
        before = model.engine.used_tokens
        with pytest.raises(ZeroDivisionError, match="mine"):
            await make_team(model, limits=Limits(ticks=5)).solve(PROBLEM, on_event=listen)
        assert [type(event) for event in seen].count(RunEnded) == 1
        assert model.engine.used_tokens == before


async def test_a_transcript_that_cannot_be_written_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hogwild_agents.transcript import TranscriptWriter

    for method in ("event", "commit"):
        calls = 0
        plain: Any = getattr(TranscriptWriter, method)

        def broken(self: Any, *args: Any, plain: Any = plain) -> None:
            nonlocal calls
            calls += 1
            if calls > 9:
                raise TranscriptError("the disk is full")
            plain(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(TranscriptWriter, method, broken)
            record = await play(make_team(limits=NONE), transcript=tmp_path / method)
        assert isinstance(record.error, TranscriptError)
        assert record.result.reason == "failed"
        assert not record.result.failures


async def test_a_transcript_in_no_folder_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        make_team().start(PROBLEM, transcript=tmp_path / "none" / "run.jsonl")


# -- the end of a conclusion


async def test_a_tick_under_way_is_not_fed_again_by_the_conclusion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody leaves while a forward runs, and a policy concludes on that."""

    class OnLeave(Policy):
        async def on_worker_left(self, event: WorkerLeft) -> Sequence[Action]:
            return [Conclude(text="So \\boxed{", max_tokens=2)]

    model = language_model()
    gates: list[Any] = []

    async def leave_during_a_forward(worker: Typist) -> None:
        with worker.parked(), gated(model.engine, monkeypatch) as (entered, gate):
            await until(entered.is_set)
            gates.append(gate)
            raise ValueError("my tool broke")

    workers = [Typist("Alice", 2, leave_during_a_forward), "Bob"]
    record = await solve(make_team(model, workers=workers, policies=[OnLeave()], limits=NONE))
    assert gates
    assert record.result.reason == "finisher"
    assert list(record.result.failures) == ["Alice"]
    check_feeds(record)


async def test_a_conclusion_waits_for_all_that_policies_had_a_worker_say() -> None:
    """Also behind the end of a step, though the end of the one before is not fed yet."""

    class Notes(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            name = event.worker
            end = EndStep(worker=name)
            said = [Say(worker=name, text=text) for text in ("one. ", "two. ", "three. ")]
            return [said[0], end, said[1], end, said[2]] if event.step == 1 else []

        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            return [Conclude(text="So: ", worker="Bob", max_tokens=2)] if self.run.steps else []

    workers = [Typist("Alice", "Now.\n\n", 9), "Bob"]
    record = await solve(make_team(workers=workers, policies=[Notes()], limits=NONE))
    steps = "Now.\n\n", "one. \n\n", "two. \n\n", "three. "
    expected = "".join(f"**Alice [{number}]:** {text}" for number, text in enumerate(steps, 1))
    assert record.result.texts["Alice"] == expected
    assert record.result.reason == "finisher"
    check_feeds(record)


async def test_a_conclusion_of_those_who_have_not_begun_opens_their_first_steps() -> None:
    class Dawdles(Policy):
        async def on_run_started(self, event: RunStarted) -> None:
            await anyio.sleep_forever()

    policies = [Dawdles(), Finisher(max_tokens=2)]
    record = await solve(make_team(policies=policies, limits=Limits(seconds=0.1)))
    assert record.result.reason == "finisher"
    assert {event.step for event in record.told(TokensWritten)} == {1}
    for name, text in record.result.texts.items():
        assert text.startswith(f"**{name} [1]:** ")
    check_feeds(record)


async def test_of_a_conclusion_and_a_limit_the_conclusion_counts() -> None:
    class AtTick(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            return [Finish(answer="3", reason="mine")] if event.tick == 3 else []

    record = await solve(make_team(policies=[AtTick()], limits=Limits(ticks=3)))
    assert record.result.reason == "mine"
    assert not record.told(LimitReached)
    assert len(record.told(ActionTaken)) == 1


async def test_limit_errors_are_told_apart_from_failures() -> None:
    """Also where a worker's own task group has wrapped them."""

    class Grouped(Worker):
        async def run(self) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(self.think)

    model = limited_model(max_tokens=120)
    record = await solve(make_team(model, workers=[Grouped("Alice"), "Bob"], limits=NONE))
    assert record.result.reason == "cache"
    assert not record.result.failures
    assert not isinstance(record.error, LimitError)
    record = await solve(make_team(workers=[Grouped("Alice"), "Bob"], limits=Limits(ticks=3)))
    assert record.result.reason == "ticks"
    assert not record.result.failures


@pytest.mark.parametrize("end", ["ticks", "seconds", "stop", "finish"])
async def test_a_worker_that_shields_itself_cannot_write_on(end: str) -> None:
    raised: list[Exception] = []

    class Clinging(Worker):
        async def run(self) -> None:
            try:
                await self.think()
            finally:
                with anyio.CancelScope(shield=True):
                    try:
                        await self.write("And another thing: ")
                    except RunError as error:
                        raised.append(error)
                        raise

    class AtTick(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            if event.tick == 3 and end == "stop":
                runs[0].stop()
            return [Finish(reason="finish")] if event.tick == 3 and end == "finish" else []

    runs: list[Any] = []
    limits = {"ticks": Limits(ticks=3), "seconds": Limits(seconds=0.2)}.get(end, NONE)
    team = make_team(
        workers=[Clinging("Alice"), "Bob"],
        limits=limits,
        policies=[Shared(AtTick()), Finisher(max_tokens=2)],
    )
    record = await solve(team, at_start=lambda run, group: runs.append(run))
    assert isinstance(raised[0], ClosedError)
    assert not record.result.failures
    assert record.result.reason in ("finisher", "stopped", "finish")


@pytest.mark.parametrize("end", ["ticks", "seconds", "stop", "finish", "cancel", "parked"])
async def test_a_parked_worker_that_shields_itself_waits_no_longer_than_the_thinking(
    end: str,
) -> None:
    raised: list[Exception] = []

    class Clinging(Worker):
        async def run(self) -> None:
            with anyio.CancelScope(shield=True):
                try:
                    await self.think()
                except RunError as error:
                    raised.append(error)
                    raise

    class ParksAlice(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            if event.tick == 1:
                return [Park(worker="Alice")]
            if event.tick == 4 and end == "stop":
                run.stop()
            if event.tick == 4 and end == "cancel":
                group.cancel_scope.cancel()
            if end == "parked":
                return [Park(worker="Bob")]
            return [Finish(reason="finish")] if event.tick == 4 and end == "finish" else []

    limits = {"ticks": Limits(ticks=4), "seconds": Limits(seconds=0.2)}.get(end, NONE)
    team = make_team(
        workers=[Clinging("Alice"), "Bob"], limits=limits, policies=[Shared(ParksAlice())]
    )
    async with anyio.create_task_group() as group:
        run = team.start(PROBLEM)
        await run.execute()
    assert isinstance(raised[0], ClosedError)
    reasons = {"stop": "stopped", "cancel": "cancelled"}
    assert run.result.reason == reasons.get(end, end)
    assert 0 < len(run.result.texts["Alice"]) < len(run.result.texts["Bob"])


async def test_a_worker_that_shields_itself_cannot_write_on_when_the_run_is_cancelled() -> None:
    raised: list[Exception] = []

    class Clinging(Worker):
        async def run(self) -> None:
            with anyio.CancelScope(shield=True):
                try:
                    await self.think()
                except RunError as error:
                    raised.append(error)
                    raise

    def cancel(event: Event) -> None:
        if isinstance(event, TickEnded) and event.tick == 3:
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        run = make_team(workers=[Clinging("Alice"), "Bob"], limits=Limits(ticks=50)).start(
            PROBLEM, on_event=cancel
        )
        await run.execute()
    assert isinstance(raised[0], ClosedError)
    assert run.result.reason == "cancelled"
    assert run.result.ticks <= 4


class Shared(Policy):
    """A policy that is not copied."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __deepcopy__(self, memo: object) -> Policy:
        return self.policy


async def test_patience_lets_the_others_go_on() -> None:
    model = language_model()

    async def dawdle(worker: Typist) -> None:
        await anyio.sleep(0.2)

    team = make_team(model, workers=[Typist("Alice", 1, dawdle, 2), "Bob"], limits=Limits(ticks=12))
    record = Play(team)
    async with Watched(model.engine, patience=0.01) as coordinator:
        team.coordinator = coordinator
        record.result = await team.solve(PROBLEM, on_event=record.events.append)
    record.commits = coordinator.commits
    assert record.result.reason == "ticks"
    assert record.result.ticks == 12 == thinking_ticks(record)
    check_feeds(record)
