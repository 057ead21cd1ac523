"""What a tape does again is what was done, whatever stands in its inputs by then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from hogwild_agents.engine.tape import Arena, NotRecordableError, Tape, _arrange, _Span

UNARY: list[Callable[[Tensor], Tensor]] = [
    torch.neg,
    torch.sigmoid,
    torch.nn.functional.silu,
    lambda x: x.to(torch.bfloat16).float(),
    lambda x: x.pow(2).mean(-1, keepdim=True) + x,
    lambda x: x.transpose(0, 1).contiguous().view(3, 4),
    lambda x: torch.cat([x[:, 2:], -x[:, :2]], 1),
    lambda x: x.softmax(-1),
    lambda x: x.clone().add_(1).mul_(0.5),
    lambda x: x.topk(2, 1).values.repeat(1, 2),  # two results, one of which nobody reads
    lambda x: x.unbind(0)[1] + x,
    lambda x: torch.zeros_like(x).copy_(x).clamp(max=0.5),
    lambda x: torch.where(x > 0, x, x / 2),
    lambda x: x[torch.tensor([2, 0, 1])],
    lambda x: x.new_full((3, 4), 0.25) * x,
    lambda x: torch.view_as_real(torch.view_as_complex(x.view(3, 2, 2)) * 1j).flatten(1),
    lambda x: x.chunk(2, 1)[1].repeat(1, 2),
    lambda x: torch.empty_like(x).fill_(2) + x,
]
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    lambda x, y: x @ y.T @ y,
]


def compute(program: list[tuple[int, int, int]], given: Tensor) -> Tensor:
    """Run a program: each line has an operator and the numbers of its arguments."""
    found = [given]
    for operator, first, second in program:
        one, other = found[first % len(found)], found[second % len(found)]
        if operator < len(UNARY):
            found.append(UNARY[operator](one))
        else:
            found.append(BINARY[operator - len(UNARY)](one, other))
    return found[-1]


line = st.tuples(
    st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 99), st.integers(0, 99)
)


@settings(deadline=None, max_examples=300)
@given(program=st.lists(line, min_size=1, max_size=25), seeds=st.lists(st.integers(0, 99)))
def test_a_tape_computes_what_the_program_does(
    program: list[tuple[int, int, int]], seeds: list[int]
) -> None:
    place = torch.randn(3, 4)
    tape = Tape(lambda: compute(program, place))
    for seed in [*seeds, 100]:
        place.copy_(torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)))
        tape.replay()
        expected = compute(program, place)
        assert tape.result.dtype == expected.dtype
        assert torch.equal(tape.result, expected) or bool(expected.isnan().any())


def test_nothing_is_left_of_what_was_computed_when_it_was_recorded() -> None:
    """So a result that is not computed again is seen at once."""
    tape = Tape(lambda: torch.ones(3) + 1)
    assert bool(tape.result.isnan().all())
    tape.replay()
    assert tape.result.tolist() == [2, 2, 2]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 300)), max_size=20)
)
def test_memory_that_is_needed_at_the_same_time_lies_apart(
    drawn: list[tuple[int, int, int]],
) -> None:
    spans = [_Span(min(one, two), max(one, two), size) for one, two, size in drawn]
    spans.sort(key=lambda span: span.first)
    total = _arrange(spans)
    for number, span in enumerate(spans):
        assert span.start % 64 == 0
        assert span.start + span.bytes <= total
        for other in spans[:number]:
            together = other.last >= span.first
            ends = span.start + span.bytes, other.start + other.bytes
            apart = ends[0] <= other.start or ends[1] <= span.start
            assert apart or not together


def test_memory_is_used_again() -> None:
    def work() -> Tensor:
        found = torch.ones(1000)
        for _ in range(50):
            found = found * 2
        return found

    assert Tape(work).bytes <= 3 * 4096


def test_tapes_share_the_memory_of_their_results() -> None:
    arena, place = Arena(), torch.ones(1000)
    tapes = [Tape(partial(torch.mul, place, factor), (), arena) for factor in (3, 4)]
    for tape, expected in zip([*tapes, *tapes], [3, 4, 3, 4], strict=True):
        tape.replay()
        assert bool((tape.result == expected).all())
    assert len({tape.result.untyped_storage().data_ptr() for tape in tapes}) == 1
    large = Tape(lambda: torch.ones(10_000) + 1, (), arena)
    large.replay()
    tapes[0].replay()
    assert bool((large.result == 2).all())


SAME = torch.ones(4)
REASONS = r"not the same when|looks at numbers|changes what was there"


def fresh_constant() -> Tensor:
    """A number that a forward makes, and counts up."""
    return torch.tensor([1.0]).add_(SAME[:1])


@pytest.mark.parametrize(
    "work",
    [
        lambda: SAME * SAME.sum().item(),
        lambda: SAME * float(SAME[0]),
        lambda: SAME if SAME.any() else -SAME,
        lambda: SAME * SAME.tolist()[0],
        lambda: SAME * float(SAME.numpy()[0]),
        lambda: SAME[SAME > 0],
        lambda: SAME.nonzero(),
        lambda: torch.stack(SAME.tensor_split(torch.tensor([2]))),
        lambda: torch.rand(4),
        lambda: SAME.add_(1),
        lambda: SAME * torch.equal(SAME, SAME),
        fresh_constant,
    ],
)
def test_what_would_not_be_the_same_is_not_recorded(work: Callable[[], Tensor]) -> None:
    before = SAME.clone()
    with pytest.raises(NotRecordableError, match=REASONS):
        Tape(work)
    SAME.copy_(before)


def test_lasting_memory_may_be_changed() -> None:
    count, source = torch.zeros(2), torch.ones(2)

    def work() -> Tensor:
        count.copy_(source)
        return count * 3

    tape = Tape(work, [count])
    source.fill_(5)
    tape.replay()
    assert tape.result.tolist() == [15, 15]
    assert count.tolist() == [5, 5]


def test_a_failed_recording_leaves_nothing_in_force() -> None:
    with pytest.raises(NotRecordableError):
        Tape(lambda: SAME * SAME.sum().item())
    assert SAME.sum().item() == 4
    assert SAME.tolist() == [1, 1, 1, 1]


def test_gradients_are_none_of_its_business() -> None:
    weight: Any = torch.nn.Parameter(torch.ones(4))
    tape = Tape(lambda: weight * 2)
    tape.replay()
    assert not tape.result.requires_grad
    assert tape.result.tolist() == [2, 2, 2, 2]
