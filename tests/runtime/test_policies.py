"""Policies in a run: who is asked what and when, what they may do, and what becomes of failures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents.actions import (
    Action,
    Ban,
    Bias,
    ChangeSampling,
    Conclude,
    Finish,
    Probe,
    Say,
    Spawn,
)
from hogwild_agents.errors import ConfigError, PolicyError, UsageError
from hogwild_agents.events import (
    NAMES,
    ActionTaken,
    Event,
    LimitReached,
    PolicyFailed,
    ProbeAnswered,
    RunEnded,
    RunStarted,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.limits import Limits
from hogwild_agents.policy import Observer, Policy
from hogwild_agents.worker import Worker
from tests.runtime.book import check_feeds
from tests.runtime.rig import PROBLEM, Play, Typist, make_team, play, solve, steps_of, watched

pytestmark = pytest.mark.anyio


class Diary:
    """A list that all copies of a policy share."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def __deepcopy__(self, memo: object) -> Diary:
        return self


class Recorder(Observer):
    """Writes down every event that it is asked about."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):

            async def note(event: Event) -> Sequence[Action]:
                assert (
                    f"on_{next(k for k, kind in NAMES.items() if isinstance(event, kind))}" == name
                )
                self.diary.entries.append(event)
                return ()

            return note
        return super().__getattribute__(name)


class Once(Policy):
    """Answers the first event of a kind with some actions."""

    def __init__(self, kind: type, *actions: Any) -> None:
        self.kind = kind
        self.actions: Any = actions

    async def answer(self, event: Any) -> Any:
        if not isinstance(event, self.kind):
            return ()
        actions, self.actions = self.actions, ()
        return actions

    on_run_started = on_tokens_written = on_step_ended = on_tick_ended = answer
    on_limit_reached = on_worker_left = on_action_taken = on_policy_failed = answer
    on_run_ended = on_worker_joined = on_probe_answered = answer


NOT_BOOKED = (WorkerJoined, ProbeAnswered)
"""What the book of a run knows nothing of."""


def speaker_for(kind: type) -> Policy:
    """A policy that speaks once, or brings about an event that a plain run does not have."""
    return everything() if kind in NOT_BOOKED else Once(TickEnded, Say(worker="Bob", text="Hm. "))


def everything() -> Policy:
    """A policy whose actions make events of kinds that a plain run does not have."""
    return Once(
        TickEnded,
        Say(worker="Bob", text="Hm. "),
        Probe(worker="Bob", question="Sure? "),
        Spawn(worker=Typist("Eve", 1)),
    )


class Failing(Policy):
    """Raises at events of a kind."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    async def answer(self, event: Any) -> Any:
        if isinstance(event, self.kind):
            raise ValueError(f"no {self.kind.__name__}")
        return ()

    on_run_started = on_tokens_written = on_step_ended = on_tick_ended = answer
    on_limit_reached = on_worker_left = on_action_taken = on_policy_failed = answer
    on_run_ended = on_worker_joined = on_probe_answered = answer


class Grumbler(Failing, Observer):
    """An observer that raises."""


# -- what they hear


async def test_policies_hear_what_everybody_hears() -> None:
    diary = Diary()
    workers = [Typist("Alice", 1, ".\n\n", 2), steps_of("Bob", [2, 9])]
    policies = [
        Recorder(diary),
        everything(),
        Grumbler(StepEnded),
    ]
    record = await solve(make_team(workers=workers, policies=policies, limits=Limits(ticks=9)))
    assert {type(event) for event in record.events} == set(NAMES.values())

    def ordered(events: Sequence[Event]) -> list[str]:
        return sorted(map(repr, events))

    assert ordered(diary.entries) == ordered(record.events)
    assert isinstance(diary.entries[0], RunStarted)
    assert isinstance(diary.entries[-1], RunEnded)


async def test_policies_hear_nothing_of_a_conclusion_but_its_end() -> None:
    diary = Diary()
    conclude = Once(LimitReached, Conclude(text="So \\boxed{", max_tokens=3))
    team = make_team(policies=[Recorder(diary), conclude], limits=Limits(ticks=2))
    record = await solve(team)
    at_limit = [type(event) for event in diary.entries[-3:]]
    assert at_limit == [LimitReached, ActionTaken, RunEnded]
    told = record.events[record.events.index(record.told(LimitReached)[0]) :]
    assert [type(event) for event in told].count(TokensWritten) == 4


