"""Actions: what each does, seen from outside, on a real model."""

from __future__ import annotations

import gc
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import pytest
import torch

from hogwild_agents import (
    Action,
    Ban,
    Bias,
    ChangeSampling,
    Dismiss,
    EndStep,
    Feed,
    Hide,
    Limits,
    Park,
    Policy,
    Probe,
    ProbeAnswered,
    Prompt,
    Resume,
    SamplingParams,
    Say,
    Show,
    StepEnded,
    Team,
    TickEnded,
    TokensWritten,
    TypingWorker,
    Worker,
    WorkerLeft,
)
from hogwild_agents.testing import Recorder, scripted_model, tiny_model

pytestmark = pytest.mark.anyio
PLAIN = Prompt(name="plain", description="", text="Think.")


class At(Policy):
    """Answers the end of ticks with given actions."""

    def __init__(self, plan: Mapping[int, Sequence[Action]]) -> None:
        self.plan = plan

    async def on_tick_ended(self, event: TickEnded) -> Sequence[Action]:
        return self.plan.get(event.tick, ())


async def run(plan: Mapping[int, Sequence[Action]], **options: Any) -> tuple[Any, Recorder]:
    recorder = Recorder()
    defaults: dict[str, Any] = {"workers": ["Ada", "Bob"], "prompt": PLAIN}
    defaults["limits"] = Limits(ticks=14)
    model = options.pop("model", None) or tiny_model()
    team = Team(model, policies=[At(plan), recorder], **{**defaults, **options})
    return await team.solve("What now?"), recorder


def sampled(recorder: Recorder, worker: str) -> list[tuple[int, int]]:
    """What a worker sampled, as (tick, token)."""
    return [
        (event.tick, event.tokens[0])
        for event in recorder.of(TokensWritten)
        if event.worker == worker and event.source == "sampled"
    ]


# -- sampling


async def test_a_bias_lasts_for_so_many_tokens() -> None:
    token = ord("z")
    bias = Bias(worker="Ada", bias={"z": 1000.0}, for_tokens=3)
    _, recorder = await run({4: [bias]})
    chosen = [tick for tick, found in sampled(recorder, "Ada") if found == token]
    assert chosen == [5, 6, 7]
    assert token not in dict(sampled(recorder, "Bob")).values()


async def test_a_ban_holds_and_ends() -> None:
    free, recorder = await run({})
    first = dict(sampled(recorder, "Ada"))[5]
    _, recorder = await run({4: [Ban(worker="Ada", token_ids=(first,), for_tokens=2)]})
    after = dict(sampled(recorder, "Ada"))
    assert first not in (after[5], after[6])
    assert free.texts["Ada"][:4] == recorder.texts()["Ada"][:4]


async def test_changed_sampling_changes_what_is_drawn_and_only_for_its_worker() -> None:
    warm = SamplingParams(temperature=1.0)
    one, _ = await run({}, sampling=warm)
    other, _ = await run({3: [ChangeSampling(worker="Ada", temperature=0.0)]}, sampling=warm)
    assert one.texts["Ada"] != other.texts["Ada"]
    alone, _ = await run(
        {3: [ChangeSampling(worker="Ada", temperature=0.0)]}, sampling=warm, layout="isolated"
    )
    plain, _ = await run({}, sampling=warm, layout="isolated")
    assert alone.texts["Bob"] == plain.texts["Bob"]


# -- probes


async def test_a_probe_gives_the_models_own_probabilities_of_whole_answers() -> None:
    answers = ("yes", "no", "maybe so")
    model = tiny_model()
    probe = Probe(worker="Ada", question=" Sure? ", answers=answers)
    _, recorder = await run({5: [probe]}, model=model, workers=["Ada"], layout="isolated")
    (answered,) = recorder.of(ProbeAnswered)
    said = [
        token
        for event in recorder.of(TokensWritten)
        if event.tick < answered.tick
        for token in event.tokens
    ]
    team = Team(model, workers=["Ada"], layout="isolated", prompt=PLAIN)
    engine, logs = model.engine, []
    prompt, own, ada = (engine.block(name) for name in ("prompt", "own", "ada"))
    engine.forward([Feed(prompt, [prompt], team._encode("What now?"))])
    engine.forward([Feed(own, [own], model.encode(team.headings.own))])
    engine.forward([Feed(ada, [prompt, own, ada], said)])
    question = model.encode(probe.question)
    for answer in answers:
        tail, block = model.encode(answer), engine.block()
        feed = Feed(block, [prompt, own, ada, block], [*question, *tail])
        rows = engine.forward([feed], logits="all")[len(question) - 1 : -1].log_softmax(-1)
        logs.append(float(rows.gather(1, torch.tensor(tail)[:, None]).sum()))
    weights = torch.tensor(logs).exp()
    expected = (weights / weights.sum()).tolist()
    assert list(answered.probabilities.values()) == pytest.approx(expected, rel=1e-3)
    assert answered.mass == pytest.approx(float(weights.sum()), rel=1e-2)


@pytest.mark.parametrize("layout", ["combined", "contiguous", "interleaved"])
async def test_a_probe_leaves_nothing_behind_and_costs_no_tick(layout: str) -> None:
    model = tiny_model()
    plain, _ = await run({}, model=model, layout=layout)
    probes = [Probe(worker=name, question="Really? ") for name in ("Ada", "Bob", "Ada")]
    asked, recorder = await run({3: probes, 7: probes[:1]}, model=model, layout=layout)
    assert asked.texts == plain.texts
    assert asked.ticks == plain.ticks
    assert len(recorder.of(ProbeAnswered)) == 4
    assert model.engine.used_tokens == 0


