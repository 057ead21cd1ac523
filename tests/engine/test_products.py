"""Compiled products: the same layers, computed more exactly, and given back untouched."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from hogwild_agents.engine import Engine, Feed, compiled, threads
from hogwild_agents.engine.products import Products, find_layers
from hogwild_agents.errors import ConfigError
from tests.engine.families import EVERY, VOCAB

TOKENS = [token % VOCAB for token in range(3, 40)]
HALVES = [torch.bfloat16, torch.float16]
DTYPES = [torch.float32, *HALVES]
needs_numba = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")


def has_tiles() -> bool:
    if not compiled.works():
        return False
    from hogwild_agents.engine.cpu_amx import TILES

    return TILES


def built(family: str, dtype: torch.dtype = torch.bfloat16) -> Any:
    return EVERY[family].build().to(dtype)


def logits_of(engine: Engine, tokens: list[int]) -> torch.Tensor:
    block = engine.block()
    return engine.forward([Feed(block, [block], tokens)], logits="all")


@needs_numba
@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    bias=st.booleans(),
    rows=st.one_of(st.integers(1, 18), st.sampled_from([32, 33, 48, 65, 96])),
    count=st.sampled_from([32, 96, 1056, 2080]),
    outs=st.sampled_from([1, 15, 16, 17, 33, 49, 50, 128, 207]),
    threads=st.integers(1, 3),
)
def test_a_layer_errs_less_than_torch_does(
    dtype: torch.dtype, bias: bool, rows: int, count: int, outs: int, threads: int
) -> None:
    torch.manual_seed(rows)
    layer = nn.Linear(count, outs, bias=bias).to(dtype)
    states = torch.randn(1, rows, count).to(dtype)
    exact = nn.functional.linear(
        states.double(), layer.weight.double(), layer.bias.double() if bias else None
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            plain = layer(states)
            products = Products([layer], int8=False)
            own = layer(states)
            products.undo()
            again = layer(states)
    finally:
        torch.set_num_threads(before)
    assert (own.dtype, own.shape) == (dtype, plain.shape)
    rounding = torch.finfo(dtype).eps * exact.abs()  # of the result, by half of that at most
    assert ((own - exact).abs() <= rounding / 2 + 2e-6 * exact.abs().max()).all()
    assert torch.equal(again, plain)


def int8_product(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        products = Products([layer], int8=True)
        found: torch.Tensor = layer(states)
        products.undo()
    return found


@needs_numba
@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    bias=st.booleans(),
    rows=st.one_of(st.integers(1, 18), st.sampled_from([33, 65, 97])),
    count=st.sampled_from([32, 64, 96, 1056, 1088, 2112]),
    outs=st.sampled_from([1, 15, 49, 50, 128]),
    outlier=st.sampled_from([1.0, 30.0]),
    threads=st.integers(1, 3),
)
def test_int8_weights_are_the_nearest_of_127_steps_and_rows_the_nearest_of_32767(
    dtype: torch.dtype, bias: bool, rows: int, count: int, outs: int, outlier: float, threads: int
) -> None:
    torch.manual_seed(rows)
    layer = nn.Linear(count, outs, bias=bias).to(dtype)
    states = torch.randn(rows, count).to(dtype)
    states[:, count // 2] *= outlier
    step = layer.weight.detach().float().abs().amax(1, keepdim=True) / 127
    rounded = (layer.weight.detach().float() / step).round().double() * step
    exact = nn.functional.linear(
        states.double(), rounded, layer.bias.detach().double() if bias else None
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = int8_product(layer, states)
    finally:
        torch.set_num_threads(before)
    # Every input is off by half a step of its chunk's largest at most.
    steps = states.double().abs().amax(1) / 32767
    most = 0.51 * steps[:, None] * rounded.abs().sum(1) + 2e-6 * exact.abs().max()
    assert ((found - exact).abs() <= most + torch.finfo(dtype).eps * exact.abs()).all()


@needs_numba
@pytest.mark.parametrize("rows", [4, 20])
def test_int8_products_of_nothing_are_the_bias_and_of_no_numbers_none(rows: int) -> None:
    layer = nn.Linear(1088, 50)
    states = torch.zeros(rows, 1088)
    states[1, 1030], states[2, 5], states[3, 40] = torch.nan, torch.inf, 1e-35
    found = int8_product(layer, states)
    assert torch.equal(found[0], layer.bias)
    assert found[1].isnan().all()
    assert found[2].isnan().all()
    assert torch.equal(found[3], layer.bias)


@needs_numba
@pytest.mark.parametrize("family", ["llama", "qwen2", "stablelm"])
def test_a_model_gives_its_logits_and_comes_back_untouched(family: str) -> None:
    model, exact = built(family), built(family).float()
    with torch.no_grad():
        before = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
        truth = exact(torch.tensor([TOKENS]), use_cache=False).logits[0]
    with Engine(model, kernels=True) as engine:
        assert "products" in engine.kernels
        own = logits_of(engine, TOKENS)
    assert (own - truth).norm() <= 1.1 * (before.float() - truth).norm()
    assert not any("forward" in vars(module) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(torch.tensor([TOKENS]), use_cache=False).logits[0], before)


@needs_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_logits_differ_a_little_and_are_those_of_the_rounded_model(dtype: torch.dtype) -> None:
    model = built("llama", dtype)
    with Engine(model) as engine:
        plain = logits_of(engine, TOKENS)
        assert engine.int8_bytes == 0
    linear = find_layers(model, None, int8=True)
    assert linear
    expected = sum(one.weight.numel() + 4 * one.out_features for one in linear)  # and factors
    with Engine(model, int8_weights=True) as engine:  # the probe compares with the rounded ones
        rounded = logits_of(engine, TOKENS)
        assert engine.int8_bytes == expected
        error = engine.probe_error
        assert error is not None
        assert error < (5e-4 if dtype == torch.float32 else 0.02)
    difference = (rounded - plain).norm() / plain.norm()
    assert 1e-4 < difference < 0.05


@needs_numba
@pytest.mark.parametrize(
    ("seed", "layers", "gain", "dtype"), [(2, 8, 30.0, torch.float32), (1, 32, 1.0, torch.bfloat16)]
)
def test_inputs_that_are_rounded_for_int8_are_no_reason_to_refuse(
    seed: int, layers: int, gain: float, dtype: torch.dtype
) -> None:
    """A channel with large numbers, as trained models have one, leaves the others few steps."""
    model = EVERY["llama"].build(seed=seed, num_hidden_layers=layers).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layernorm" in name:
                parameter[3] *= gain
    with Engine(model, int8_weights=True) as engine:
        assert engine.int8_bytes


@needs_numba
def test_a_rounded_copy_counts_only_for_the_weights_that_were_rounded() -> None:
    """Not for what somebody puts in their place, as adapters do for the time of a forward."""
    torch.manual_seed(0)
    layer = nn.Linear(96, 50)
    states = torch.randn(3, 96)
    with torch.no_grad():
        products = Products([layer], int8=True)
        weight, rounded = layer.weight, layer(states)
        layer.weight = nn.Parameter(2 * weight)
        assert torch.equal(layer(states), nn.functional.linear(states, 2 * weight, layer.bias))
        layer.weight = weight
        assert torch.equal(layer(states), rounded)
        products.undo()


@needs_numba
@pytest.mark.parametrize("count", [2080, 2112])
@pytest.mark.parametrize("int8", [False, True])
def test_what_a_row_comes_to_does_not_depend_on_the_others(int8: bool, count: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(count, 50).bfloat16()
    states = torch.randn(96, count).bfloat16()
    with torch.no_grad():
        products = Products([layer], int8=int8)
        alone = torch.cat([layer(row[None]) for row in states])
        for rows in (*range(1, 23), 33, 48, 96):
            assert torch.equal(layer(states[:rows]), alone[:rows])
        products.undo()


@needs_numba
def test_small_float32_layers_are_left_to_torch_unless_int8_is_asked_for() -> None:
    small, large, half = nn.Linear(480, 512), nn.Linear(512, 512), nn.Linear(32, 16).bfloat16()
    parts = nn.ModuleList([small, large, half])
    assert find_layers(parts, True) == [large, half]
    assert find_layers(parts, None, int8=True) == [small, large, half]
    with Engine(built("llama", torch.float32)) as engine:
        assert "products" not in engine.kernels


@needs_numba
@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
def test_float32_layers_are_multiplied_where_that_was_measured(machine: str) -> None:
    parts = nn.ModuleList([nn.Linear(512, 512)])
    with patch.object(platform, "machine", lambda: machine):
        assert bool(find_layers(parts, None)) is (machine == "x86_64")
        assert find_layers(parts, True) == list(parts)


@needs_numba
def test_many_rows_of_float32_are_left_to_torch() -> None:
    torch.manual_seed(0)
    layer, states = nn.Linear(512, 512), torch.randn(1, 200, 512)
    with torch.no_grad():
        plain = layer(states)
        products = Products([layer], int8=False)
        assert torch.equal(layer(states), plain)
        assert not torch.equal(layer(states[:, :8]), plain[:, :8])
        torch.testing.assert_close(layer(states[:, :8]), plain[:, :8])
        products.undo()


def test_kernels_can_be_switched_off() -> None:
    with Engine(built("llama"), kernels=False) as engine:
        assert engine.kernels == ()


def test_what_cannot_be_had_is_refused_and_the_model_is_free_again() -> None:
    model = built("llama")
    with patch.object(compiled, "works", lambda: False):
        with pytest.raises(ConfigError, match="takes numba"):
            Engine(model, kernels=True)
        with pytest.raises(ConfigError, match="nothing can be compiled here"):
            Engine(model, int8_weights=True)
        with Engine(model) as engine:  # torch does it all
            assert engine.kernels == ()
    with pytest.raises(ConfigError, match="no linear layers"):
        find_layers(nn.ReLU(), None, int8=True)


@needs_numba
def test_layers_that_are_not_plain_or_of_odd_sizes_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    hooked = nn.Linear(32, 16)
    vars(hooked)["forward"] = torch.relu
    plain = nn.Linear(32, 31)
    parts = nn.ModuleList([Own(32, 16), hooked, nn.Linear(36, 16), plain]).bfloat16()
    assert find_layers(parts, True) == [plain]


@needs_numba
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86 processors")
@pytest.mark.parametrize("tiles", [False, True])
def test_float16_is_left_to_torch_where_the_processor_multiplies_tiles_of_it(tiles: bool) -> None:
    parts = nn.ModuleList([nn.Linear(32, 16)]).half()
    with patch.object(torch.cpu, "_is_amx_fp16_supported", lambda: tiles):
        assert bool(find_layers(parts, None)) is not tiles
        assert find_layers(parts, True) == list(parts)
        assert find_layers(parts.bfloat16(), None) == list(parts)


WITHOUT_TILES = """
import torch

