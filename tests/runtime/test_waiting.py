"""Worker.until: waits for what others do, holds nobody up, and waits no longer than the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from hogwild_agents import (
    Event,
    LimitReached,
    Limits,
    Park,
    Policy,
    Resume,
    StepEnded,
    TickEnded,
    TokensWritten,
    Worker,
)
from hogwild_agents.errors import ClosedError, UsageError
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.testing import scripted_model
from tests.policies.rig import scripted, writers
from tests.runtime.rig import (
    PROBLEM,
    Play,
    drop_time,
    language_model,
    make_team,
    play,
    run_on,
    solve,
    talkative,
)

pytestmark = pytest.mark.anyio
NONE = Limits()


class Live(Worker):
    """A worker whose life is an async function of it."""

    def __init__(self, name: str, life: Callable[[Any], Awaitable[None]]) -> None:
        super().__init__(name)
        self.life = life

    async def run(self) -> None:
        await self.life(self)


async def act(scripts: dict[str, Any], *workers: Worker, **options: Any) -> Play:
    """Let workers live beside those who have a script; nobody may fail."""
    names = [*workers, *(name for name in scripts if name not in [one.name for one in workers])]
    record = await solve(scripted(scripts, workers=names, **options))
    assert record.result.failures == {}
    return record


async def test_a_worker_reads_the_run() -> None:
    seen: dict[str, Any] = {}

    async def look(self: Worker) -> None:
        view = self.run_view
        await self.until(lambda: len(view.steps) == 2)
        seen.update(problem=view.problem, names=view.names, steps=[s.body for s in view.steps])
        await self.until(lambda: "Bob" not in view.names)
        seen["text"] = view.texts["Bob"]

    await act({"Bob": "One.\n\nTwo.\n\nThree."}, Live("Ann", look))
    assert seen == {
        "problem": PROBLEM,
        "names": ("Ann", "Bob"),
        "steps": ["One.", "Two."],
        "text": "**Bob [1]:** One.\n\n**Bob [2]:** Two.\n\n**Bob [3]:** Three.",
    }


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_who_waits_owes_no_feed_and_then_sees_what_it_waited_for(layout: str) -> None:
    views: list[str] = []

    def tell(view: str) -> str:
        views.append(view)
        return "It is 7.\n\n"

    async def wait(self: Worker) -> None:
        await self.until(lambda: "seven" in self.others["Bob"])
        await self.think()

    scripts = {"Ann": [tell], "Bob": "Three, and four, is seven.\n\nAnd that is all."}
    record = await act(scripts, Live("Ann", wait), layout=layout)
    said = record.text("Bob").index("seven")
    ticks = {tick for tick, names in writers(record).items() if names == {"Bob"}}
    assert len(ticks) >= said - len("**Bob [1]:** ")
    assert ("Three, and four, is seven" in views[0]) == (layout in ("combined", "contiguous"))
    assert "It is 7." in record.text("Ann")


async def test_a_step_that_has_ended_is_seen_by_the_others_while_its_author_waits() -> None:
    views: list[str] = []

    def look(view: str) -> str:
        views.append(view)
        return "Good.\n\n" if "7 + 1 = 8." in view else "Hm.\n\n"

    async def ask(self: Worker) -> None:
        await self.write("7 + 1 = 8.")
        await self.end_step()
        await self.until(lambda: "Good." in self.others["Bob"])

    record = await act({"Bob": [look] * 9}, Live("Ann", ask), layout="interleaved")
    assert "**Ann [1]:** 7 + 1 = 8." in views[-1]
    assert record.text("Bob").count("Good.") >= 1


class Reader(Worker):
    """Waits for each fifth token of Bob, and notes how much the others have written by then."""

    async def run(self) -> None:
        for step in range(1, 4):
            await self.until(partial(self.bob_has_written, 5 * step))
            others = sum(map(len, self.others.values()))
            await self.write(f"I have read {others} characters.")
            await self.end_step()

    def bob_has_written(self, tokens: int) -> bool:
        return self.run_view.written("Bob") >= tokens


def test_those_who_were_woken_at_once_go_on_in_worker_order() -> None:
    model = language_model()
    workers = [Reader("Zoe"), "Bob", Reader("Ann"), Reader("Mia")]
    team = make_team(model, workers=workers, sampling=talkative(model), limits=Limits(ticks=25))
    runs = [
        drop_time(run_on(backend, lambda: solve(team)).events)
        for backend in ("asyncio", "trio", "trio", "trio")
    ]
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert "I have read" in str(runs[0])


async def test_whoever_waits_for_one_that_leaves_goes_on() -> None:
    async def wait(self: Worker) -> None:
        await self.until(lambda: self.others["Bob"].endswith("Bye"))
        await self.write("He said it.")

    record = await act({"Bob": "Bye"}, Live("Ann", wait))
    assert "He said it." in record.text("Ann")
    assert record.result.reason == "left"


async def test_who_waits_for_what_will_never_be_does_not_keep_the_run() -> None:
    async def wait(self: Worker) -> None:
        await self.until(lambda: "gold" in "".join(self.others.values()))

    record = await act({"Bob": "Iron."}, Live("Ann", wait), Live("Eve", wait))
    assert record.result.reason == "parked"
    assert [event.limit for event in record.told(LimitReached)] == ["parked"]


class Parks(Policy):
    """Parks Bob after his first step, and resumes him when Ann has ended one."""

    async def on_step_ended(self, event: StepEnded) -> Park | Resume:
        return Park(worker="Bob") if event.worker == "Bob" else Resume(worker="Bob")


async def test_waiting_for_one_who_is_parked_ends_the_run_unless_it_is_resumed() -> None:
    async def wait(self: Worker) -> None:
        await self.until(lambda: len(self.run_view.steps) == 1)
        await self.write("Go on.")
        await self.end_step()
        await self.until(lambda: "Two" in self.others["Bob"])
        await self.until(lambda: "Three" in self.others["Bob"])

    record = await act({"Bob": "One.\n\nTwo.\n\nThree."}, Live("Ann", wait), policies=[Parks()])
    assert record.result.reason == "parked"
    assert "Two." in record.text("Bob")
    assert "Three." not in record.text("Bob")


async def test_a_person_wakes_who_waits() -> None:
    async def wait(self: Worker) -> None:
        await self.until(lambda: "metres" in self.others.get("Eve", ""))
        await self.write("Metres, then.")

    async def speak(run: Any) -> None:
        while "Hm" not in run.result.texts.get("Bob", ""):  # noqa: ASYNC110 -- it tells nobody
            await anyio.sleep(0.001)
        run.say("In metres.", speaker="Eve")

    team = scripted({"Bob": "Hm. " * 99}, workers=[Live("Ann", wait), "Bob"])
    record = await play(team, at_start=lambda run, group: group.start_soon(speak, run))
    assert "Metres, then." in record.text("Ann")


async def test_a_wait_can_be_given_up() -> None:
    async def wait(self: Worker) -> None:
        with anyio.move_on_after(0.02) as scope:
            await self.until(lambda: False)
        assert scope.cancelled_caught
        await self.write("No more.")

    record = await act({"Bob": "Hm. " * 99}, Live("Ann", wait))
    assert "No more." in record.text("Ann")


@pytest.mark.parametrize("end", ["ticks", "seconds", "stop"])
async def test_a_run_that_ends_ends_the_wait(end: str) -> None:
    ended: list[str] = []

    async def wait(self: Worker) -> None:
        try:
            await self.until(lambda: False)
        finally:
            ended.append(self.name)

    limits = {"ticks": Limits(ticks=4), "seconds": Limits(seconds=0.1)}.get(end, NONE)
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if end == "stop" and isinstance(event, TickEnded):
            run.stop()

    team = make_team(workers=[Live("Ann", wait), "Bob"], limits=limits)
    run = team.start(PROBLEM, on_event=listen)
    result = await run.execute()
    assert result.reason == {"stop": "stopped"}.get(end, end)
    assert ended == ["Ann"]
    assert not [e for e in events if isinstance(e, TokensWritten) and e.worker == "Ann"][1:]


@pytest.mark.parametrize("end", ["ticks", "cancelled", "parked"])
async def test_a_worker_that_shields_itself_waits_no_longer_than_the_thinking(end: str) -> None:
    async def wait(self: Worker) -> None:
        with anyio.CancelScope(shield=True), pytest.raises(ClosedError, match="waits for nothing"):
            await self.until(lambda: False)
        ended.append(self.name)

    def listen(event: Event) -> None:
        if end == "cancelled" and isinstance(event, TickEnded) and event.tick == 3:
            group.cancel_scope.cancel()

    ended: list[str] = []
    other = "Bob" if end != "parked" else Live("Bob", lambda self: self.until(lambda: False))
    team = make_team(workers=[Live("Ann", wait), other], limits=Limits(ticks=4))
    run = team.start(PROBLEM, on_event=listen)
    async with anyio.create_task_group() as group:
        await run.execute()
    assert run.result.reason == end
    assert ended == ["Ann"]


async def test_a_condition_that_fails_fails_its_worker_alone() -> None:
    async def wait(self: Worker) -> None:
        await self.until(lambda: bool(self.others["Zoe"]))

    async def miswait(self: Worker) -> None:
        await self.until("Bob" in self.others)  # type: ignore[arg-type]

    workers = [Live("Ann", wait), Live("Eve", miswait), "Bob"]
    team = make_team(scripted_model({"Bob": "Hm.\n\n"}), workers=workers, limits=NONE)
    record = await solve(team)
    assert record.result.failures == {
        "Ann": "KeyError: 'Zoe'",
        "Eve": "UsageError: Eve waits until True, which cannot be asked again and again: give a "
        "plain function without parameters, such as a lambda.",
    }
    assert record.result.reason == "left"


async def test_what_holds_already_takes_no_tick() -> None:
    async def wait(self: Worker) -> None:
        for _ in range(50):
            await self.until(lambda: True)
        await self.write("Here.")

    record = await act({"Bob": "Hm."}, Live("Ann", wait))
    first = next(e for e in record.told(TokensWritten) if "Here." in e.text)
    assert first.tick == 0


async def test_a_worker_in_no_run_cannot_wait() -> None:
    with pytest.raises(ClosedError, match="in no run"):
        await Worker("Ann").until(lambda: True)
    with pytest.raises(ClosedError, match="in no run"):
        Worker("Ann").run_view  # noqa: B018 -- it raises
    with pytest.raises(UsageError, match="plain function"):
        await Worker("Ann").until(anyio.sleep_forever)  # type: ignore[arg-type]
