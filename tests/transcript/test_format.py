"""The format: a line for every event, every field of it, and version 1 stays readable."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st

from hogwild_agents import actions, events
from hogwild_agents.engine import SamplingParams
from hogwild_agents.events import NAMES, Event
from hogwild_agents.limits import Limits
from hogwild_agents.result import RunResult, Step
from hogwild_agents.tools import Tool
from hogwild_agents.transcript import TranscriptHeader, TranscriptWriter, read_transcript, rebuild
from hogwild_agents.transcript_actions import ActionEntry, SpawnEntry
from hogwild_agents.transcript_entries import Entry, Record, SamplingEntry, WorkerEntry
from hogwild_agents.transcript_events import ActionTakenLine, EventLine, ResultEntry, StepEntry
from hogwild_agents.transcript_lines import LimitsEntry
from hogwild_agents.worker import Worker
from tests.transcript.sample import EVENTS, OLD_EVENTS, make_engine, make_header, write_sample

VERSION_1 = Path(__file__).with_name("version1.jsonl")
VERSION_2 = Path(__file__).with_name("version2.jsonl")
ACTIONS: list[type[Record]] = list(get_args(ActionEntry))
LINES: dict[str, type[EventLine]] = {
    line.model_fields["type"].default: line for line in EventLine.__subclasses__()
}
MIRRORS: list[tuple[type[Entry], Any]] = [
    *((entry, entry.restores) for entry in ACTIONS),
    (StepEntry, Step),
    (ResultEntry, RunResult),
    (SamplingEntry, SamplingParams),
    (LimitsEntry, Limits),
    *((LINES[name], event) for name, event in NAMES.items()),
]

text = st.text(max_size=20)
name = st.text(min_size=1, max_size=8)
count = st.integers(0, 2**40)
number = st.floats(allow_nan=False)
tokens = st.lists(st.integers(0, 2**20), max_size=4).map(tuple)
steps = st.lists(
    st.builds(Step, worker=name, number=count, text=text, tick=count, prefix=text), max_size=3
)
results = st.builds(
    RunResult,
    answer=st.none() | text,
    author=st.none() | name,
    reason=text,
    texts=st.dictionaries(name, text, max_size=3),
    steps=steps.map(tuple),
    ticks=count,
    tokens=count,
    seconds=number,
    failures=st.dictionaries(name, text, max_size=2),
    problem=text,
)
viewers = st.none() | st.lists(name, min_size=1, max_size=3).map(tuple)
any_action = st.one_of(
    st.builds(actions.Say, worker=name, text=text),
    st.builds(actions.Bias, worker=name, bias=st.dictionaries(count | name, number, max_size=3)),
    st.builds(actions.Ban, worker=name, texts=st.lists(name).map(tuple), token_ids=tokens),
    st.builds(actions.ChangeSampling, worker=name, temperature=st.none() | number, top_k=count),
    st.builds(actions.Hide, author=name, viewers=viewers),
    st.builds(actions.Forget, worker=name, step=count, viewers=viewers),
    st.builds(actions.Probe, worker=name, question=text, answers=st.lists(text).map(tuple)),
    st.builds(actions.Conclude, text=text, worker=st.none() | name, max_tokens=count, reason=text),
    st.builds(actions.Finish, answer=st.none() | text, author=st.none() | name, reason=text),
)
any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        events.RunStarted,
        problem=text,
        workers=st.lists(name, max_size=3).map(tuple),
        layout=text,
        prompt_tokens=count,
    ),
    st.builds(
        events.TokensWritten,
        worker=name,
        step=count,
        tick=count,
        tokens=tokens,
        text=text,
        source=st.sampled_from(["sampled", "forced"]),
        logprobs=st.lists(number, max_size=2).map(tuple),
    ),
    st.builds(
        events.StepEnded,
        worker=name,
        step=count,
        tick=count,
        text=text,
        tokens_written=count,
        prefix=text,
    ),
    st.builds(events.WorkerJoined, worker=name, tick=count, forked_from=st.none() | name),
    st.builds(
        events.ProbeAnswered,
        worker=name,
        question=text,
        probabilities=st.dictionaries(text, number, max_size=3),
        mass=number,
        tick=count,
    ),
    st.builds(events.TickEnded, tick=count, seconds=number, tokens=count),
    st.builds(events.LimitReached, limit=text, tick=count),
    st.builds(events.ActionTaken, policy=name, action=any_action, tick=count),
    st.builds(events.PolicyFailed, policy=name, error=text, tick=count),
    st.builds(events.WorkerLeft, worker=name, tick=count, error=st.none() | text),
)


def price(item: str) -> float:
    """Tells a price."""
    return 1.5


def without(value: Any, name: str) -> Any:
    """A JSON value less all fields of this name."""
    if isinstance(value, list):
        return [without(item, name) for item in value]
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items() if key != name}
    return value


def test_every_event_has_its_line() -> None:
    assert set(LINES) == set(NAMES)
    assert {NAMES[name]: line.restores for name, line in LINES.items()} == {
        event: event for event in NAMES.values()
    }
    assert {type(event) for event in EVENTS} == set(NAMES.values())


@pytest.mark.parametrize(("entry", "mirrored"), MIRRORS, ids=lambda kind: kind.__name__)
def test_entry_has_every_field_of_what_it_holds(entry: type[Entry], mirrored: Any) -> None:
    expected = [field.name for field in fields(mirrored)]
    assert [name for name in entry.model_fields if name not in ("type", "kind")] == expected


def test_every_action_has_its_entry() -> None:
    assert {entry.restores for entry in ACTIONS} == set(get_args(actions.Action))


def test_a_spawned_worker_comes_back_as_far_as_any_worker_goes(tmp_path: Path) -> None:
    worker = Worker(
        "Eve",
        role="I check.",
        public_role="checks",
        problem="1 + 1",
        seed=4,
        sampling=SamplingParams(temperature=0.5),
        sees=["Bob"],
        seen_by=[],
        tools=[price, Tool(price, name="cost")],
    )
    spawned = events.ActionTaken(
        policy="P", action=actions.Spawn(worker=worker, fork_of="Bob"), tick=1
    )
    with TranscriptWriter(tmp_path / "t.jsonl") as writer:
        writer.header(make_header())
        writer.event(spawned)
    (back,) = read_transcript(tmp_path / "t.jsonl", allow_partial=True).events()
    assert isinstance(back, events.ActionTaken)
    assert isinstance(back.action, actions.Spawn)
    assert back.action.fork_of == "Bob"
    names = ("name", "role", "public_role", "problem", "seed", "sampling", "sees", "seen_by")
    assert all(getattr(back.action.worker, n) == getattr(worker, n) for n in names)
    assert back.action.worker.tools == ()


def test_tools_are_on_record_by_name(tmp_path: Path) -> None:
    eve = Worker("Eve", tools=[price, Tool(price, name="cost")])
    header = make_header().model_copy(update={"workers": (WorkerEntry.model_validate(eve),)})
    with TranscriptWriter(tmp_path / "t.jsonl") as writer:
        writer.header(header)
        spawn = actions.Spawn(worker=eve)
        writer.event(events.ActionTaken(policy="P", action=spawn, tick=1))
    transcript = read_transcript(tmp_path / "t.jsonl", allow_partial=True)
    assert transcript.header.workers[0].tools == ("price", "cost")
    (line,) = transcript.lines
    assert isinstance(line, ActionTakenLine)
    assert isinstance(line.action, SpawnEntry)
    assert line.action.worker.tools == ("price", "cost")


@given(st.lists(any_event, max_size=6), results)
def test_events_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event], result: RunResult
) -> None:
    path = tmp_path_factory.mktemp("run") / "t.jsonl"
    told = [*told, events.RunEnded(result=result)]
    with TranscriptWriter(path) as writer:
        writer.header(make_header())
        for event in told:
            writer.event(event)
    transcript = read_transcript(path)
    assert list(transcript.events()) == told
    assert transcript.result == result


def test_header_tells_what_was_run(tmp_path: Path) -> None:
    write_sample(tmp_path / "t.jsonl")
    header = read_transcript(tmp_path / "t.jsonl").header
    assert header == make_header().model_copy(update={"created": header.created})
    assert header.created.utcoffset() is not None
    assert [(worker.name, worker.role, worker.seed) for worker in header.workers] == [
        ("Alice", "", None),
        ("Bøb", "I check.", 3),
    ]
    assert (header.limits.ticks, header.limits.seconds) == (64, None)
    assert header.sampling.banned == {4, 9}
    assert header.sampling.bias == {3: -1.5}


def test_every_line_is_one_json_object(tmp_path: Path) -> None:
    write_sample(tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    found = [json.loads(line) for line in lines]
    assert [line["type"] for line in found[:5]] == ["header", "block", "tick", "block", "block"]
    assert found[6] == {
        "type": "tick",
        "tick": 2,
        "worker": "Alice",
        "feeds": [{"block": 1, "view": [0, 2, 0, 1], "tokens": [5, 6], "sources": "fs"}],
        "moves": [[1, 2]],
        "forks": [{"source": 1, "target": 3, "length": 1, "after": 0}],
    }
    assert found[-1]["type"] == "run_ended"


def test_version_1_stays_readable() -> None:
    transcript = read_transcript(VERSION_1)
    made = make_header().model_copy(
        update={
            "created": transcript.header.created,
            "package": transcript.header.package,
            "version": 1,
        }
    )
    assert transcript.header == made
    assert list(transcript.events()) == list(OLD_EVENTS)
    with make_engine() as engine:
        blocks = rebuild(transcript, engine)
        assert [block.tokens for block in blocks.values()] == [(1, 2, 3), (), (5, 6)]


def test_version_2_stays_readable() -> None:
    transcript = read_transcript(VERSION_2)
    assert list(transcript.events()) == list(EVENTS)
    with make_engine() as engine:
        blocks = rebuild(transcript, engine)
        assert [block.tokens for block in blocks.values()] == [(1, 2, 3), (), (5, 6), (5,)]


def test_what_came_to_version_2_later_may_be_missing(tmp_path: Path) -> None:
    rows = [without(json.loads(row), "prefix") for row in VERSION_2.read_bytes().splitlines()]
    del rows[-1]["result"]["problem"]
    for worker in rows[0]["workers"]:
        del worker["tools"]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    bare = [
        replace(event, prefix="") if isinstance(event, events.StepEnded) else event
        for event in EVENTS
    ]
    assert list(read_transcript(path).events()) == bare != list(EVENTS)


def test_version_2_is_what_is_written(tmp_path: Path) -> None:
    write_sample(tmp_path / "t.jsonl")
    rows = (tmp_path / "t.jsonl").read_bytes().splitlines()
    frozen = VERSION_2.read_bytes().splitlines()
    assert rows[1:] == frozen[1:]
    old, new = json.loads(frozen[0]), json.loads(rows[0])
    for changing in ("created", "package"):
        del old[changing], new[changing]
    assert list(TranscriptHeader.model_fields)[:3] == ["type", "format", "version"]
    assert new == old