if {refused}:
    torch.cpu._init_amx = lambda: False
from hogwild_agents.engine import cpu_amx
from hogwild_agents.engine.products import Products

torch.manual_seed(0)
layer = torch.nn.Linear(1056, 50).bfloat16()
states = torch.randn(40, 1056).bfloat16()
Products([layer], int8=False)
with torch.no_grad():
    torch.save(layer(states), "{name}")
print(cpu_amx.TILES)
"""


@needs_numba
@pytest.mark.skipif(not has_tiles(), reason="this processor multiplies no tiles of bfloat16")
def test_where_the_system_refuses_tiles_products_are_computed_without(tmp_path: Path) -> None:
    found = []
    for refused in (True, False):
        code = WITHOUT_TILES.format(refused=refused, name=refused)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240,
        )  # fmt: skip
        assert done.stdout == f"{not refused}\n"
        found.append(torch.load(tmp_path / str(refused)).float())
    without, with_tiles = found
    assert (without - with_tiles).abs().max() <= 2**-7 * with_tiles.abs().max()
    assert not torch.equal(without, torch.zeros_like(without))


@needs_numba
@pytest.mark.parametrize(
    ("name", "value"), [("NAME", "generic"), ("FEATURES", "+avx2"), ("FEATURES", "")]
)
def test_there_are_no_tiles_where_numba_is_told_to_compile_for_less(name: str, value: str) -> None:
    code = "from hogwild_agents.engine import cpu_amx; print(cpu_amx.TILES)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, f"NUMBA_CPU_{name}": value},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "False\n"


@needs_numba
@pytest.mark.skipif(not has_tiles(), reason="this processor multiplies no tiles of bfloat16")
def test_tiles_give_numbers_that_are_none_where_there_are_some() -> None:
    layer = nn.Linear(64, 40).bfloat16()
    states = torch.zeros(20, 64).bfloat16()
    states[3, 5], states[17, 40] = torch.nan, torch.inf
    with torch.no_grad():
        plain = layer(states)
        products = Products([layer], int8=False)
        own = layer(states)
        products.undo()
    assert torch.equal(own.isnan(), plain.isnan())
    assert torch.equal(own.isinf(), plain.isinf())
    assert torch.equal(own[0], layer.bias)


@needs_numba
@pytest.mark.skipif(not has_tiles(), reason="this processor multiplies no tiles of bfloat16")
def test_more_rows_than_tiles_multiply_faster_are_torchs() -> None:
    layer = nn.Linear(1056, 50).bfloat16()
    states = torch.randn(97, 1056).bfloat16()
    products = Products([layer], int8=False)
    with torch.no_grad(), patch.object(threads, "run") as own:
        layer(states)
        assert not own.called
        layer(states[:96])
        assert own.called
    products.undo()


@needs_numba
def test_another_dtype_or_size_is_told_by_torch() -> None:
    layer = nn.Linear(32, 16).bfloat16()
    Products([layer], int8=False)
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="dtype"):
            layer(torch.ones(1, 32))
        with pytest.raises(RuntimeError, match="shapes"):
            layer(torch.ones(1, 64).bfloat16())


def other_dtype(layer: nn.Linear) -> None:
    """Let it be of another dtype."""
    layer.to(torch.float16)


def turned_over(layer: nn.Linear) -> None:
    """Let its numbers lie in another order."""
    layer.weight.data = layer.weight.data.t()


def bias_apart(layer: nn.Linear) -> None:
    """Let the numbers of its bias lie apart."""
    layer.bias.data = torch.randn(len(layer.bias), 3).bfloat16()[:, 1]


def bias_alike(layer: nn.Linear) -> None:
    """Let all the numbers of its bias be one."""
    layer.bias.data = torch.ones(1).bfloat16().expand(len(layer.bias))


@needs_numba
@pytest.mark.parametrize("change", [other_dtype, turned_over, bias_apart, bias_alike])
def test_a_layer_that_is_laid_out_otherwise_meanwhile_is_torchs(change: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 64).bfloat16()
    products = Products([layer], int8=False)
    with torch.no_grad():
        change(layer)
        states = torch.randn(3, 64).to(layer.weight.dtype)
        plain = nn.functional.linear(states, layer.weight, layer.bias)
        assert torch.equal(layer(states), plain)
        assert torch.equal(layer(input=states), plain)
    products.undo()
    assert (find_layers(layer, True) == [layer]) is (change is other_dtype)


@needs_numba
def test_the_negative_of_states_is_multiplied() -> None:
    layer = nn.Linear(64, 64).bfloat16()
    products = Products([layer], int8=False)
    states = torch.randn(3, 64).bfloat16()
    with torch.no_grad():
        negative = torch._neg_view(states)
        torch.testing.assert_close(layer(negative), layer(-states), atol=1e-2, rtol=1e-2)
    products.undo()


@needs_numba
@given(outs=st.integers(1, 5000), threads=st.integers(1, 64))
def test_no_thread_takes_many_more_outputs_than_its_share(outs: int, threads: int) -> None:
    from hogwild_agents.engine.cpu_products import block_for

    block = block_for(outs, threads)
    blocks = -(-outs // block)
    most = -(-blocks // threads) * block
    assert most <= outs / threads + 64
    assert most <= 32 * -(-outs // (32 * threads))
    assert block_for(896, 2) == 64  # seven each
    assert block_for(128, 4) == 32
