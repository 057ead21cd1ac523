"""Two real processes that share a model compute what one does, and end together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hogwild_agents.engine import Engine
from tests.engine.families import EVERY
from tests.parallel.processes import Processes
from tests.parallel.rank import POISON
from tests.parallel.schedule import play

TOLERANCE = 1e-4
QUICK = ("llama", "qwen3-moe", "gpt-oss", "gemma3")
"""Of each: with split experts, with sinks and experts shared out, with windows."""


def save(folder: Path, *families: str) -> None:
    for name in families:
        EVERY[name].build(seed=1).save_pretrained(folder / name)


def compare(folder: Path, found: dict[str, Any], name: str) -> None:
    """Hold what two processes found to one process's engine."""
    model = AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32)
    with Engine(model, **EVERY[name].engine) as engine:
        expected = play(engine)
        whole = [shape.kv_heads for shape in engine.adapter.shapes]
        size = engine.bytes_per_token
    logits = torch.load(folder / f"{name}.pt")
    for got, wanted in zip(logits, expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0, msg=name)
    assert found["kv_heads"] == [heads // 2 for heads in whole]
    assert 2 * found["bytes"] == size


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    save(tmp_path, *QUICK)
    with Processes("logits", tmp_path) as processes:
        leader, follower = processes.ends(0), processes.ends(1)
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    assert leader.out == follower.out
    for name in QUICK:
        compare(tmp_path, leader.out[name], name)
    assert leader.out["gpt-oss"]["sinks"] == [2, 2]  # of four heads


# -- how it ends


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model, of which one token is poison."""
    folder = tmp_path_factory.mktemp("models")
    model = EVERY["llama"].build(seed=1)
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")
    model.save_pretrained(folder / "llama")
    return folder


def test_mistakes_are_found_before_anything_is_told(models: Path) -> None:
    with Processes("mistakes", models) as processes:
        leader, follower = processes.ends(0), processes.ends(1)
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    assert leader.out["errors"] == {
        "no feeds": "FeedError",
        "no view": "FeedError",
        "no such token": "FeedError",
        "no room": "CacheFullError",
        "not a number": "TickError",
    }
    assert leader.out["numbers"]
    assert "follows process 0" in follower.out["refused"]
    assert follower.out["closed"]


@pytest.mark.sweep
def test_who_follows_is_told_when_the_leader_fails(models: Path) -> None:
    with Processes("deaths", models) as processes:
        processes.wait_for(1, "following")
        processes.wait_for(0, "leading")
        processes.say(0, "fail")
        leader, follower = processes.ends(0, seconds=60), processes.ends(1, seconds=60)
    assert leader.code == 1
    assert "without closing" in leader.err
    assert "Process 0 has ended" in follower.out["error"]
    assert follower.out["closed"]


@pytest.mark.sweep
def test_who_follows_is_told_when_the_leader_is_killed(models: Path) -> None:
    with Processes("deaths", models) as processes:
        processes.wait_for(1, "following")
        processes.wait_for(0, "leading")
        processes.kill(0)
        follower = processes.ends(1, seconds=60)
    assert "Process 0 has ended" in follower.out["error"]
    assert follower.out["closed"]


@pytest.mark.sweep
def test_who_follows_does_not_wait_for_ever_for_a_leader_that_was_interrupted(
    models: Path,
) -> None:
    """It waits in a layer for what the leader, which lives on, will never send."""
    with Processes("deaths", models) as processes:
        processes.wait_for(1, "following")
        processes.wait_for(0, "leading")
        processes.say(0, "interrupt")
        processes.wait_for(0, "interrupted")
        follower = processes.ends(1)
        processes.say(0, "enough")
        leader = processes.ends(0)
    assert leader.code == 0, leader.err
    assert "failed in a forward" in follower.out["error"]
    assert follower.out["closed"]


@pytest.mark.sweep
def test_the_leader_is_told_when_a_follower_is_killed(models: Path) -> None:
    with Processes("deaths", models) as processes:
        processes.wait_for(0, "leading")
        processes.kill(1)
        processes.say(0, "go on")
        leader = processes.ends(0, seconds=60)
    assert leader.code == 0, leader.err
    first, second = leader.out["errors"]
    assert "start them all anew" in first  # whether telling or computing has failed
    assert "no longer in step" in second
    assert leader.out["length"] == 3  # the tick that failed has left nothing
    assert leader.out["closed"]
