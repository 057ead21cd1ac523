"""What policies hear, and what is taken of their answers, where a worker cuts its own call off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from hogwild_agents.actions import Action, Conclude, Finish, Probe, Say, Spawn
from hogwild_agents.events import (
    ActionTaken,
    Event,
    LimitReached,
    PolicyFailed,
    ProbeAnswered,
    StepEnded,
    TickEnded,
    TokensWritten,
    WorkerJoined,
)
from hogwild_agents.limits import Limits
from hogwild_agents.policy import Observer, Policy
from tests.runtime.rig import PROBLEM, Play, Typist, make_team, solve, until, watched

pytestmark = pytest.mark.anyio


class Hears(Policy):
    """Notes what it hears."""

    decides = "team"

    def __init__(self) -> None:
        self.heard: list[Event] = []

    async def note(self, event: Event) -> None:
        self.heard.append(event)

    on_tokens_written = on_step_ended = on_tick_ended = on_worker_joined = note
    on_action_taken = on_policy_failed = on_worker_left = on_limit_reached = note


class Acts(Policy):
    """Speaks to Bob, and lets somebody join, when he has ended a step; stumbles at that."""

    async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
        if event.worker != "Bob" or event.step > 1:
            return []
        said = [Say(worker="Bob", text=text) for text in ("One, ", "two. ")]
        return [said[0], Spawn(worker=Typist("Carol", 2)), said[1]]


class Stumbles(Observer):
    """Raises when Bob has ended a step."""

    async def on_step_ended(self, event: StepEnded) -> None:
        if event.worker == "Bob":
            raise ValueError("Oops")


class Waits(Policy):
    """Waits for ever at the first event of a kind that the cut is about."""

    decides = "team"

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.waits = anyio.Event()

    async def wait(self, event: Any) -> None:
        late = getattr(event, "tick", 0) >= 2 and getattr(event, "worker", "") != "Alice"
        if type(event) is self.kind and late and not self.waits.is_set():
            self.waits.set()
            await anyio.sleep_forever()

    on_tokens_written = on_step_ended = on_tick_ended = on_worker_joined = wait
    on_action_taken = on_policy_failed = wait


KINDS = [TokensWritten, StepEnded, TickEnded, ActionTaken, PolicyFailed, WorkerJoined]


@pytest.mark.parametrize("kind", KINDS)
async def test_who_stands_behind_a_policy_that_is_cut_off_hears_everything_once(kind: type) -> None:
    async def cut_off(worker: Typist) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.type, "Now.\n\n")
            await waits.waits.wait()
            group.cancel_scope.cancel()
        with worker.parked():
            await until(lambda: worker.run_view.ticks > 7)

    before, waits, behind, last = Hears(), Waits(kind), Hears(), Hears()
    workers = ["Alice", Typist("Bob", 1, cut_off, 3)]
    policies = [Stumbles(), Acts(), before, waits, behind, last]
    record = await solve(make_team(workers=workers, policies=policies, limits=Limits(ticks=12)))
    assert waits.waits.is_set()
    assert behind.heard == before.heard
    assert last.heard == before.heard
    told = [event for event in record.events if type(event) in {*map(type, before.heard)}]
    assert sorted(map(repr, before.heard)) == sorted(map(repr, told))
    for name in record.result.texts:  # in their order
        assert [e for e in before.heard if getattr(e, "worker", "") == name] == [
            e for e in told if getattr(e, "worker", "") == name
        ]
    if kind not in (TokensWritten, TickEnded):
        assert "One, two. " in record.result.texts["Bob"]
        assert "Carol" in record.result.texts


async def test_who_stands_behind_hears_of_the_last_tick_before_the_limit_is_told() -> None:
    """And may still end the run by it, but not have anything done that needs the thinking."""

    class Answers(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            if event.worker != "Bob" or event.tick < 2:
                return []
            spawn = Spawn(worker=Typist("Carol", 2))
            return [spawn, Say(worker="Alice", text="Hm. "), Finish(answer=event.text)]

    async def cut_off(worker: Typist) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.type, "Now")
            await waits.waits.wait()
            group.cancel_scope.cancel()

    waits = Waits(TokensWritten)
    workers = ["Alice", Typist("Bob", 1, cut_off, 3)]
    team = make_team(workers=workers, policies=[waits, Answers()], limits=Limits(ticks=2))
    record = await solve(team)
    (token,) = [e for e in record.told(TokensWritten) if (e.worker, e.tick) == ("Bob", 2)]
    assert record.result.answer == token.text
    assert [type(event.action) for event in record.told(ActionTaken)] == [Finish]
    assert not record.result.failures


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("kind", [TokensWritten, TickEnded])
async def test_policies_hear_of_the_last_tick_though_who_ends_it_cuts_its_own_call_off(
    kind: type, answers: bool
) -> None:
    """And may end the run by it."""

    class Finishes(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            said = Say(worker="Bob", text="Hm. ")
            return [said, Finish(answer="7")] if answers and event.tick == 2 else []

    async def cut_off(worker: Typist) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.next_token)
            await waits.waits.wait()
            group.cancel_scope.cancel()

    before, waits, behind = Hears(), Waits(kind), Hears()
    policies = [before, waits, behind, Finishes()]
    workers = ["Alice", Typist("Bob", 1, cut_off)]
    record = await solve(make_team(workers=workers, policies=policies, limits=Limits(ticks=2)))
    assert waits.waits.is_set()
    assert [e.tick for e in record.told(TickEnded)] == [1, 2]
    assert [e for e in behind.heard if isinstance(e, TickEnded)] == record.told(TickEnded)
    assert sorted(map(repr, behind.heard)) == sorted(map(repr, before.heard))
    assert isinstance(behind.heard[-1], LimitReached)
    assert [type(e.action) for e in record.told(ActionTaken)] == [Finish] * answers
    assert record.result.answer == ("7" if answers else None)


@pytest.mark.parametrize("when", [TokensWritten, StepEnded, TickEnded])
@pytest.mark.parametrize(
    "action", [Finish(answer="7"), Conclude(text="So: ", max_tokens=2)], ids=["finish", "conclude"]
)
async def test_who_stands_behind_hears_of_the_last_tick_though_a_policy_ends_the_run_in_it(
    when: Any, action: Finish | Conclude
) -> None:
    """And nobody waits for those who wait in it."""

    class Ends(Policy):
        async def end(self, event: Any) -> Sequence[Action]:
            return [action] if type(event) is when and event.tick >= 2 else []

        on_tokens_written = on_step_ended = on_tick_ended = end

    class Slow(Policy):
        timeout = None

        async def wait(self, event: Any) -> None:
            if any(type(event.action) is type(action) for event in record.told(ActionTaken)):
                waited.append(type(event))
                await anyio.sleep_forever()

        on_tokens_written = on_step_ended = on_tick_ended = on_action_taken = wait

    waited: list[type] = []
    before, between, behind = Hears(), Hears(), Hears()
    policies = [before, Ends(), Slow(), between, Slow(), behind]
    workers = [Typist("Alice", 9), Typist("Bob", 1, "Now.\n\n", 9)]
    record = Play(make_team(workers=workers, policies=policies))
    async with watched(record.team, record):
        run = record.team.start(PROBLEM, on_event=record.events.append)
        result = await run.execute()
    assert result.reason == action.reason
    thought = record.events[: 1 + max(i for i, e in enumerate(record.events) if e in before.heard)]
    told = [event for event in thought if type(event) in {*map(type, before.heard)}]
    assert sorted(map(repr, before.heard)) == sorted(map(repr, told))
    assert behind.heard == between.heard == before.heard
    assert ActionTaken in waited


@pytest.mark.parametrize("kind", [TokensWritten, ActionTaken])
async def test_an_action_that_comes_when_the_run_is_stopped_is_dropped(kind: Any) -> None:
    """Though a listener has stopped it in the midst of being told."""

    class Spawns(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> Sequence[Action]:
            if event.tick < 2:
                return []
            return [Say(worker="Alice", text="Hm. "), Spawn(worker=Typist("Carol", 2))]

    def listen(event: Any) -> None:
        record.events.append(event)
        if isinstance(event, kind) and event.tick == 2:
            run.stop()

    team = make_team(policies=[Spawns()])
    record = Play(team)
    async with watched(team, record):
        run = team.start(PROBLEM, on_event=listen)
        result = await run.execute()
    assert result.reason == "stopped"
    assert not result.failures
    taken = [type(event.action) for event in record.told(ActionTaken)]
    assert taken == ([Say] if kind is ActionTaken else [])


@pytest.mark.parametrize("fork", [True, False])
async def test_answers_to_probes_come_though_a_policy_is_cut_off_before_them(fork: bool) -> None:
    class Asks(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
            if event.tick != 2:
                return []
            probes = [Probe(worker="Bob", question=text) for text in ("Sure? ", "Done? ")]
            return [*probes, *[Spawn(worker=Typist("Carol", 2), fork_of="Bob")] * fork]

        async def on_probe_answered(self, event: ProbeAnswered) -> None:
            answered.append(event.question)

    class Delays(Policy):
        async def delay(self, event: Any) -> None:
            if not waits.is_set():
                waits.set()
                await anyio.sleep_forever()

        on_worker_joined = on_probe_answered = delay

    async def cut_off(worker: Typist) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.type, "Now.\n\n")
            await waits.wait()
            group.cancel_scope.cancel()
        with worker.parked():
            await until(lambda: worker.run_view.ticks > 7)

    answered: list[str] = []
    waits = anyio.Event()
    workers = ["Alice", Typist("Bob", 1, cut_off, 3)]
    team = make_team(workers=workers, policies=[Delays(), Asks()], limits=Limits(ticks=12))
    record = Play(team)
    async with watched(team, record):
        await team.solve(PROBLEM, on_event=record.events.append)
    assert waits.is_set()
    assert [event.question for event in record.told(ProbeAnswered)] == ["Sure? ", "Done? "]
    assert answered == ["Sure? ", "Done? "]