async def test_a_policy_in_fifteen_lines() -> None:
    class StopAfterSteps(Policy):
        """Ends the run when the team has finished so many steps together."""

        def __init__(self, steps: int) -> None:
            self.left = steps

        async def on_step_ended(self, event: StepEnded) -> list[Finish]:
            self.left -= 1
            return [] if self.left else [Finish(reason="enough steps")]

    team = make_team(
        workers=[steps_of("Alice", [1] * 9), steps_of("Bob", [2] * 9)],
        policies=[StopAfterSteps(3)],
    )
    for _ in range(2):  # each run works on a copy
        record = await solve(team)
        assert record.result.reason == "enough steps"
        assert len(record.result.steps) == 3


async def test_runs_share_no_state_of_policies() -> None:
    policy = Once(TickEnded, Finish(reason="first"))
    team = make_team(policies=[policy])
    for _ in range(2):
        assert (await solve(team)).result.reason == "first"
    assert policy.actions


async def test_a_policy_that_cannot_be_copied_says_so() -> None:
    policy = Once(TickEnded)
    policy.actions = threading.Lock()
    with pytest.raises(ConfigError, match=r"Once cannot be copied.*on_run_started"):
        make_team(policies=[policy]).start(PROBLEM)


def test_what_is_no_policy_is_refused() -> None:
    for wrong in (Observer, "finisher", None):
        with pytest.raises(ConfigError, match="no policy"):
            make_team(policies=[wrong])


def test_a_handler_of_no_event_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(ConfigError, match=r"Misspelt\.on_step_end .*did you mean 'on_step_ended'"):

        class Misspelt(Policy):
            async def on_step_end(self, event: StepEnded) -> None: ...


def test_a_handler_that_is_not_async_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(ConfigError, match=r"Sync\.on_step_ended is not async"):

        class Sync(Observer):
            def on_step_ended(self, event: StepEnded) -> None:  # type: ignore[override]
                pass


# -- their order


async def test_policies_are_asked_in_their_order_and_the_first_end_counts() -> None:
    first = Once(TickEnded, Say(worker="Alice", text="A. "), Finish(answer="1", reason="first"))
    second = Once(TickEnded, Say(worker="Bob", text="B. "), Finish(answer="2", reason="second"))
    record = await solve(make_team(policies=[first, second]))
    assert record.result.reason == "first"
    assert record.result.answer == "1"
    taken = [event.action for event in record.told(ActionTaken)]
    assert taken == [first.actions[0], first.actions[1]]  # what comes too late is not told
    record = await solve(make_team(policies=[second, first]))
    assert record.result.reason == "second"


async def test_texts_are_said_in_the_order_of_the_policies() -> None:
    says = [Once(StepEnded, Say(worker="Alice", text=text)) for text in ("one ", "two ", "three ")]
    record = await solve(make_team(workers=[Typist("Alice", ".\n\n", 2)], policies=says))
    assert "**Alice [2]:** one two three " in record.result.texts["Alice"]
    check_feeds(record)


async def test_an_action_is_told_before_its_effect() -> None:
    record = await solve(
        make_team(
            workers=[Typist("Alice", "a", 3)],
            policies=[Once(TokensWritten, Say(worker="Alice", text="Hm. "))],
        )
    )
    kinds = [(type(e).__name__, getattr(e, "text", "")) for e in record.events]
    taken = kinds.index(("ActionTaken", ""))
    assert kinds[taken + 1] == ("TokensWritten", "Hm. ")


@pytest.mark.parametrize("outside", [False, True])
async def test_an_action_is_told_once_it_is_taken(outside: bool) -> None:
    """So whoever hears of it can neither prevent it nor take a name that it has taken."""
    spawn = Spawn(worker=Typist("Carol", 2))

    def listen(event: Event) -> None:
        events.append(event)
        if outside and isinstance(event, TokensWritten) and event.tick == 2 and not heard:
            run.act(spawn)
        if isinstance(event, ActionTaken):
            heard.append(run.result.texts)
            with pytest.raises(UsageError, match="whose name is taken in this run"):
                run.act(spawn)
            with pytest.raises(UsageError, match="A worker is called 'Carol'"):
                run.say("I join.", speaker="Carol")
            run.say("I join.", speaker="Joe")
            run.stop()

    events: list[Event] = []
    heard: list[Any] = []
    policies = [] if outside else [Once(TickEnded, spawn)]
    run = make_team(policies=policies, limits=Limits(ticks=4)).start(PROBLEM, on_event=listen)
    result = await run.execute()
    assert result.reason == "stopped"
    assert not result.failures
    ((*_, carol),) = heard
    assert carol == "Carol"
    (taken,) = [event for event in events if isinstance(event, ActionTaken)]
    assert taken.policy == ("The caller of act" if outside else "Once")
    behind = events[events.index(taken) + 1 :]
    joined = [event.worker for event in behind if isinstance(event, WorkerJoined)]
    assert joined == ["Carol", "Joe"]


