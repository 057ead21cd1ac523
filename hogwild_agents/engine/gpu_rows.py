"""GPU rows: the kernels for what lies between a layer's products, row by row: RMS norms and gates.

Written in Triton; in a layer of Qwen3 five launches of them stand for 34 of torch's. Importing this
module imports triton.
"""

# No `from __future__ import annotations`: triton reads the annotations of constants.

import torch
import triton
import triton.language as tl
from torch import Tensor

from hogwild_agents.engine.forms import BARE, GELU, PLUS_ONE, ROUNDED

MOST = 1 << 15
"""So many numbers of a row at most are normed: a program has all of them in its registers."""
_ROWS, _WARP, _CHUNK = 1 << 9, 1 << 9, 1 << 10
"""Numbers of a program that norms short rows, of a warp, and of a program of a gate."""


@triton.jit(do_not_specialize=["number"])
def hogwild_norm(
    states,  # [number, COUNT]
    weights,  # [COUNT], not read where the norm is bare
    results,  # [number, COUNT]
    number,
    epsilon,
    COUNT: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROUNDED: tl.constexpr,
    PLUS_ONE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Divide rows by the root of the mean of their squares, and multiply them by the weights."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    here = column < COUNT
    mask = here & (row < number)
    loaded = tl.load(states + row * COUNT + column, mask=mask, other=0.0)
    numbers = loaded.to(tl.float32)
    squares = tl.sum(numbers * numbers, 1)[:, None]
    numbers = numbers * tl.rsqrt(squares / COUNT + epsilon)
    if WEIGHTED:
        weight = tl.load(weights + column, mask=here, other=0.0).to(tl.float32)
        if ROUNDED:
            numbers = numbers.to(loaded.dtype).to(tl.float32)
        if PLUS_ONE:
            weight = weight + 1
        numbers = numbers * weight
    tl.store(results + row * COUNT + column, numbers.to(loaded.dtype), mask=mask)


@triton.jit
def hogwild_gate(
    gates,  # [rows, count], by a stride
    states,  # [rows, count], by a stride: what they let through
    results,  # [rows, count]
    count,
    gate_stride,
    state_stride,
    SMOOTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Multiply states by what their gates let through: SiLU, or GELU's approximation by tanh."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < count
    loaded = tl.load(gates + row * gate_stride + column, mask=mask, other=0.0)
    numbers = loaded.to(tl.float32)
    bent = numbers
    if SMOOTH:  # 0.5 * (1 + tanh(y)) is the logistic function of 2 * y
        bent = 1.5957691216057308 * (numbers + 0.044715 * numbers * numbers * numbers)
    opened = numbers / (1 + tl.exp(-bent))
    opened = opened.to(loaded.dtype).to(tl.float32)  # rounded, as models do
    through = tl.load(states + row * state_stride + column, mask=mask, other=0.0).to(tl.float32)
    tl.store(results + row * count + column, (opened * through).to(loaded.dtype), mask=mask)


def norm(states: Tensor, weight: Tensor | None, results: Tensor, epsilon: float, form: int) -> None:
    """Norm rows.

    Args:
        states: [..., count] in one piece, at most ``MOST`` a row.
        weight: [count]; None for a bare norm.
        results: where to write, laid out alike.
        epsilon: is added to the mean of the squares.
        form: see ``forms.py``.
    """
    count = states.shape[-1]
    rows, block = states.numel() // count, triton.next_power_of_2(count)
    many = max(1, _ROWS // block)
    with torch.cuda.device_of(states):
        hogwild_norm[-(-rows // many),](
            states,
            states if weight is None else weight,
            results,
            rows,
            epsilon,
            COUNT=count,
            WEIGHTED=form != BARE,
            ROUNDED=form == ROUNDED,
            PLUS_ONE=form == PLUS_ONE,
            BLOCK_R=many,
            BLOCK=block,
            num_warps=min(16, max(1, many * block // _WARP)),
        )


def gate(gates: Tensor, states: Tensor, results: Tensor, form: int) -> None:
    """Compute what gates let through.

    Args:
        gates, states: [rows, count], the numbers of a row side by side.
        results: [rows, count] in one piece.
        form: see ``forms.py``.
    """
    rows, count = gates.shape
    with torch.cuda.device_of(gates):
        hogwild_gate[rows, -(-count // _CHUNK)](
            gates,
            states,
            results,
            count,
            gates.stride(0),
            states.stride(0),
            SMOOTH=form == GELU,
            BLOCK=_CHUNK,
            num_warps=4,
        )


def try_out(device: torch.device) -> None:
    """Build and run one kernel on a device; raises whatever goes wrong."""
    states = torch.full((1, 16), 3.0, device=device)
    results = torch.zeros_like(states)
    norm(states, None, results, 7.0, BARE)
    if not torch.allclose(results, torch.full_like(states, 0.75)):  # 3 / sqrt(9 + 7)
        raise RuntimeError("a first kernel gave a wrong result")
