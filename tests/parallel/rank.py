"""One of the processes of the tests: ``python -m tests.parallel.rank SCENE FOLDER``.

It writes what it has found as one JSON object on its last line.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import transformers

from hogwild_agents.engine import Feed, link
from hogwild_agents.engine.parallel import ParallelEngine
from hogwild_agents.errors import HogwildError, ModelError, ParallelError, UsageError
from hogwild_agents.shards import split_options
from tests.engine.families import EVERY, VOCAB
from tests.parallel.schedule import play

TIMEOUTS = {"deaths": timedelta(seconds=60)}
"""How long processes wait for each other within a forward; else as long as a test may take."""
SIZE = VOCAB + 1
"""Of the vocabulary: even, as transformers 5.17 wants it."""
POISON = 2
"""A token whose embedding is no number in the model of the scenes about failures."""


def shared_engine(folder: Path, **options: Any) -> ParallelEngine:
    """Load this process's share of the model in a folder, which has the family's name."""
    config = EVERY[folder.name].configuration(vocab_size=SIZE)
    kind = getattr(transformers, EVERY[folder.name].model)
    shares = split_options(config, folder.name)
    try:
        model = kind.from_pretrained(folder, config=config, dtype=torch.float32, **shares)
    except RuntimeError as error:  # transformers 5.23 cannot split what it has to transpose
        raise ModelError(f"{folder.name} cannot be loaded.") from error
    return ParallelEngine(model, **options)


def logits(folder: Path) -> dict[str, Any]:
    """Play the schedule on every model in the folder; long messages go in two parts."""
    found: dict[str, Any] = {}
    link.FIRST = 60
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            engine = shared_engine(place, **EVERY[place.name].engine)
        except ModelError as error:
            found[place.name] = {"refused": str(error)}
            continue
        found[place.name] = {
            "kv_heads": [shape.kv_heads for shape in engine.adapter.shapes],
            "bytes": engine.bytes_per_token,
            "sinks": [
                None if layer.sinks is None else layer.sinks.numel()
                for layer in engine.adapter.layers
            ],
        }
        if engine.leads:
            with engine:
                torch.save(play(engine), folder / f"{place.name}.pt")
        else:
            engine.follow()
            assert engine.closed
    return found


def mistakes(folder: Path) -> dict[str, Any]:
    """Make mistakes that the leader finds, and one that all find; go on after each."""
    engine = shared_engine(folder / "llama", max_tokens=20, verify=False)
    block = engine.block("own")
    if not engine.leads:
        with pytest.raises(UsageError) as refused:
            engine.forward([Feed(block, [block], [5])])
        engine.follow()
        return {"refused": str(refused.value), "closed": engine.closed}
    wrong = {
        "no feeds": [],
        "no view": [Feed(block, [], [5])],
        "no such token": [Feed(block, [block], [SIZE])],
        "no room": [Feed(block, [block], [5] * 21)],
        "not a number": [Feed(block, [block], [5, POISON])],
    }
    errors = {}
    for name, feeds in wrong.items():
        with pytest.raises(HogwildError) as raised:
            engine.forward(feeds)
        errors[name] = type(raised.value).__name__
        assert not len(block)
    with pytest.raises(UsageError):
        engine.follow()
    logits = engine.forward([Feed(block, [block], [5, 6, 7])])
    engine.check_integrity()
    engine.close()
    engine.close()
    return {"errors": errors, "numbers": bool(logits.isfinite().all())}


def deaths(folder: Path) -> dict[str, Any]:
    """Run a tick, wait for a word, and go on as if all were well; tell how that ended."""
    engine = shared_engine(folder / "llama", verify=False)
    if not engine.leads:
        print("following", flush=True)
        with pytest.raises(ParallelError) as left:
            engine.follow()
        return {"error": str(left.value), "closed": engine.closed}
    block = engine.block("own")
    engine.forward([Feed(block, [block], [5, 6, 7])])
    print("leading", flush=True)
    word = sys.stdin.readline().strip()
    if word == "fail":
        raise RuntimeError("This program ends without closing its engine.")
    if word == "interrupt":
        return interrupted(engine, Feed(block, [block], [8]))
    errors = []
    for _ in range(2):
        with pytest.raises(ParallelError) as raised:
            engine.forward([Feed(block, [block], [8])])
        errors.append(str(raised.value))
    engine.close()
    return {"errors": errors, "length": len(block), "closed": engine.closed}


def interrupted(engine: ParallelEngine, feed: Feed) -> dict[str, Any]:
    """Break off in the midst of a forward, and live on until a last word comes."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    engine.model.model.norm.register_forward_pre_hook(interrupt)
    with engine, pytest.raises(KeyboardInterrupt):
        engine.forward([feed])
    print("interrupted", flush=True)
    sys.stdin.readline()
    return {"closed": engine.closed}


def main() -> None:
    """Play one scene."""
    scene, folder = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / scene}.store",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=TIMEOUTS.get(scene, timedelta(minutes=30)),
    )
    found = {"logits": logits, "mistakes": mistakes, "deaths": deaths}[scene](folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
