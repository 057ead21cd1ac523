"""People speak in mid-run: those they mean see it at the next tick, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hogwild_agents import (
    ClosedError,
    Limits,
    Policy,
    Prompt,
    Run,
    StepEnded,
    Team,
    TickEnded,
    TokensWritten,
    UsageError,
    Worker,
    WorkerJoined,
    WorkerLeft,
)
from hogwild_agents.policies import Finisher
from hogwild_agents.testing import Recorder, scripted_model

pytestmark = pytest.mark.anyio
PLAIN = Prompt(name="plain", description="", text="Think.")
LAYOUTS = ["combined", "contiguous", "interleaved", "isolated"]


class Brief(Worker):
    """Writes a word, and leaves."""

    async def run(self) -> None:
        await self.write("Done.")


def seen_by(views: dict[str, list[str]], name: str) -> Callable[[str], str]:
    """A script that notes what its worker sees, in short steps."""

    def write(view: str) -> str:
        views[name].append(view)
        return "Hm.\n\n"

    return write


async def converse(layout: str, *speeches: tuple[Any, ...]) -> tuple[Any, dict[str, list[str]]]:
    """Two workers think; after the second tick somebody speaks."""
    views: dict[str, list[str]] = {"Ada": [], "Bob": []}
    model = scripted_model({name: [seen_by(views, name)] * 12 for name in views})
    team = Team(model, workers=["Ada", "Bob"], layout=layout, prompt=PLAIN, limits=Limits(ticks=50))

    def listen(event: Any) -> None:
        if isinstance(event, TickEnded) and event.tick == 2:
            for speech in speeches:
                run.say(*speech)

    run = team.start("What now?", on_event=listen)
    return await run.execute(), views


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_what_is_said_is_seen_by_all(layout: str) -> None:
    result, views = await converse(layout, ("It is Monday.",))
    text = "**User [1]:** It is Monday.\n\n"
    assert result.texts["User"] == text
    assert [step.text for step in result.steps if step.worker == "User"] == [text]
    for seen in views.values():
        assert text in seen[-1]
        assert text not in seen[0]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_what_is_said_to_one_is_seen_by_that_one(layout: str) -> None:
    _, views = await converse(layout, ("For all.",), ("A secret.", "Ada"), ("And again.",))
    assert "A secret." in views["Ada"][-1]
    assert not any("A secret." in view for view in views["Bob"])
    for seen in views.values():
        assert "For all." in seen[-1]
        assert "And again." in seen[-1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heard", [WorkerJoined, TokensWritten, StepEnded])
async def test_who_hears_a_speech_and_speaks_is_told_behind_it(heard: type, layout: str) -> None:
    model = scripted_model({name: ["Hm.\n\n"] * 12 for name in ("Ada", "Bob")})
    team = Team(model, workers=["Ada", "Bob"], layout=layout, prompt=PLAIN, limits=Limits(ticks=50))
    told: list[tuple[type, int]] = []

    def listen(event: Any) -> None:
        if getattr(event, "worker", "") == "User":
            told.append((type(event), getattr(event, "step", 0)))
            if isinstance(event, heard) and told[-1][1] < 2:
                run.say("Said second.", "Ada")
        elif isinstance(event, TickEnded) and event.tick == 2:
            run.say("Said first.")

    run = team.start("What now?", on_event=listen)
    result = await run.execute()
    written = [(TokensWritten, 1), (StepEnded, 1), (TokensWritten, 2), (StepEnded, 2)]
    assert told == [(WorkerJoined, 0), *written]
    assert [step.body for step in result.steps if step.worker == "User"] == [
        "Said first.",
        "Said second.",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heard", [TokensWritten, TickEnded])
async def test_what_is_said_in_the_last_tick_is_seen_by_who_concludes(
    heard: type[TokensWritten] | type[TickEnded], layout: str
) -> None:
    views: list[str] = []

    def look(view: str) -> str:
        views.append(view)
        return "7}"

    def listen(event: Any) -> None:
        if isinstance(event, heard) and event.tick == 2 and not views and not said:
            said.append(True)
            run.say("It is Monday.")
            run.say("So it is.")
            run.say("I am Joe.", speaker="Joe")

    said: list[bool] = []
    model = scripted_model({"Ada": ["Hm", look]})
    limits, policies = Limits(ticks=2), [Finisher()]
    team = Team(
        model, workers=["Ada"], layout=layout, prompt=PLAIN, limits=limits, policies=policies
    )
    run = team.start("What now?", on_event=listen)
    result = await run.execute()
    assert result.answer == "7"
    (seen,) = views
    for speech in ("User [1]:** It is Monday.", "User [2]:** So it is.", "Joe [1]:** I am Joe."):
        assert seen.count(f"**{speech}\n\n") == 1


@pytest.mark.parametrize("ticks", [2, 50])
async def test_policies_hear_what_is_said_when_the_last_tick_is_over(ticks: int) -> None:
    def listen(event: Any) -> None:
        if isinstance(event, WorkerLeft) or (isinstance(event, TickEnded) and event.tick == 2):
            run.say("That was it.")

    recorder = Recorder()
    model = scripted_model({"Ada": "Let me think."})
    limits = Limits(ticks=ticks)
    team = Team(model, workers=["Ada"], prompt=PLAIN, limits=limits, policies=[recorder])
    run = team.start("What now?", on_event=listen)
    result = await run.execute()
    assert result.reason == ("ticks" if ticks == 2 else "left")
    said = [step for step in result.steps if step.worker == "User"]
    assert len(said) == (1 if ticks == 2 else 2)
    assert [e.step for e in recorder.of(StepEnded) if e.worker == "User"] == [
        step.number for step in said
    ]


async def test_a_person_joins_once_and_policies_hear_it() -> None:
    class Clerk(Policy):
        async def on_tick_ended(self, event: TickEnded) -> None:
            if event.tick in (2, 5):
                runs[0].say(f"Tick {event.tick}.", speaker="Boss")

    runs: list[Run] = []

    def keep(policy: Clerk) -> Clerk:
        policy.decides = "team"
        return policy

    recorder = Recorder()
    team = Team(
        scripted_model({"Ada": "Let me think about that for a while."}),
        workers=["Ada"],
        policies=[keep(Clerk()), recorder],
        prompt=PLAIN,
        limits=Limits(ticks=20),
    )
    runs.append(team.start("What now?"))
    result = await runs[0].execute()
    assert result.texts["Boss"] == "**Boss [1]:** Tick 2.\n\n**Boss [2]:** Tick 5.\n\n"
    assert [event.worker for event in recorder.of(WorkerJoined)] == ["Boss"]


async def test_wrong_speech_is_refused_and_nothing_is_said() -> None:
    errors: list[str] = []

    def listen(event: Any) -> None:
        if isinstance(event, TickEnded) and event.tick == 2:
            wrong: list[tuple[str, str | tuple[str, ...] | None]]
            wrong = [("  ", None), ("Hi", "Zoe"), ("Hi", ())]
            for text, to in wrong:
                with pytest.raises(UsageError) as caught:
                    run.say(text, to)
                errors.append(str(caught.value))
            with pytest.raises(UsageError, match="A worker is called 'Ada'"):
                run.say("Hi", speaker="Ada")
            for name in ("", "Joe\nAda", 7, "\ud800"):
                with pytest.raises(UsageError, match=r"The speaker is .* one line|surrogate"):
                    run.say("Hi", speaker=name)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="User said 7, which is no text: give a string"):
                run.say(7)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="7 names nobody to speak to: give a name"):
                run.say("Hi", 7)  # type: ignore[arg-type]

    team = Team(
        scripted_model({"Ada": "Let me think."}),
        workers=["Ada"],
        prompt=PLAIN,
        limits=Limits(ticks=9),
    )
    run = team.start("What now?", on_event=listen)
    with pytest.raises(ClosedError):
        run.say("Too early.")
    result = await run.execute()
    assert set(result.texts) == {"Ada"}
    assert len(errors) == 3
    with pytest.raises(ClosedError):
        team.say("Too late.")


async def test_a_team_speaks_to_its_run() -> None:
    team = Team(
        scripted_model({"Ada": "Let me think about that."}),
        workers=[Worker("Ada")],
        prompt=PLAIN,
        limits=Limits(ticks=15),
    )
    said = False

    def listen(event: Any) -> None:
        nonlocal said
        if isinstance(event, TickEnded) and not said:
            said = True
            team.say("Hurry up.")

    result = await team.solve("What now?", on_event=listen)
    assert result.texts["User"].endswith("Hurry up.\n\n")


@pytest.mark.parametrize("turns", range(16))
async def test_who_speaks_when_the_last_worker_leaves_is_heard_or_told(turns: int) -> None:
    model = scripted_model({"Ada": ["Done.\n\n"]})
    team = Team(model, workers=[Brief("Ada")], prompt=PLAIN, limits=Limits(ticks=50))
    left = anyio.Event()

    def listen(event: Any) -> None:
        if isinstance(event, WorkerLeft):
            left.set()

    async def speak() -> None:
        await left.wait()
        for _ in range(turns):
            await checkpoint()
        try:
            run.say("One more thing.")
        except ClosedError:
            refused.append(True)

    refused: list[bool] = []
    run = team.start("What now?", on_event=listen)
    async with anyio.create_task_group() as group:
        group.start_soon(speak)
        result = await run.execute()
    assert ("User" in result.texts) != bool(refused)
