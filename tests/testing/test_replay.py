"""assert_replays: a true record passes, and a record that was tampered with does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hogwild_agents import (
    Combined,
    LanguageModel,
    Limits,
    RunResult,
    SamplingParams,
    StepEnded,
    read_transcript,
)
from hogwild_agents.layouts import LAYOUTS
from hogwild_agents.policies import Finisher, RedundancyCheck
from hogwild_agents.testing import (
    ByteTokenizer,
    Recorder,
    assert_integrity,
    assert_replays,
    tiny_model,
)
from tests.runtime.rig import LONGER, TEMPLATE, talkative
from tests.testing.rig import make_team
from tests.text.kinds import MAKERS

pytestmark = pytest.mark.anyio

GREEDY = SamplingParams(temperature=0.0)
WARM = SamplingParams(temperature=1.0, logprobs=0)


async def write(path: Path, model: LanguageModel, **options: Any) -> RunResult:
    """Write the transcript of a run."""
    team = make_team(model, **{"limits": Limits(ticks=14), **options})
    return await team.solve("Say hello.", transcript=path)


@pytest.mark.parametrize("layout", [*LAYOUTS, Combined(reference_order=True)], ids=str)
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
async def test_a_true_record_replays(tmp_path: Path, layout: Any, sampling: SamplingParams) -> None:
    model = tiny_model()
    sampling = sampling.replace(bias={ord("."): 3.0, ord("\n"): 5.0})
    policies = [RedundancyCheck(every=3), Finisher(max_tokens=4)]
    await write(tmp_path / "t", model, layout=layout, sampling=sampling, policies=policies, seed=4)
    assert_replays(tmp_path / "t", model)
    assert_replays(read_transcript(tmp_path / "t"), tiny_model())
    assert_integrity(model.engine, used_tokens=0)


async def test_a_record_with_tokens_cut_in_two_replays(tmp_path: Path) -> None:
    tokenizer: Any = MAKERS[LONGER]()
    tokenizer.chat_template = TEMPLATE
    model = tiny_model(tokenizer=tokenizer)
    sampling = talkative(model, temperature=0.0, logprobs=0)
    recorder = Recorder()
    team = make_team(model, limits=Limits(ticks=14), sampling=sampling)
    await team.solve("Say hello.", transcript=tmp_path / "t", on_event=recorder)
    assert recorder.of(StepEnded)
    assert_replays(tmp_path / "t", model)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (GREEDY, r"^Alice took the token \d+ greedily, but \d+ is the most likely one\.$"),
        (WARM, r"^The token \d+ of Alice has the log-probability -.*, but -.* is on record\.$"),
    ],
    ids=["greedy", "warm"],
)
async def test_other_weights_are_found_out(
    tmp_path: Path, sampling: SamplingParams, message: str
) -> None:
    await write(tmp_path / "t", tiny_model(), sampling=sampling)
    other = tiny_model(seed=1)
    with pytest.raises(AssertionError, match=message):
        assert_replays(tmp_path / "t", other)
    assert_integrity(other.engine, used_tokens=0)


async def test_another_vocabulary_is_found_out(tmp_path: Path) -> None:
    tokenizer: Any = ByteTokenizer()
    tokenizer.add_tokens(["more"])
    await write(tmp_path / "t", tiny_model(tokenizer=tokenizer))
    with pytest.raises(AssertionError, match=r"cannot be fed again: .* model with 263 token ids"):
        assert_replays(tmp_path / "t", tiny_model())


def view_without_the_prompt(line: dict[str, Any]) -> None:
    for feed in line.get("feeds", ()):
        if line["worker"] == "Bob" and len(feed["view"]) > 1:
            feed["view"] = feed["view"][1:]


def other_event(line: dict[str, Any]) -> None:
    if line["type"] == "tokens_written" and line["source"] == "sampled":
        line["tokens"] = [7]


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (view_without_the_prompt, "has the log-probability"),
        (other_event, r"^Alice was fed the sampled token \d+, but its events tell 7\.$"),
    ],
)
async def test_tampering_is_found_out(
    tmp_path: Path, tamper: Callable[[dict[str, Any]], None], message: str
) -> None:
    model = tiny_model()
    await write(tmp_path / "t", model, sampling=WARM)
    lines = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    for line in lines:
        tamper(line)
    (tmp_path / "t").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(AssertionError, match=message):
        assert_replays(tmp_path / "t", model)
    assert_integrity(model.engine, used_tokens=0)
