"""Products of float32 matrices on one thread give torch's bits; all others are torch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.blas import multiplied
from hogwild_agents.engine.elementwise import Call
from hogwild_agents.engine.tape import Tape

pytestmark = pytest.mark.skipif(
    not (compiled.works() and torch._C.has_mkl),
    reason="products are not called without torch here",
)

aten = torch.ops.aten
SIZES = st.sampled_from([1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 48, 64, 100, 128, 384])


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads.limited(1):
        yield


@pytest.fixture(autouse=True)
def _precision_as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def cut(rows: int, count: int, spare: int) -> Tensor:
    """Return a matrix whose rows lie a little apart."""
    return torch.randn(rows, count + spare)[:, :count]


def run(calls: list[Call]) -> None:
    for function, args, options in calls:
        function(*args, **options)


@st.composite
def products(draw: st.DrawFn) -> Call:
    """Draw a product as a linear layer has it, with something added or not."""
    torch.manual_seed(draw(st.integers(0, 99)))
    rows, count, outs = draw(SIZES), draw(SIZES), draw(SIZES)
    left, out = (cut(rows, wide, draw(st.sampled_from([0, 0, 5]))) for wide in (count, outs))
    right = cut(outs, count, draw(st.sampled_from([0, 0, 3]))).t()
    if draw(st.integers(0, 3)) == 0:
        left[draw(st.integers(0, rows - 1)), 0] = draw(st.sampled_from([torch.inf, torch.nan]))
    out[:] = torch.nan  # what was there plays no part
    added = draw(st.sampled_from([None, (outs,), (1, outs), (rows, 1), (rows, outs)]))
    if added is None:
        return aten.mm.out, (left, right), {"out": out}
    return aten.addmm.out, (torch.randn(added), left, right), {"out": out}


@settings(deadline=None, max_examples=200)
@given(call=products())
def test_a_product_gives_the_bits_that_torch_gives(call: Call) -> None:
    gives_torchs_bits(call)


@pytest.mark.sweep
@settings(deadline=None, max_examples=4000)
@given(call=products())
def test_many_products_give_the_bits_that_torch_gives(call: Call) -> None:
    gives_torchs_bits(call)


def gives_torchs_bits(call: Call) -> None:
    out = call[2]["out"]
    run([call])
    expected = out.clone()
    out.fill_(torch.nan)
    run(multiplied([call]))
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out.nan_to_num(9.0), expected.nan_to_num(9.0))


def layer(rows: int = 3, count: int = 8, outs: int = 5, **options: Any) -> Call:
    dtype = options.get("dtype", torch.float32)
    left, right = torch.ones(rows, count, dtype=dtype), torch.ones(outs, count, dtype=dtype).t()
    return aten.mm.out, (left, right), {"out": torch.empty(rows, outs, dtype=dtype)}


@pytest.mark.parametrize("sizes", [(3, 8, 5), (1 << 10, 1 << 6, 1 << 5)])
def test_a_product_is_a_job(sizes: tuple[int, int, int]) -> None:
    ((function, args, options),) = multiplied([layer(*sizes)])
    assert isinstance(function, threads.Job)
    assert not args
    assert not options


@pytest.mark.parametrize(
    "call",
    [
        layer(dtype=torch.bfloat16),
        layer(dtype=torch.float64),
        (aten.mm.out, (torch.ones(3, 8), torch.ones(8, 5)), {"out": torch.empty(3, 5)}),
        (aten.mm.out, (torch.ones(8, 3).t(), torch.ones(5, 8).t()), {"out": torch.empty(3, 5)}),
        (aten.mm.out, (torch.ones(3, 8), torch.ones(5, 8).t()), {"out": torch.empty(5, 3).t()}),
        (
            aten.mm.out,
            (torch.ones(1, 8).expand(3, 8), torch.ones(5, 8).t()),
            {"out": torch.empty(3, 5)},
        ),
        (aten.mm.out, (torch.ones(3, 0), torch.ones(5, 0).t()), {"out": torch.empty(3, 5)}),
        (
            aten.addmm.out,
            (torch.ones(5), torch.ones(3, 8), torch.ones(5, 8).t()),
            {"out": torch.empty(3, 5), "alpha": 2},
        ),
        (torch.mul, (torch.ones(3, 8), torch.ones(3, 8)), {"out": torch.empty(3, 8)}),
    ],
    ids="bfloat16 float64 columns turned result repeated none factor other".split(),
)
def test_what_lies_otherwise_or_is_something_else_is_left_to_torch(call: Call) -> None:
    (left,) = multiplied([call])
    assert left is call or (left[0] is call[0] and left[1] is call[1])


def test_what_several_threads_may_share_is_left_to_torch() -> None:
    with threads.limited(2):
        ((function, *_),) = multiplied([layer()])
    assert function is aten.mm.out


def test_another_precision_is_left_to_torch() -> None:
    torch.set_float32_matmul_precision("medium")
    ((function, *_),) = multiplied([layer()])
    assert function is aten.mm.out


def test_recorded_layers_follow_each_other_without_torch() -> None:
    layers = nn.Sequential(*(nn.Linear(16, 16, bias=bias) for bias in (False, True, False)))
    states = torch.randn(1, 4, 16)
    tape = Tape(lambda: layers(states))
    assert len(tape._replayed) == 1
    states.copy_(torch.randn(1, 4, 16))
    tape.replay()
    assert torch.equal(tape.result, layers(states))
