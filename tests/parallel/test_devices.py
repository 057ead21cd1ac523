"""Layers on several devices: each with its part of the cache, and logits as if on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model  # type: ignore[import-untyped]
from torch import Tensor
from transformers import AutoModelForCausalLM

from hogwild_agents import load_model
from hogwild_agents.engine import Engine, Feed, plan as plans
from hogwild_agents.engine.loan import Loan
from tests.engine.families import EVERY
from tests.parallel.places import Placed, PlaceError, places
from tests.parallel.schedule import play

FAMILIES = ("llama", "gpt-oss", "gemma3", "llama4", "stablelm", "phi3-longrope")
"""Sinks, windows, two tables, chunks and scaled queries, a bridge, tables that are pinned."""

FIRST, SECOND = torch.device("cpu:1"), torch.device("cpu:2")


def expected(family: str, kernels: bool | None = None) -> list[Tensor]:
    model = EVERY[family].build(seed=1)
    with Engine(model, kernels=kernels, **EVERY[family].engine) as engine:
        return play(engine)


def split(family: str) -> tuple[Any, list[torch.device]]:
    """Return the family's model with half of its layers in each place, and where they are."""
    model = EVERY[family].build(seed=1)
    model.set_attn_implementation("eager")  # sdpa makes masks where no place can be seen
    count = len(model.model.layers)
    layers = [FIRST if layer < count // 2 else SECOND for layer in range(count)]
    modules = {f"model.layers.{number}": place for number, place in enumerate(layers)}
    modules |= {"model.embed_tokens": FIRST, "model.rotary_emb": FIRST}
    modules |= {"model.norm": SECOND, "lm_head": SECOND}
    device_map = {module: str(place) for module, place in modules.items()}
    return dispatch_model(model, device_map, main_device=str(FIRST)), layers


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_has_its_cache_and_its_plan_where_it_is(family: str) -> None:
    with places():
        model, layers = split(family)
        with Engine(model, **EVERY[family].engine) as engine:
            logits = play(engine)
            assert engine.device == FIRST
            for slab in engine._cache.pool.slabs:
                assert [keys.device for keys in slab.keys] == layers
                assert [values.device for values in slab.values] == layers
    by_torch = expected(family, kernels=False)  # as in places that are none
    for got, wanted in zip(logits, by_torch, strict=True):
        assert isinstance(got, Placed)
        assert got.device == FIRST
        torch.testing.assert_close(got.content, wanted)


def test_a_plan_is_moved_once_a_tick_for_each_further_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[torch.device] = []
    move = plans.Plan.on

    def noted(plan: plans.Plan, device: torch.device) -> plans.Plan:
        moved.append(device)
        return move(plan, device)

    with places():
        model, layers = split("gemma3")
        assert layers.count(SECOND) == 2
        with Engine(model, verify=False) as engine:
            monkeypatch.setattr(plans.Plan, "on", noted)
            block = engine.block()
            for _ in range(3):
                engine.forward([Feed(block, [block], [5])])
    assert moved == [SECOND] * 3


def stay(plan: plans.Plan, device: torch.device) -> plans.Plan:
    return plan


def keep(loan: Loan, rows: Tensor) -> Tensor:
    return rows


@pytest.mark.parametrize(
    ("owner", "name", "mistake"), [(plans.Plan, "on", stay), (Loan, "_kept", keep)]
)
def test_what_lies_elsewhere_would_be_seen(
    owner: Any, name: str, mistake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mistake)
    with places():
        model, _ = split("llama")
        with Engine(model, verify=False) as engine, pytest.raises(PlaceError):
            play(engine)


@pytest.mark.parametrize("away", ["model.embed_tokens", "model.layers.1"])
def test_weights_may_be_on_disk_until_they_are_needed(away: str, tmp_path: Path) -> None:
    EVERY["gpt-oss"].build(seed=1).save_pretrained(tmp_path / "model")
    names = ["model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"]
    names += ["model.layers.0", "model.layers.1"]
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model",
        dtype=torch.float32,
        device_map={name: "disk" if name == away else "cpu" for name in names},
        offload_folder=str(tmp_path / "away"),
    )
    assert any(tensor.is_meta for tensor in model.parameters())
    with Engine(model) as engine:
        for got, wanted in zip(play(engine), expected("gpt-oss"), strict=True):
            torch.testing.assert_close(got, wanted)


def test_load_model_places_a_model_by_a_device_map() -> None:
    """All that this machine has to offer to ``auto`` may be the CPU."""
    logits = []
    for options in ({}, {"device_map": "auto"}):
        with load_model(model_options=options, dtype="float32") as model:
            block = model.engine.block()
            logits.append(model.engine.forward([Feed(block, [block], [5, 6, 7])]).cpu())
    torch.testing.assert_close(logits[0], logits[1])
