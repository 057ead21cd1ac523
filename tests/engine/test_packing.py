"""Packed weights: the same layers, computed more exactly, and given back untouched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hogwild_agents.engine import Engine, Feed
from hogwild_agents.engine.packing import Packing, find_layers
from hogwild_agents.errors import ConfigError
from tests.engine.families import EVERY, VOCAB

TOKENS = [token % VOCAB for token in range(3, 40)]


def has_fbgemm() -> bool:
    try:
        find_layers(nn.Linear(2, 2).bfloat16(), True)
    except ConfigError:
        return False
    return True


needs_fbgemm = pytest.mark.skipif(not has_fbgemm(), reason="torch has no FBGEMM here")


def built(family: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    return EVERY[family].build().to(dtype)


def logits_of(engine: Engine, tokens: list[int]) -> torch.Tensor:
    block = engine.block()
    return engine.forward([Feed(block, [block], tokens)], logits="all")


@needs_fbgemm
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 33])
def test_a_packed_layer_errs_less_than_a_plain_one(
    dtype: torch.dtype, bias: bool, rows: int
) -> None:
    torch.manual_seed(rows)
    layer = nn.Linear(96, 130, bias=bias).to(dtype)
    states = torch.randn(1, rows, 96).to(dtype)
    exact = nn.functional.linear(
        states.double(), layer.weight.double(), layer.bias.double() if bias else None
    )
    with torch.no_grad():
        plain = layer(states)
        packing = Packing([layer])
        packed = layer(states)
        packing.undo()
        again = layer(states)
    assert packed.dtype == dtype
    assert packed.shape == plain.shape
    rounding = torch.finfo(dtype).eps * exact.abs().max()
    assert (packed - exact).abs().max() <= rounding
    assert torch.equal(again, plain)


@needs_fbgemm
@pytest.mark.parametrize("family", ["llama", "qwen2", "stablelm"])
def test_a_packed_model_gives_its_logits_and_comes_back_untouched(family: str) -> None:
    model, exact = built(family), built(family).float()
    with torch.no_grad():
        before = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
        truth = exact(torch.tensor([TOKENS]), use_cache=False).logits[0]
    with Engine(model, pack_weights=True) as engine:
        assert engine.packed_bytes > 0
        packed = logits_of(engine, TOKENS)
    assert (packed - truth).norm() <= 1.1 * (before.float() - truth).norm()
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(torch.tensor([TOKENS]), use_cache=False).logits[0], before)


def test_nothing_is_packed_unless_it_is_16_bit() -> None:
    model = built("llama", torch.float32)
    with Engine(model) as engine:
        assert engine.packed_bytes == 0
    with pytest.raises(ConfigError, match="no linear layers with 16-bit weights"):
        Engine(model, pack_weights=True)
    with Engine(model) as engine:  # it was given back
        assert not engine.closed


def test_packing_can_be_switched_off() -> None:
    with Engine(built("llama"), pack_weights=False) as engine:
        assert engine.packed_bytes == 0


@needs_fbgemm
def test_what_float16_does_not_hold_is_left_alone() -> None:
    layer = nn.Linear(2, 1, bias=False).bfloat16()
    nn.init.constant_(layer.weight, 1e6)
    with torch.no_grad():
        packing = Packing([layer])
        assert layer(torch.ones(1, 2).bfloat16()).item() == pytest.approx(2e6, rel=0.01)
    assert packing.bytes == 0


@needs_fbgemm
def test_layers_that_are_not_plain_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    hooked = nn.Linear(2, 2)
    vars(hooked)["forward"] = torch.relu
    plain = nn.Linear(2, 2)
    parts = nn.ModuleList([Own(2, 2), hooked, plain]).bfloat16()
    assert find_layers(parts, True) == [plain]
