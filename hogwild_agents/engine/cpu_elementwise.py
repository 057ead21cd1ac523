"""CPU elementwise: the compiled run of small operators, one after another in one call.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.types import float32

from hogwild_agents.engine.vectors import (
    WIDTH,
    get,
    integers,
    load,
    pointer,
    put,
    shifted,
    spread,
    store,
)

COPY, NEGATE, ADD, SUBTRACT, MULTIPLY = 0, 1, 2, 3, 4
"""What an operator does with its first operand, or with both."""
DIMENSIONS = 4
"""Of each operand."""
OPERAND = 1 + DIMENSIONS
"""Integers of an operand: its address, and how far the elements of each dimension are apart."""
OPERATOR = 1 + DIMENSIONS + 3 * OPERAND
"""Integers of an operator: what it does, the sizes, then the result and two operands."""


@njit(nogil=True, error_model="numpy")
def _found(form, left, right, opposite):
    """Return what an operator gives for two numbers, or for two vectors of them."""
    result = left
    if form == NEGATE:
        result = left * opposite
    elif form == ADD:
        result = left + right
    elif form == SUBTRACT:
        result = left - right
    elif form == MULTIPLY:
        result = left * right
    return result


@njit(nogil=True, error_model="numpy")
def _compute_row(form, count, result, left, right, apart, left_apart, right_apart):
    """Compute a row of numbers, each rounded once: as vectors where they are neighbours."""
    opposite, done = float32(-1), 0
    if apart == 1 and left_apart == 1 and right_apart <= 1:
        done = count - count % WIDTH
        if right_apart:
            for at in range(0, done, WIDTH):
                numbers = _found(form, load(left, at), load(right, at), spread(opposite))
                store(result, at, numbers)
        else:
            other = spread(get(right, 0))
            for at in range(0, done, WIDTH):
                store(result, at, _found(form, load(left, at), other, spread(opposite)))
    for at in range(done, count):
        numbers = get(left, at * left_apart), get(right, at * right_apart)
        put(result, at * apart, _found(form, numbers[0], numbers[1], opposite))


@njit(nogil=True, error_model="numpy")
def _compute(operator, kind):
    """Compute what an operator is about, given a pointer to its integers."""
    sizes = shifted(operator, 1)
    operands = shifted(sizes, DIMENSIONS)
    apart, left_apart = shifted(operands, 1), shifted(operands, OPERAND + 1)
    right_apart = shifted(operands, 2 * OPERAND + 1)
    for first in range(get(sizes, 0)):
        for second in range(get(sizes, 1)):
            for third in range(get(sizes, 2)):
                place = first * get(apart, 0) + second * get(apart, 1) + third * get(apart, 2)
                left = first * get(left_apart, 0) + second * get(left_apart, 1)
                left += third * get(left_apart, 2)
                right = first * get(right_apart, 0) + second * get(right_apart, 1)
                right += third * get(right_apart, 2)
                _compute_row(
                    get(operator, 0),
                    get(sizes, 3),
                    shifted(pointer(get(operands, 0), kind), place),
                    shifted(pointer(get(operands, OPERAND), kind), left),
                    shifted(pointer(get(operands, 2 * OPERAND), kind), right),
                    get(apart, 3),
                    get(left_apart, 3),
                    get(right_apart, 3),
                )


@njit(nogil=True, error_model="numpy")
def _run(job, kind):
    """Compute the operators that a job is about, in order; it is one thread's alone.

    Args:
        job: pointer to its integers: four of the threads' (see ``threads.py``), how many operators
            there are, then those of each; see ``OPERATOR``.
        kind: of all elements.
    """
    for number in range(get(job, 4)):
        _compute(shifted(job, 5 + number * OPERATOR), kind)


def elementwise(kind: Any, sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled for numbers of a type.

    Args:
        kind: float32, BFLOAT16 or FLOAT16.
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(job):
        if sources:
            _run(integers(job), kind)

    return run