async def test_a_policy_that_always_answers_does_not_stall_the_run() -> None:
    class Parrot(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            return [Say(worker=event.worker, text="Oh. ")]

    record = await solve(make_team(policies=[Parrot()], limits=Limits(ticks=4)))
    assert record.result.reason == "ticks"
    assert record.result.ticks == 4
    check_feeds(record)


@pytest.mark.parametrize("kind", [RunStarted, TokensWritten, StepEnded, TickEnded, WorkerLeft])
@pytest.mark.parametrize(
    "action", [Finish(answer="3", author="Alice"), Conclude(text="So \\boxed{", max_tokens=2)]
)
async def test_a_run_can_be_ended_at_any_event(kind: type, action: Any) -> None:
    workers = [Typist("Alice", 1, ".\n\n", 1), Typist("Bob", 9)]
    team = make_team(workers=workers, policies=[Once(kind, action)])
    record = await solve(team)
    assert record.result.reason == action.reason
    assert len(record.told(ActionTaken)) == 1
    if isinstance(action, Finish):
        assert (record.result.answer, record.result.author) == ("3", "Alice")
    check_feeds(record)


# -- failures


@pytest.mark.parametrize("kind", list(NAMES.values()))
async def test_what_an_observer_raises_is_told_and_changes_nothing(kind: type) -> None:
    def team(*policies: Policy) -> Any:
        workers = [Typist("Alice", 1, ".\n\n", 2), steps_of("Bob", [2, 9])]
        speaker = speaker_for(kind)
        others = [Grumbler(StepEnded)] if kind is PolicyFailed else []
        return make_team(
            workers=workers, policies=[*policies, speaker, *others], limits=Limits(ticks=8)
        )

    plain = await solve(team())
    record = await solve(team(Grumbler(kind)))
    assert record.result.texts == plain.result.texts
    failures = [event for event in record.told(PolicyFailed) if kind.__name__ in event.error]
    assert failures
    assert {event.policy for event in failures} == {"Grumbler"}
    assert {event.error for event in failures} == {f"ValueError: no {kind.__name__}"}


@pytest.mark.parametrize("kind", list(NAMES.values()))
async def test_what_a_controller_raises_fails_the_run_by_name(kind: type) -> None:
    workers = [Typist("Alice", 1, ".\n\n", 2), steps_of("Bob", [2, 9])]
    speaker = speaker_for(kind)
    policies = [Failing(kind), speaker, Grumbler(StepEnded)]
    record = await play(make_team(workers=workers, policies=policies, limits=Limits(ticks=8)))
    assert isinstance(record.error, PolicyError)
    handler = next(name for name, found in NAMES.items() if found is kind)
    assert f"The policy Failing failed in on_{handler} (ValueError: no" in str(record.error)
    assert isinstance(record.error.__cause__, ValueError)
    assert record.error.result == record.result
    assert record.result.reason == "failed"
    assert not record.result.failures
    failed = [e for e in record.told(PolicyFailed) if e.policy == "Failing"]
    assert len(failed) == 1
    if kind not in NOT_BOOKED:
        check_feeds(record)


WRONG: list[tuple[Any, type, str]] = [
    ("stop", TickEnded, "answered 'stop', which is no action"),
    ((None,), TickEnded, r"answered \(None,\), which is no action"),
    (Say(worker="Zoe", text="Hi"), TickEnded, "named the worker 'Zoe'.*one of Alice, Bob"),
    (Say(worker=None, text="Hi"), TickEnded, "named the worker None"),  # type: ignore[arg-type]
    (Say(worker="Bob", text=""), TickEnded, "gave the text '', which has no tokens"),
    (Say(worker="Bob", text=7), TickEnded, "gave the text 7, which is no string"),  # type: ignore[arg-type]
    (Say(worker="Bob", text="Hi"), LimitReached, "answered the end of the thinking with Say"),
    (Say(worker="Alice", text="Hi"), WorkerLeft, "named 'Alice', who has left"),
    (Conclude(text="So", worker="Zoe"), TickEnded, "named the worker 'Zoe'"),
    (Conclude(text=""), TickEnded, "gave the text ''"),
    (Conclude(text="So", max_tokens=0), TickEnded, "gave max_tokens=0"),
    (Conclude(text="So", max_tokens=1.5), TickEnded, "gave max_tokens=1.5"),  # type: ignore[arg-type]
    (Conclude(text="So", max_tokens=True), TickEnded, "gave max_tokens=True: give a whole number"),
    (Ban(worker="Bob", token_ids=(True,)), TickEnded, "named the token True"),
    (Bias(worker="Bob", bias={True: 1.0}), TickEnded, "named the token True"),
    (Bias(worker="Bob", bias={5: True}), TickEnded, "gave 5 the bias True: give a finite number"),
    (
        ChangeSampling(worker="Bob", temperature=True),
        TickEnded,
        "cannot be, because temperature is True, but must be at least 0",
    ),
    (
        ChangeSampling(worker="Bob", temperature=0.0, for_tokens=True),
        TickEnded,
        "gave for_tokens=True",
    ),
    (Conclude(text="So", reason=""), LimitReached, "gave the reason ''"),
    (Finish(answer=7), TickEnded, "gave the answer 7, which is no string"),  # type: ignore[arg-type]
    (Finish(author=7), TickEnded, "gave the author 7"),  # type: ignore[arg-type]
    (Finish(reason=""), TickEnded, "gave the reason ''"),
    (Say(worker=["Bob"], text="Hi"), TickEnded, "of a wrong type .unhashable type: 'list'"),  # type: ignore[arg-type]
    (Ban(worker="Bob", texts="no"), TickEnded, "banned the texts 'no': give a tuple"),  # type: ignore[arg-type]
    (Ban(worker="Bob", token_ids=5), TickEnded, "of a wrong type .*mend that"),  # type: ignore[arg-type]
    (Spawn(worker=Worker("Eve", role="\ud800")), TickEnded, "half of a surrogate pair"),
]


@pytest.mark.parametrize(("action", "kind", "message"), WRONG)
async def test_every_wrong_action_is_named(action: Any, kind: type, message: str) -> None:
    workers = [Typist("Alice", 2), "Bob"]
    team = make_team(workers=workers, policies=[Once(kind, action)], limits=Limits(ticks=5))
    record = await play(team)
    assert isinstance(record.error, PolicyError)
    with pytest.raises(PolicyError, match=f"The policy Once .*{message}"):
        raise record.error
    assert not record.told(ActionTaken)
    assert record.error.result == record.result


# -- names


class Namer(Policy):
    """Lets workers of these names join when a tick has ended, and speaks to Bob."""

    decides = "team"

    def __init__(self, *names: str, tick: int = 1, fork_of: str | None = None) -> None:
        self.names = names
        self.tick = tick
        self.fork_of = fork_of
        self.failed: list[PolicyFailed] = []

    async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
        await checkpoint()
        if event.tick != self.tick:
            return []
        spawns = [Spawn(worker=Typist(one, 2), fork_of=self.fork_of) for one in self.names]
        return [*spawns, Say(worker="Bob", text=f"{self.name} {id(self)}. ")]

    async def on_policy_failed(self, event: PolicyFailed) -> None:
        self.failed.append(event)


class Second(Namer):
    """Another one."""


TAKEN = "it spawned 'Eve', whose name is taken in this run: give another name."


@pytest.mark.parametrize("forks", [(None, None), ("Alice", None), (None, "Bob"), ("Bob", "Alice")])
async def test_of_two_policies_that_spawn_one_name_at_once_the_second_is_told_so(
    forks: Sequence[str | None],
) -> None:
    first, second = Namer("Eve", fork_of=forks[0]), Second("Eve", "Ann", fork_of=forks[1])
    team = make_team(policies=[first, second], limits=Limits(ticks=6))
    record = Play(team)
    async with watched(team, record):
        await team.solve(PROBLEM, on_event=record.events.append)
    (failed,) = record.told(PolicyFailed)
    assert (failed.policy, failed.error) == ("Second", TAKEN)
    assert first.failed == second.failed == [failed]
    joined = [(event.worker, event.forked_from) for event in record.told(WorkerJoined)]
    assert sorted(joined) == [("Ann", forks[1]), ("Eve", forks[0])]
    assert all(f"{one.name} {id(one)}. " in record.text("Bob") for one in (first, second))


async def test_a_name_that_a_person_has_taken_while_policies_waited_is_told() -> None:
    class Waits(Observer):
        async def on_tick_ended(self, event: TickEnded) -> None:
            if event.tick == 1:
                run.say("I am Eve.", speaker="Eve")

    team = make_team(policies=[Second("Eve"), Waits()], limits=Limits(ticks=4))
    events: list[Event] = []
    run = team.start(PROBLEM, on_event=events.append)
    assert (await run.execute()).reason == "ticks"
    assert [event.error for event in events if isinstance(event, PolicyFailed)] == [TAKEN]


@pytest.mark.parametrize(
    "policies",
    [[Second("Eve", "Eve")], [Namer("Eve"), Second("Eve", tick=2)], [Second("Alice")]],
    ids=["one policy twice", "later", "a worker's"],
)
async def test_a_name_that_was_taken_when_a_policy_was_asked_fails_the_run(
    policies: list[Namer],
) -> None:
    record = await play(make_team(policies=policies, limits=Limits(ticks=6)))
    assert isinstance(record.error, PolicyError)
    assert "(Spawn) spawned" in str(record.error)
    assert "whose name is taken in this run" in str(record.error)


# -- failures of handlers


class Few(Policy):
    """Can be copied so many times."""

    decides = "worker"

    def __init__(self, left: list[int]) -> None:
        self.left = left

    def __deepcopy__(self, memo: object) -> Few:
        if not self.left:
            raise RuntimeError("no more")
        self.left.pop()
        return Few(self.left)


async def test_what_fails_when_it_is_taken_is_the_policys_fault_and_no_workers() -> None:
    spawns = [Namer(name, tick=tick) for tick, name in enumerate(("Eve", "Eda", "Ann"), 1)]
    record = await play(make_team(policies=[Few([1] * 4), *spawns]))
    assert isinstance(record.error, PolicyError)
    assert "The policy Namer asked for Spawn(worker=Typist('Eda'" in str(record.error)
    assert "no more" in str(record.error)
    assert not record.result.failures


async def test_nobody_is_waited_for_or_told_of_who_could_not_join() -> None:
    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, TickEnded) and event.tick == 2:
            with pytest.raises(ConfigError, match=r"Few cannot be copied .*no more"):
                run.act(Spawn(worker=Typist("Eve", 2)))
            places.extend(place.name for place in run._thinking.board.places)

    events: list[Event] = []
    places: list[str] = []
    run = make_team(policies=[Few([1] * 3)], limits=Limits(ticks=4)).start(PROBLEM, on_event=listen)
    with anyio.fail_after(20):
        assert (await run.execute()).reason == "ticks"
    assert places == ["Alice", "Bob"]
    assert not [event for event in events if isinstance(event, ActionTaken | WorkerJoined)]


