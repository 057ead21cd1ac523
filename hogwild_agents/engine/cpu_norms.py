"""CPU norms: the compiled RMS norm of rows of numbers, in any of the forms that models have.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

import math
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.types import float32, float64

from hogwild_agents.engine.forms import PLUS_ONE, ROUNDED, WHOLE
from hogwild_agents.engine.vectors import (
    WIDTH,
    fma,
    get,
    integers,
    load,
    pointer,
    shifted,
    spread,
    store,
    take,
    total,
)


@njit(nogil=True, error_model="numpy")
def _factor(states, count, epsilon):
    """Return 1 over the root of the mean of a row's squares, and of an epsilon more."""
    sum = spread(float32(0))
    for at in range(0, count, WIDTH):
        numbers = load(states, at)
        sum = fma(numbers, numbers, sum)
    return float32(1) / math.sqrt(total(sum) / float32(count) + epsilon)


@njit(nogil=True, error_model="numpy")
def _norm_row(states, weights, results, count, epsilon, form):
    """Norm a row; its numbers fill whole vectors."""
    factor, one = spread(_factor(states, count, epsilon)), spread(float32(1))
    for at in range(0, count, WIDTH):
        numbers = load(states, at) * factor
        if form == ROUNDED:
            store(results, at, numbers)
            numbers = load(results, at) * load(weights, at)
        elif form == WHOLE:
            numbers = numbers * load(weights, at)
        elif form == PLUS_ONE:
            numbers = numbers * (load(weights, at) + one)
        store(results, at, numbers)


@njit(nogil=True, error_model="numpy")
def _norm(job, kind):
    """Norm the rows that a job is about, together with other threads.

    Args:
        job: pointer to its integers: four of the threads' (see ``threads.py``), addresses of
            states [rows, count], weights [count] and results [rows, count], of an epsilon, a
            float64, then rows, count, the form, and how many rows a thread takes at a time.
        kind: of all elements.
    """
    states, weights = pointer(get(job, 4), kind), pointer(get(job, 5), kind)
    results = pointer(get(job, 6), kind)
    epsilon = float32(get(pointer(get(job, 7), float64), 0))
    rows, count, form, many = get(job, 8), get(job, 9), get(job, 10), get(job, 11)
    while True:
        first = take(job) * many
        if first >= rows:
            break
        for row in range(first, min(rows, first + many)):
            at = row * count
            _norm_row(shifted(states, at), weights, shifted(results, at), count, epsilon, form)


def norms(kind: Any, sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled for states of a type.

    Args:
        kind: float32, BFLOAT16 or FLOAT16.
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(job):
        if sources:
            _norm(integers(job), kind)

    return run