# -- text and presence


async def test_a_step_ends_where_it_stands_and_text_after_it_opens_the_next() -> None:
    plan: dict[int, list[Action]]
    plan = {4: [EndStep(worker="Ada"), EndStep(worker="Ada"), Say(worker="Ada", text="Now. ")]}
    result, recorder = await run(plan)
    (ended,) = [event for event in recorder.of(StepEnded) if event.worker == "Ada"]
    assert ended.text.endswith("\n\n")
    assert "**Ada [2]:** Now. " in result.texts["Ada"]


async def test_two_steps_that_end_at_once_both_stand_whole() -> None:
    say = Say(worker="Ada", text="Again")
    result, _ = await run({4: [EndStep(worker="Ada"), say, EndStep(worker="Ada"), say]})
    assert "**Ada [2]:** Again\n\n**Ada [3]:** Again" in result.texts["Ada"]
    assert [step.number for step in result.steps if step.worker == "Ada"] == [1, 2]


async def test_a_parked_worker_waits_and_goes_on() -> None:
    _, recorder = await run({3: [Park(worker="Ada")], 8: [Resume(worker="Ada")]})
    ticks = [tick for tick, _ in sampled(recorder, "Ada")]
    assert not [tick for tick in ticks if 4 < tick <= 8]
    assert max(ticks) == 14


async def test_the_thinking_ends_when_all_are_parked() -> None:
    result, _ = await run({3: [Park(worker="Ada"), Park(worker="Bob")]})
    assert result.reason == "parked"


async def test_a_dismissed_worker_leaves_and_its_text_stays() -> None:
    result, recorder = await run({3: [Dismiss(worker="Ada")]})
    (left,) = recorder.of(WorkerLeft)
    assert (left.worker, left.error) == ("Ada", None)
    assert result.texts["Ada"]
    assert max(tick for tick, _ in sampled(recorder, "Ada")) <= 4
    assert max(tick for tick, _ in sampled(recorder, "Bob")) == 14


async def test_who_has_left_is_resumed_and_dismissed_without_effect() -> None:
    plan: dict[int, list[Action]] = {3: [Dismiss(worker="Ada")]}
    plan[6] = [Resume(worker="Ada"), Dismiss(worker="Ada")]
    result, recorder = await run(plan)
    assert result.reason == "ticks"
    assert len(recorder.of(WorkerLeft)) == 1


# -- who sees what


@pytest.mark.parametrize("layout", ["combined", "contiguous", "interleaved"])
async def test_what_is_hidden_is_not_seen_until_it_is_shown(layout: str) -> None:
    views: list[str] = []

    def look(view: str) -> str:
        views.append(view)
        return "Hm.\n\n"

    model = scripted_model(
        {"Ada": ["Alpha.\n\n", "Beta.\n\n", *["Gamma.\n\n"] * 9], "Bob": [look] * 20}
    )
    plan: dict[int, list[Action]]
    plan = {1: [Hide(author="Ada", viewers=("Bob",))], 40: [Show(author="Ada", viewers=("Bob",))]}
    await run(plan, model=model, layout=layout, limits=Limits(ticks=90))
    assert "Alpha." not in views[3]
    assert "Alpha." in views[-1]


@pytest.mark.parametrize("layout", ["combined", "contiguous", "interleaved"])
async def test_a_silent_observer_sees_all_and_is_seen_by_none(layout: str) -> None:
    views: dict[str, list[str]] = {"Ada": [], "Eve": []}

    def look(name: str) -> Any:
        def write(view: str) -> str:
            views[name].append(view)
            return f"{name} looks.\n\n"

        return write

    model = scripted_model({name: [look(name)] * 9 for name in views})
    workers = ["Ada", Worker("Eve", seen_by=())]
    await run({}, model=model, workers=workers, layout=layout, limits=Limits(ticks=80))
    assert "Ada looks." in views["Eve"][-1]
    assert not any("Eve" in view for view in views["Ada"])


# -- workers that type


async def test_a_scripted_worker_writes_its_lines_as_steps() -> None:
    result, _ = await run({}, workers=[TypingWorker("Ann", ["One.", "Two."]), "Bob"])
    assert result.texts["Ann"].startswith("**Ann [1]:** One.\n\n**Ann [2]:** Two.\n\n")


async def test_a_typing_worker_holds_nobody_up() -> None:
    async def slowly() -> AsyncGenerator[str]:
        yield "First."
        await anyio.sleep(0.2)
        yield "Second."

    async with aclosing(slowly()) as lines:
        result, recorder = await run({}, workers=[TypingWorker("Ann", lines), "Bob"])
    assert "First." in result.texts["Ann"]
    assert len(sampled(recorder, "Bob")) >= 13


async def test_what_a_typing_worker_has_not_read_is_there_for_the_next_run() -> None:
    async def numbers() -> AsyncGenerator[str]:
        for number in range(100):
            yield f"It is {number}."

    async with aclosing(numbers()) as lines:
        texts = ""
        for _ in range(2):  # each is cut off while a line is fed, not while it waits for one
            result, _ = await run({}, workers=[TypingWorker("Ann", lines)], limits=Limits(ticks=6))
            texts += result.texts["Ann"]
            gc.collect()  # an iterator that was left open would say so here
    found = [int(number) for number in re.findall(r"It is (\d+)\.", texts)]
    assert found == list(range(len(found)))
    assert len(found) >= 6
