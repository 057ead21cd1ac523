"""Jobs in a row: one call that computes what they do one by one, however often and on how many."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.products import Products
from hogwild_agents.engine.tape import Tape
from hogwild_agents.engine.threads import limited

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")

WIDTH = 160


@settings(max_examples=25, deadline=None)
@given(
    several=st.lists(st.booleans(), min_size=1, max_size=12),
    count=st.integers(1, 4),
    rows=st.sampled_from([1, 3, 20]),
)
def test_jobs_in_a_row_give_the_bits_of_one_after_the_other(
    several: list[bool], count: int, rows: int
) -> None:
    """Each of them reads what the one before has written, some on one thread and some on all."""
    torch.manual_seed(0)
    layers = [nn.Linear(WIDTH, WIDTH).bfloat16() for _ in several]
    states = torch.randn(rows, WIDTH).bfloat16()

    def work() -> Tensor:
        result = states
        for layer, alone in zip(layers, several, strict=True):
            result = layer(result)
            if alone:
                result = result + states
        return result

    with limited(count), torch.no_grad():
        products = Products(layers, int8=False)
        try:
            tape = Tape(work)
            for turn in range(6):
                states.normal_()
                expected = work().clone()
                tape.result.zero_()
                if turn % 3 == 2:
                    tape.profile()  # one after the other
                else:
                    tape.replay()
                assert torch.equal(tape.result, expected)
        finally:
            products.undo()
    assert len(tape._calls) == len(several) + sum(several)
    assert len(tape._replayed) == 1


def test_what_lies_between_jobs_parts_them() -> None:
    layers = [nn.Linear(WIDTH, WIDTH).bfloat16() for _ in range(4)]
    states = torch.randn(2, WIDTH).bfloat16()

    def work() -> Tensor:
        between = layers[1](layers[0](states)).exp()
        result: Tensor = layers[3](layers[2](between))
        return result

    with torch.no_grad():
        products = Products(layers, int8=False)
        tape = Tape(work)
        tape.replay()
        assert torch.equal(tape.result, work())
        products.undo()
    kinds = [type(function) for function, *_ in tape._replayed]
    assert kinds.count(threads.Jobs) == 2
    assert len(kinds) == 3


class Lacking:
    """OpenMP, but for one function."""

    def __init__(self, name: str) -> None:
        self._all = threads._loaded()
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(f"undefined symbol: {name}")
        return getattr(self._all, name)


@contextmanager
def lacking(name: str) -> Iterator[None]:
    """Another OpenMP, which has no such function."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        left = Lacking(name)
        patch.setattr(threads, "_loaded", lambda: left)
        threads._together.cache_clear()
        try:
            yield
        finally:
            threads._together.cache_clear()


@pytest.mark.skipif(not hasattr(threads._loaded(), "GOMP_barrier"), reason="it lacks here")
@pytest.mark.parametrize("name", ["GOMP_barrier", "GOMP_parallel"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_where_openmp_lacks_a_function_the_same_is_computed(name: str, count: int) -> None:
    """By kernels one by one, or by one thread; or by torch, where it lacked from the beginning."""
    layers = [nn.Linear(WIDTH, WIDTH).bfloat16() for _ in range(5)]
    states = torch.randn(3, WIDTH).bfloat16()

    def work() -> Tensor:
        result = states
        for layer in layers:
            result = layer(result) + states
        return result

    with torch.no_grad(), limited(count):
        products = Products(layers, int8=False)
        expected = work()
        with lacking(name):
            tape = Tape(work)
            for _ in range(3):
                tape.result.zero_()
                tape.replay()
                assert torch.equal(tape.result, expected)
            assert compiled.works() == (count == 1 or name == "GOMP_barrier")
        products.undo()
