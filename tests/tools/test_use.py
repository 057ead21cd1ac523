"""Workers call tools while they think, and the others think on."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents.actions import Action, EndStep, Finish, Say, Spawn
from hogwild_agents.events import StepEnded, TickEnded, TokensWritten, WorkerLeft
from hogwild_agents.limits import Limits
from hogwild_agents.models import LanguageModel
from hogwild_agents.policy import Policy
from hogwild_agents.tool_use import describe_tools
from hogwild_agents.tools import Tool
from hogwild_agents.worker import Worker
from tests.runtime.book import check_feeds
from tests.runtime.rig import (
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
)
from tests.tools.mind import STOP, Caller, Mind
from tests.tools.templates import HERMES, LLAMA, tokenizer_with

pytestmark = pytest.mark.anyio
NONE = Limits()
ALICE = "**Alice [1]:** "


async def add(a: int, b: int = 2) -> int:
    """Adds two numbers."""
    return a + b


def shout(text: str) -> str:
    """Says it louder."""
    return text.upper()


def fail(reason: str) -> None:
    """Never works."""
    raise OSError(reason)


async def alone(*script: object, tools: Any = (add, shout, fail), **options: Any) -> Play:
    """A worker with tools that is alone, and leaves after its script."""
    worker = Caller("Alice", *script, tools=tools, **options)
    return await solve(make_team(workers=[worker], limits=NONE))


async def text_of(*script: object, **options: Any) -> str:
    """What comes of a script."""
    record = await alone(*script, **options)
    assert record.result.failures == {}
    return str(record.result.texts["Alice"]).removeprefix(ALICE)


# -- one worker


async def test_a_result_is_fed_right_behind_its_call() -> None:
    record = await alone('So.\n@add {"a": 2, "b": 3}', STOP, "It is 5.")
    expected = f'{ALICE}So.\n@add {{"a": 2, "b": 3}}\nResult of add: 5\nIt is 5.'
    assert record.result.texts["Alice"] == expected
    forced = [e.text for e in record.told(TokensWritten) if e.source == "forced"]
    assert "".join(forced) == f"{ALICE}\nResult of add: 5\n"


async def test_what_would_come_instead_of_a_call_is_thrown_away() -> None:
    expected = '@add {"a": 1}\nResult of add: 3\nSo'
    assert await text_of('@add {"a": 1}', STOP, "So") == expected
    assert await text_of('@add {"a": 1}', "So", "So") == expected  # cannot be a call either
    assert await text_of('@add {"a": 1}\n', "So", "So") == expected


async def test_the_end_of_a_turn_can_be_sampled_behind_a_call_only() -> None:
    worker = Caller("Alice", "@add {}", STOP, "x", STOP, tools=[add])
    record = await play(make_team(workers=[worker], limits=NONE))
    assert "cannot be sampled here" in str(record.error)
    assert record.text("Alice").endswith("a is missing: its arguments are a, b.\nx")


async def test_calls_in_lines_that_follow_each_other_are_one_message() -> None:
    started, gate = [], anyio.Event()

    async def meet(number: int) -> str:
        started.append(number)
        if len(started) == 3:
            gate.set()
        await gate.wait()  # all three are under way at once
        return f"met {number}"

    script = "".join(f'@meet {{"number": {number}}}\n' for number in (3, 1, 2))
    text = await text_of(script, STOP, "Well", tools=[Tool(meet, timeout=5.0)])
    results = "".join(f"Result of meet: met {number}\n" for number in (3, 1, 2))
    assert text == f"{script}{results}Well"


async def test_what_goes_wrong_is_text() -> None:
    text = await text_of(
        'x\n@add {"a": "y"}',
        STOP,
        '@ad {"a": 1}\n@fail {"reason": "no disk"}',
        STOP,
        '@add {"',
        "\n",
    )
    results = [line for line in text.splitlines() if line.startswith("Result")]
    assert results == [
        "Result of add: Error: add was not called, because a is 'y' (input should be a valid "
        "integer, unable to parse string as an integer): its arguments are a, b.",
        "Result of ad: Error: There is no tool 'ad': the tools are add, shout, fail.",
        "Result of fail: Error: fail failed with OSError: no disk.",
        "Result of add: Error: The call cannot be read, because a string in it has a line break, "
        r"which is \n in JSON.",
    ]


async def test_a_tool_that_takes_too_long_is_given_up() -> None:
    async def wait() -> None:
        await anyio.sleep_forever()

    text = await text_of("@wait {}", STOP, "So", tools=[Tool(wait, timeout=0.01)])
    assert "Error: wait was given up, because it took longer than 0.01 seconds.\nSo" in text


async def test_the_end_of_a_step_ends_the_message() -> None:
    class Break(Policy):
        async def on_tokens_written(self, event: TokensWritten) -> list[Action]:
            return [EndStep(worker="Alice")] if event.text.endswith("}") else []

    worker = Caller("Alice", '@shout {"text": "a"}', "z", "So", tools=[shout])
    record = await solve(make_team(workers=[worker], limits=NONE, policies=[Break()]))
    first, second = '**Alice [1]:** @shout {"text": "a"}\n\n', "**Alice [2]:** "
    assert record.result.texts["Alice"] == f"{first}{second}\nResult of shout: A\nSo"
    assert [step.text for step in record.result.steps] == [first]


async def test_a_call_that_its_step_cuts_off_is_told() -> None:
    text = await text_of('@shout {"text": 1\n.\n\n', "So")
    assert "**Alice [2]:** \nResult: Error: The call cannot be read, because its step ended" in (
        text.replace("Result of shout:", "Result:")
    )


async def test_a_call_in_a_code_block_is_none() -> None:
    text = '```\n@add {"a": 1}\n```\nor `@add {"a": 1}`, as Bob\'s\n> @add {"a": 1}\n'
    assert await text_of(text, "So") == f"{text}So"


async def test_results_leave_no_code_block_open() -> None:
    def read() -> str:
        """Gives a text."""
        return "a\n```\nb"

    record = await alone("@read {}", STOP, "So.\n\n", "x", tools=[read])
    assert [step.number for step in record.result.steps] == [1]
    record = await alone('@shout {"text": "$$"}', STOP, "So.\n\n", "x")
    assert [step.number for step in record.result.steps] == [1]


async def test_control_tokens_in_results_are_plain_text() -> None:
    said = "</s><s> <think> </think></s>"

    def read() -> str:
        """Gives a text."""
        return said

    record = await alone("@read {}", STOP, "So", tools=[read])
    assert f"Result of read: {said}\n" in record.result.texts["Alice"]
    special = set(record.team.model.tokenizer.all_special_ids)
    assert not special & {id for e in record.told(TokensWritten) for id in e.tokens}


async def test_calls_that_are_forced_are_answered_before_the_next_token() -> None:
    text = await text_of("z", "So", before='@add {"a": 1}\n@add {"a": 2}\n\nWell')
    results = "\nResult of add: 3\nResult of add: 4\n"
    assert text == f'@add {{"a": 1}}\n@add {{"a": 2}}\n\nWell{results}So'


async def test_a_scripted_worker_has_its_calls_answered_at_once() -> None:
    class Clerk(Worker):
        async def run(self) -> None:
            await self.write('@add {"a": 1}\n')
            await self.use_tools()
            await self.write("So.\n@add {")
            await self.use_tools()
            await self.write('"a": 5}')
            await self.use_tools()
            await self.use_tools()

    record = await solve(make_team(workers=[Clerk("Alice", tools=[add])], limits=NONE))
    expected = '@add {"a": 1}\nResult of add: 3\nSo.\n@add {"a": 5}\nResult of add: 7\n'
    assert record.result.texts["Alice"] == ALICE + expected


@pytest.mark.parametrize("looks", [False, True])
async def test_calls_in_steps_that_are_over_are_answered(looks: bool) -> None:
    class Clerk(Worker):
        async def run(self) -> None:
            if looks:
                await self.write("Hm. ")
                await self.use_tools()
                await self.end_step()
            await self.write('@add {"a": 1}\n')
            await self.end_step()
            await self.write('@add {"a": 2}\n')
            await self.end_step()
            await self.write("Now ")
            await self.use_tools()

    record = await solve(make_team(workers=[Clerk("Alice", tools=[add])], limits=NONE))
    assert record.result.texts["Alice"].endswith("Now \nResult of add: 3\nResult of add: 4\n")


async def test_the_end_of_a_turn_is_not_written_where_the_tool_is_cut_off() -> None:
    async def sleep() -> None:
        """Never works."""
        cut.cancel()
        await anyio.sleep_forever()

    class Thinker(Caller):
        async def run(self) -> None:
            self.desk.sampler = Mind(self.ids())
            self.desk.sampler.params = self.desk.tweaks.params
            with cut:
                await self.think()
            await self.next_token()

    cut = anyio.CancelScope()
    alice = Thinker("Alice", "@sleep {}\n", STOP, "So", tools=[sleep])
    record = await solve(make_team(workers=[alice, Typist("Bob", 9)], limits=NONE))
    assert "nothing to continue from" in record.result.failures["Alice"]
    assert record.result.texts["Alice"] == ALICE + "@sleep {}\n"


async def test_a_worker_that_thinks_uses_its_tools() -> None:
    class Thinker(Caller):
        async def run(self) -> None:
            self.desk.sampler = Mind(self.ids())
            self.desk.sampler.params = self.desk.tweaks.params
            await self.think(self.count)

        @property
        def count(self) -> int:
            return len(self.ids()) - 1  # less the end of the turn

    worker = Thinker("Alice", 'So.\n@add {"a": 1}\n', STOP, "Well", tools=[add])
    record = await solve(make_team(workers=[worker], limits=NONE))
    expected = 'So.\n@add {"a": 1}\nResult of add: 3\nWell'
    assert record.result.texts["Alice"] == ALICE + expected


async def test_a_call_that_is_begun_by_force_can_be_finished() -> None:
    assert await text_of("1}", STOP, "So", before='@add {"a": ') == (
        '@add {"a": 1}\nResult of add: 3\nSo'
    )


async def test_a_worker_without_tools_calls_none() -> None:
    record = await solve(make_team(workers=[Typist("Alice", '@add {"a": 1}\n', 2)], limits=NONE))
    assert "Result" not in record.result.texts["Alice"]


async def test_each_run_has_its_own_calls_on_the_same_tools() -> None:
    count = 0

    async def tick() -> int:
        nonlocal count
        count += 1
        return count

    worker = Caller("Alice", "@tick {}", STOP, tools=[tick])
    team = make_team(workers=[worker], limits=NONE)
    for number in (1, 2):
        record = await solve(team)
        assert record.result.texts["Alice"] == f"{ALICE}@tick {{}}\nResult of tick: {number}\n"


# -- the others


async def test_the_others_think_on_while_a_tool_is_at_work() -> None:
    ticks = 0
    done = anyio.Event()

    class Count(Policy):
        async def on_tick_ended(self, event: TickEnded) -> None:
            nonlocal ticks
            ticks = event.tick
            if event.tick == 12:
                done.set()

    during: list[int] = []

    async def wait() -> str:
        during.append(ticks)
        await done.wait()
        during.append(ticks)
        return "done"

    worker = Caller("Alice", "@wait {}", STOP, "So", tools=[wait])
    team = make_team(
        workers=[worker, Typist("Bob", 30)], limits=NONE, policies=[Count()], layout="combined"
    )
    record = await solve(team)
    assert "Result of wait: done\nSo" in record.result.texts["Alice"]
    before, after = during
    assert before < 11
    assert after >= 12
    bob = [e.tick for e in record.told(TokensWritten) if e.worker == "Bob"]
    assert {before, before + 1, 11, 12} <= set(bob)


async def test_the_others_see_a_call_before_its_result() -> None:
    gate, seen = anyio.Event(), []

    async def wait() -> str:
        await gate.wait()
        return "done"

    async def watch(worker: Worker) -> None:
        with worker.parked():
            await until(lambda: worker.others["Alice"].endswith("@wait {}"))
        await worker.write("I see it. ")
        seen.append(worker.others["Alice"])
        gate.set()

    team = make_team(
        workers=[Caller("Alice", "@wait {}", STOP, tools=[wait]), Typist("Bob", 1, watch, 8)],
        limits=NONE,
    )
    record = await solve(team)
    assert seen == [f"{ALICE}@wait {{}}"]
    assert record.result.texts["Alice"].endswith("Result of wait: done\n")


async def test_calls_of_others_are_none_of_ones_own() -> None:
    calls: list[int] = []

    async def note(number: int) -> None:
        calls.append(number)

    workers = [
        Caller("Alice", "Let me see.", tools=[note]),
        Caller("Bob", '@note {"number": 1}', STOP, "So.", tools=[note]),
    ]
    await solve(make_team(workers=workers, limits=NONE))
    assert calls == [1]


async def test_a_thread_at_work_holds_up_nobody() -> None:
    gate = threading.Event()

    def wait() -> bool:
        return gate.wait(20)

    async def open_gate(worker: Worker) -> None:
        gate.set()

    workers = [
        Caller("Alice", "@wait {}", STOP, tools=[wait]),
        Typist("Bob", 15, open_gate, 3),
    ]
    record = await solve(make_team(workers=workers, limits=NONE))
    assert "Result of wait: true" in record.result.texts["Alice"]


@pytest.mark.parametrize("layout", ["combined", "contiguous", "interleaved"])
async def test_steps_and_tools_of_several_workers_go_together(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The book knows of roles, but not of what is told of tools.
    monkeypatch.setattr("hogwild_agents.team.describe_tools", lambda model, tools: "")
    workers = [
        Caller("Alice", 'One.\n\n@add {"a": 1}', STOP, "Two.\n\nThree", tools=[add]),
        steps_of("Bob", [3, 5]),
        Caller("Carol", '@shout {"text": "x"}', STOP, "y.\n\n", tools=[shout]),
    ]
    record = await solve(make_team(workers=workers, limits=NONE, layout=layout))
    assert record.result.failures == {}
    assert "Result of add: 3\nTwo.\n\n**Alice [3]:** Three" in record.result.texts["Alice"]
    assert "Result of shout: X\ny.\n\n**Carol [2]:** " in record.result.texts["Carol"]
    steps = [(e.worker, e.step) for e in record.told(StepEnded)]
    assert steps.count(("Alice", 2)) == 1
    check_feeds(record)


# -- what ends it


@pytest.mark.parametrize("ending", ["finish", "ticks", "cancel"])
async def test_a_tool_at_work_is_cancelled_with_its_run(ending: str) -> None:
    begun, cancelled = anyio.Event(), []

    async def wait() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    class End(Policy):
        async def on_tick_ended(self, event: TickEnded) -> list[Action]:
            return [Finish()] if ending == "finish" and begun.is_set() else []

    workers = [Caller("Alice", "@wait {}", STOP, tools=[Tool(wait, timeout=None)]), "Bob"]
    limits = Limits(ticks=30) if ending == "ticks" else NONE
    run = make_team(workers=workers, limits=limits, policies=[End()]).start(PROBLEM)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(run.execute)
            await begun.wait()
            if ending == "cancel":
                group.cancel_scope.cancel()
    assert cancelled == [True]
    assert (
        run.result.reason == {"finish": "answer", "ticks": "ticks", "cancel": "cancelled"}[ending]
    )
    assert run.result.texts["Alice"] == f"{ALICE}@wait {{}}"
    assert run.result.failures == {}


async def test_what_a_policy_says_meanwhile_stands_before_the_result() -> None:
    begun, said = anyio.Event(), anyio.Event()

    async def wait() -> str:
        begun.set()
        await said.wait()
        return "done"

    class Hurry(Policy):
        async def on_tick_ended(self, event: TickEnded) -> list[Action]:
            if not begun.is_set() or said.is_set():
                return []
            said.set()
            return [Say(worker="Alice", text=" (hurry)"), EndStep(worker="Alice")]

    workers = [Caller("Alice", "@wait {}", STOP, "z", "So", tools=[wait]), Typist("Bob", 20)]
    record = await solve(make_team(workers=workers, limits=NONE, policies=[Hurry()]))
    assert record.result.texts["Alice"] == (
        f"{ALICE}@wait {{}} (hurry)\n\n**Alice [2]:** \nResult of wait: done\nSo"
    )


async def test_a_fork_does_not_repeat_the_calls_that_it_inherits() -> None:
    calls: list[int] = []

    async def note(number: int) -> None:
        calls.append(number)

    class Fork(Policy):
        async def on_tick_ended(self, event: TickEnded) -> list[Action]:
            spawned = Caller("Eve", '\n@note {"number": 2}', STOP, "x", tools=[note])
            return [Spawn(worker=spawned, fork_of="Alice")] if event.tick == 40 else []

    workers = [Caller("Alice", '@note {"number": 1}', STOP, "So " * 12, tools=[note])]
    team = make_team(workers=workers, limits=Limits(ticks=200), policies=[Fork()])
    result = await team.solve(PROBLEM)
    assert result.failures == {}
    assert calls == [1, 2]
    assert result.texts["Alice"].count("Result of note") == 1
    assert result.texts["Eve"].count("Result of note") == 2


# -- what it is told, and in which format


def model_with(template: str) -> LanguageModel:
    """A tiny model whose tokenizer has the tokens of the families."""
    from hogwild_agents.engine import Engine
    from tests.engine.families import Family

    tokenizer = tokenizer_with(template)
    options = {
        "head_dim": 16,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 4096,
    }
    family = Family(
        name="qwen3 tools", model="Qwen3ForCausalLM", config="Qwen3Config", options=options
    )
    engine = Engine(family.build(), verify=False)
    return LanguageModel(name="tiny", engine=engine, tokenizer=tokenizer)


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


async def test_calls_and_results_are_written_as_the_model_does() -> None:
    model = model_with(HERMES)
    script = (f"So.\n{CALL}\n{CALL}", STOP, "Yes")
    worker = Caller("Alice", *script, tools=[add])
    record = await solve(make_team(model, workers=[worker], limits=NONE))
    response = "<tool_response>\n3\n</tool_response>\n"
    assert record.result.texts["Alice"] == f"{ALICE}So.\n{CALL}\n{CALL}\n{response * 2}Yes"
    opening = model.tokenizer.convert_tokens_to_ids("<tool_response>")
    assert sum(opening in e.tokens for e in record.told(TokensWritten)) == 2


async def test_a_response_in_a_result_is_no_token() -> None:
    model = model_with(HERMES)

    def read() -> str:
        """Gives a text."""
        return "</tool_response><|im_end|>"

    call = '<tool_call>{"name": "read", "arguments": {}}</tool_call>'
    worker = Caller("Alice", call, STOP, tools=[read])
    record = await solve(make_team(model, workers=[worker], limits=NONE))
    assert "</tool_response><|im_end|>\n</tool_response>\n" in record.result.texts["Alice"]
    written = [id for e in record.told(TokensWritten) for id in e.tokens]
    ids = model.tokenizer.convert_tokens_to_ids(["</tool_response>", "<|im_end|>"])
    assert [written.count(id) for id in ids] == [1, 0]


@pytest.mark.parametrize("template", [None, HERMES, LLAMA])
async def test_a_worker_is_told_of_its_tools_in_private(template: str | None) -> None:
    model = model_with(template) if template else language_model()
    workers = [
        Caller("Alice", "x", tools=[add], role="I compute."),
        Caller("Bob", "y", tools=[shout]),
        Typist("Carol", 2),
    ]
    record = await solve(make_team(model, workers=workers, limits=NONE))
    roles = {
        feed.block.name: (model.decode(feed.tokens), feed.view)
        for commit in record.commits
        if not commit.seat
        for feed in commit.feeds
        if feed.block.name.endswith("role")
    }
    told = {worker.name: describe_tools(model, worker.tools) for worker in workers}
    assert told["Carol"] == ""
    assert "Adds two numbers." in told["Alice"]
    assert {name: text for name, (text, _) in roles.items()} == {
        "Alice's role": f"### My role\n\nI am Alice. I compute.\n\n{told['Alice']}",
        "Bob's role": told["Bob"],
    }
    views = [
        [entry.name for entry in feed.view if hasattr(entry, "name")]
        for commit in record.commits
        for feed in commit.feeds
        if commit.seat == "Carol"
    ]
    assert not any("role" in name for view in views for name in view)


# -- whatever it writes


PARTS = st.sampled_from(
    ['@add {"a": 1}', "\n", "@add ", "{", "}", '"', "```\n", "`", ".\n\n", "x", "@no {}", " "]
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=12)
@given(script=st.lists(PARTS, max_size=14))
def test_whatever_is_written_the_run_is_in_order(backend: str, script: list[str]) -> None:
    async def main() -> None:
        worker = Caller("Alice", *script, tools=[add])
        team = make_team(workers=[worker, Typist("Bob", 5)], limits=Limits(ticks=200))
        record = await solve(team)
        assert record.result.failures == {}
        left = {event.worker for event in record.told(WorkerLeft)}
        assert left == {"Alice", "Bob"}

    run_on(backend, main)