async def test_a_handler_that_cannot_be_awaited_or_answers_nonsense_fails_by_name() -> None:
    class Sync(Policy):
        def __init__(self) -> None:
            vars(self)["on_tick_ended"] = lambda event: []

    class Number(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Any:
            return 3

    for policy in (Sync(), Number()):
        record = await play(make_team(policies=[policy]))
        assert isinstance(record.error, PolicyError)
        assert policy.name in str(record.error)


async def test_a_handler_may_return_nothing_and_an_observer_anything() -> None:
    class Quiet(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Any:
            await checkpoint()

    class Chatty(Observer):
        async def on_tick_ended(self, event: TickEnded) -> Any:
            return 3 if event.tick % 2 else [Finish(answer="no")]

    record = await solve(make_team(policies=[Quiet(), Chatty()], limits=Limits(ticks=3)))
    assert record.result.reason == "ticks"
    assert not record.told(PolicyFailed)


async def test_an_answer_to_what_is_only_told_is_ignored() -> None:
    finish = Finish(answer="no")
    policies = [
        Once(ActionTaken, finish),
        Once(PolicyFailed, finish),
        Once(RunEnded, finish),
        Once(TickEnded, Say(worker="Bob", text="Hm. ")),
        Grumbler(TickEnded),
    ]
    record = await solve(make_team(policies=policies, limits=Limits(ticks=3)))
    assert record.result.reason == "ticks"
    assert record.result.answer is None
