"""Runs of small operators give torch's bits, in torch's order, and leave all else to torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from hogwild_agents.engine import Engine, Feed, compiled
from hogwild_agents.engine.elementwise import Call, joined
from hogwild_agents.engine.graphs import SETTLED
from hogwild_agents.engine.tape import Tape
from hogwild_agents.engine.threads import Job
from tests.engine.families import EVERY

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
SPECIAL = torch.tensor([0.0, -0.0, 1.0, torch.inf, -torch.inf, torch.nan, 6e4, 1e-7])


def run(calls: list[Call]) -> None:
    for function, args, options in calls:
        function(*args, **options)


def same_bits(one: Tensor, other: Tensor) -> bool:
    bits = BITS[one.dtype]
    same = (one.contiguous().view(bits) == other.contiguous().view(bits)) | (
        one.isnan() & other.isnan()
    )
    return bool(same.all())


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...], dtype: torch.dtype, wide: bool) -> Tensor:
    """Draw a tensor of a shape, in any order of dimensions, cut out of a larger one, or repeated.

    ``wide`` allows for those that broadcast to the shape.
    """
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 2])) for _ in shape]
    thin = [wide and draw(st.integers(0, 4)) == 0 for _ in shape]
    sizes = [1 if one else size for size, one in zip(shape, thin, strict=True)]
    seed = draw(st.integers(0, 99))
    random = torch.Generator().manual_seed(seed)
    whole = torch.randn([sizes[at] * steps[at] + 1 for at in order], generator=random)
    if draw(st.booleans()):
        place = torch.randint(len(SPECIAL), whole.shape, generator=random)
        whole = torch.where(torch.rand(whole.shape, generator=random) < 0.2, SPECIAL[place], whole)
    turned = whole.to(dtype).permute([order.index(at) for at in range(len(shape))])
    cut = [slice(0, size * step, step) for size, step in zip(sizes, steps, strict=True)]
    found = turned[tuple(cut)]
    if wide and draw(st.booleans()):
        return found.expand(shape)
    return found


@st.composite
def programs(draw: st.DrawFn) -> list[Call]:
    """Draw calls of which each reads results of those before, and what was there already."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 17, 40]), min_size=1, max_size=4)))
    calls: list[Call] = []
    results: list[Tensor] = []

    def operand() -> Tensor:
        again = bool(results) and draw(st.booleans())
        return draw(st.sampled_from(results) if again else layouts(shape, dtype, wide=True))

    for _ in range(draw(st.integers(1, 8))):
        left, right = operand(), operand()
        out = draw(layouts(shape, dtype, wide=False))
        name = draw(st.sampled_from(["add", "sub", "mul", "neg", "cat", "copy"]))
        if name in ("add", "sub", "mul"):
            calls.append((getattr(torch, name), (left.expand(shape), right), {"out": out}))
        elif name == "neg":
            calls.append((torch.neg, (left.expand(shape),), {"out": out}))
        elif name == "copy":
            calls.append((Tensor.copy_, (out, left), {}))
        else:
            dim = draw(st.integers(-len(shape), len(shape) - 1))
            at = draw(st.integers(0, shape[dim]))
            low, high = left.expand(shape), right.expand(shape)
            pieces = [low.narrow(dim, 0, at), high.narrow(dim, at, shape[dim] - at)]
            out = torch.zeros_like(torch.cat(pieces, dim))  # it leaves some others as they are
            calls.append((torch.cat, (pieces, dim), {"out": out}))
        results.append(out)
    return calls


def results_of(calls: list[Call]) -> list[Tensor]:
    return [options["out"] if options else args[0] for _, args, options in calls]


@settings(deadline=None, max_examples=60)
@given(programs())
def test_a_run_gives_the_bits_that_torch_gives(calls: list[Call]) -> None:
    _gives_torchs_bits(calls)


@pytest.mark.sweep
@settings(deadline=None, max_examples=1000)
@given(programs())
def test_many_runs_give_the_bits_that_torch_gives(calls: list[Call]) -> None:
    _gives_torchs_bits(calls)


def _gives_torchs_bits(calls: list[Call]) -> None:
    before = [one.clone() for one in results_of(calls)]
    run(calls)
    expected = [one.clone() for one in results_of(calls)]
    for one, was in zip(results_of(calls), before, strict=True):
        one.copy_(was)
    together = joined(calls)
    assert len(together) <= len(calls)
    run(together)
    for one, other in zip(results_of(calls), expected, strict=True):
        assert same_bits(one, other)


def test_small_operators_in_a_row_are_one_call() -> None:
    states, other = torch.randn(2, 40), torch.randn(40)
    one, two, three = (torch.empty(2, 40) for _ in range(3))
    calls: list[Call] = [
        (torch.mul, (states, other), {"out": one}),
        (torch.cat, ([one[:, 20:], one[:, :20]], -1), {"out": two}),
        (torch.add, (one, two), {"out": three}),
    ]
    (call,) = joined(calls)
    assert isinstance(call[0], Job)
    call[0]()
    assert torch.equal(three, states * other + (states * other).roll(20, 1))


@pytest.mark.parametrize(
    "other",
    [
        (torch.add, (torch.ones(40), torch.ones(40)), {"alpha": 2, "out": torch.empty(40)}),
        (torch.mul, (torch.ones(40), 0.5), {"out": torch.empty(40)}),
        (torch.mul, (torch.ones(40), torch.ones(40).bfloat16()), {"out": torch.empty(40)}),
        (torch.neg, (torch.ones(1 << 16),), {"out": torch.empty(1 << 16)}),
        (torch.neg, (torch.ones(8192)[::2],), {"out": torch.empty(4096)}),
        (torch.neg, (torch.arange(40),), {"out": torch.arange(40)}),
        (torch.neg, (torch.ones(40).double(),), {"out": torch.empty(40).double()}),
        (torch.sigmoid, (torch.ones(40),), {"out": torch.empty(40)}),
        (Tensor.copy_, (torch.empty(40), torch.ones(40).bfloat16()), {}),
        (
            torch.neg,
            (torch.ones(8, 4, 4, 4, 4)[::2, ::2, ::2, ::2, ::2],),  # five dimensions
            {"out": torch.empty(4, 2, 2, 2, 2)},
        ),
    ],
    ids=lambda call: call[0].__name__,
)
def test_what_is_large_or_something_else_is_left_to_torch(other: Any) -> None:
    states, result = torch.ones(40), torch.empty(40)
    small: Call = (torch.neg, (states,), {"out": result})
    before, left, after = joined([small, other, small])
    assert isinstance(before[0], Job)
    assert isinstance(after[0], Job)
    assert left is other


def test_pieces_that_hold_nothing_are_left_out() -> None:
    result = torch.zeros(2, 3)
    pieces = [torch.empty(0), torch.ones(2, 1), torch.empty(2, 0), 2 * torch.ones(2, 2)]
    run(joined([(torch.cat, (pieces, 1), {"out": result})]))
    assert result.tolist() == [[1, 2, 2], [1, 2, 2]]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "glm", "cohere"])
def test_recorded_forwards_make_fewer_calls_and_the_same_bits(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for join in (joined, list):
        monkeypatch.setattr("hogwild_agents.engine.tape.joined", join)
        with Engine(EVERY[family].build()) as engine:
            block = engine.block()
            for token in range(3, 5 + SETTLED):
                logits = engine.forward([Feed(block, [block], (token,))])
            assert isinstance(engine.replayed, Tape)
            found.append((len(engine.replayed._calls), logits))
    (few, logits), (many, expected) = found
    assert few < many
    assert torch.equal(logits, expected)
