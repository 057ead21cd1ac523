"""Elementwise: runs of small operators on the CPU, joined into one compiled call each.

A rotation of queries and keys is ten of torch's operators, over so few numbers that calling them
takes longer than computing. Each of them is computed as torch does, and rounded where it rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hogwild_agents.engine import compiled, threads

Call: TypeAlias = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]
"""A function, and what it is called with."""

_Operator: TypeAlias = Sequence[int | Tensor]
"""The integers of one operator, see ``cpu_elementwise.py``; a tensor stands for its address."""

_FEW = 1 << 15
"""So many numbers are computed here: more of them torch shares out among its threads."""
_FEW_APART = 1 << 11
"""So many where they are no neighbours, and come one by one."""


def joined(calls: Sequence[Call]) -> list[Call]:
    """Return calls that compute the same bits, those of small operators in a row as one.

    Only what is no number may be another NaN.

    Args:
        calls: of functions of torch's that write to memory which is there (``torch.add`` and its
            like with ``out``, or ``Tensor.copy_``), or of anything else, which is left as it is.
            They are made in this order, and their tensors stay where they are.
    """
    if not compiled.works():
        return list(calls)
    found = [(call, *_operators(call)) for call in calls]
    result: list[Call] = []
    for dtype, run in groupby(found, lambda one: one[1]):
        if dtype is None:
            result += [call for call, *_ in run]
        else:
            result.append((_job(dtype, [one for *_, some in run for one in some]), (), {}))
    return result


def _job(dtype: torch.dtype, operators: Sequence[_Operator]) -> threads.Job:
    numbers = [len(operators), *(number for one in operators for number in one)]
    return threads.Job(compiled.elementwise(dtype).address, 0, numbers, alone=True)


def _operators(call: Call) -> tuple[torch.dtype | None, list[_Operator]]:
    """Return what a call computes, and the dtype of all numbers; None if it is something else."""
    function, args, options = call
    parts = list(_READ[function](*args, **options)) if function in _READ else []
    tensors = [tensor for _, *some in parts for tensor in some]
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) == 1 and all(map(compiled.takes, tensors)):
        operators = [one for part in parts if (one := _operator(*part)) is not None]
        if len(operators) == len(parts):
            return dtypes.pop(), operators
    return None, []


def _operator(form: str, result: Tensor, *operands: Tensor) -> _Operator | None:
    """Return the integers of an operator, if it is a small one."""
    from hogwild_agents.engine import cpu_elementwise  # imports numba

    tensors = (result, *(one.expand(result.shape) for one in operands))
    sizes, apart = _laid_out(*tensors)
    neighbours = apart[0][-1] == apart[1][-1] == 1 >= apart[2][-1]
    missing = cpu_elementwise.DIMENSIONS - len(sizes)
    if missing < 0 or result.numel() > (_FEW if neighbours else _FEW_APART):
        return None
    numbers: list[int | Tensor] = [getattr(cpu_elementwise, form), *[1] * missing, *sizes]
    for tensor, steps in zip(tensors, apart, strict=True):
        numbers += [tensor, *[0] * missing, *steps]
    return numbers


def _laid_out(*tensors: Tensor) -> tuple[list[int], list[list[int]]]:
    """Return the sizes of tensors of one shape, and how far apart the elements of each are.

    Dimensions that lie in all of them as one are one; there is at least one.
    """
    sizes, apart = [1], [[0] * len(tensors)]
    for size, *steps in zip(tensors[0].shape, *(one.stride() for one in tensors), strict=True):
        if sizes[-1] == 1:
            sizes[-1], apart[-1] = size, steps
        elif size > 1 and apart[-1] == [size * step for step in steps]:
            sizes[-1], apart[-1] = sizes[-1] * size, steps
        elif size != 1:
            sizes.append(size)
            apart.append(steps)
    return sizes, [list(steps) for steps in zip(*apart, strict=True)]


_Part: TypeAlias = tuple[str, Tensor, Tensor, Tensor]
"""An operator of the kernel's: its name there, the result and the operands, twice if it is one."""


def _binary(form: str) -> Callable[..., Iterator[_Part]]:
    def read(left: Any, right: Any, *, out: Tensor, **options: Any) -> Iterator[_Part]:
        if isinstance(left, Tensor) and isinstance(right, Tensor) and not options:
            yield form, out, left, right

    return read


def _negated(states: Tensor, *, out: Tensor) -> Iterator[_Part]:
    yield "NEGATE", out, states, states


def _copied(result: Tensor, source: Tensor) -> Iterator[_Part]:
    yield "COPY", result, source, source


def _side_by_side(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor) -> Iterator[_Part]:
    start = 0
    for one in tensors:
        if one.dim() == out.dim():  # else it is empty, and left out
            yield "COPY", out.narrow(dim, start, one.shape[dim]), one, one
            start += one.shape[dim]


_READ: dict[Callable[..., object], Callable[..., Iterator[_Part]]] = {
    torch.add: _binary("ADD"),
    torch.cat: _side_by_side,
    torch.mul: _binary("MULTIPLY"),
    torch.neg: _negated,
    torch.sub: _binary("SUBTRACT"),
    Tensor.copy_: _copied,
}
"""What tells, by function, which operators of the kernel's do what it does."""
