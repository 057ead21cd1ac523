"""Two real processes that share a model compute what one does, and end together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hogwild_agents.engine import Engine
from tests.engine.families import EVERY
from tests.parallel.processes import SHARES_EXPERTS, Processes
from tests.parallel.rank import POISON, SIZE
from tests.parallel.schedule import play

TOLERANCE = 1e-4
QUICK = ("llama", "qwen3-moe", "gemma3", *(("gpt-oss",) if SHARES_EXPERTS else ()))
"""Of each: with split experts, with windows, with sinks and experts shared out."""


def compare(family: str, folder: Path) -> tuple[list[int], int]:
    """Hold the logits of two processes to one process's engine.

    Returns:
        the heads that each of its layers stores, and its bytes for each token.
    """
    with Engine(build(family), **EVERY[family].engine) as engine:
        expected = play(engine)
        heads = [shape.kv_heads for shape in engine.adapter.shapes]
        size = engine.bytes_per_token
    for got, wanted in zip(torch.load(folder / f"{family}.pt"), expected, strict=True):
        error = float((got - wanted).abs().max())
        assert error <= TOLERANCE, f"{family}: {error}"
    return heads, size


def build(family: str) -> Any:
    return EVERY[family].build(seed=1, vocab_size=SIZE)


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    for family in QUICK:
        build(family).save_pretrained(tmp_path / family)
    with Processes("logits", tmp_path) as processes:
        leader, follower = processes.ends(0), processes.ends(1)
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    assert leader.out == follower.out
    for family in QUICK:
        heads, size = compare(family, tmp_path)
        assert leader.out[family]["kv_heads"] == [number // 2 for number in heads]
        assert 2 * leader.out[family]["bytes"] == size
    if SHARES_EXPERTS:
        assert leader.out["gpt-oss"]["sinks"] == [2, 2]  # of four heads


@pytest.mark.sweep
def test_every_family_is_split_exactly_or_refused(tmp_path: Path) -> None:
    for family in EVERY:
        build(family).save_pretrained(tmp_path / family)
    with Processes("logits", tmp_path) as processes:
        leader, follower = (processes.ends(rank, seconds=1200) for rank in (0, 1))
    assert (leader.code, follower.code) == (0, 0), leader.err + follower.err
    split = [family for family, found in leader.out.items() if "refused" not in found]
    halved = []
    for family in split:
        heads, _ = compare(family, tmp_path)
        if leader.out[family]["kv_heads"] == [number // 2 for number in heads]:
            halved.append(family)
        else:  # transformers gathers the heads again; then all processes have all of them
            assert leader.out[family]["kv_heads"] == heads
    print(f"{len(split)} of {len(EVERY)} families are split, {len(halved)} with their cache")
    assert len(split) >= 60
    assert len(halved) >= 50


# -- how it ends


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model, of which one token is poison."""
    folder = tmp_path_factory.mktemp("models")
    model = build("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[POISON] = float("nan")
    model.save_pretrained(folder / "llama")
    return folder


@pytest.mark.sweep
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
        leader, follower = processes.ends(0), processes.ends(1)
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
        follower = processes.ends(1)
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
        leader = processes.ends(0)
    assert leader.code == 0, leader.err
    first, second = leader.out["errors"]
    assert "start them all anew" in first  # whether telling or computing has failed
    assert "no longer in step" in second
    assert leader.out["length"] == 3  # the tick that failed has left nothing
    assert leader.out["closed"]
