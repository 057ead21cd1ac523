"""CPU gates: the compiled product of what a gate lets through and what it is to let through.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.types import float32

from hogwild_agents.engine.forms import GELU
from hogwild_agents.engine.vectors import (
    WIDTH,
    exp,
    fma,
    get,
    integers,
    load,
    maximum,
    pointer,
    shifted,
    spread,
    store,
    take,
)

CHUNK = 2048
"""A thread takes at most so many numbers of a row at a time."""


@njit(nogil=True, error_model="numpy")
def _opened(numbers, form):
    """Return what a gate lets through: x times the logistic function of x, or of a cubic of it."""
    one, bent = spread(float32(1)), numbers
    if form == GELU:  # 0.5 * (1 + tanh(y)) is the logistic function of 2 * y
        cubic = fma(numbers * numbers, spread(float32(0.044715)), one)
        bent = numbers * cubic * spread(float32(1.5957691216057308))  # twice the root of 2 / pi
    least = spread(float32(-87))  # below it the exponential is too large for a float32
    return numbers / (one + exp(spread(float32(0)) - maximum(least, bent)))


@njit(nogil=True, error_model="numpy")
def _gate(job, kind):
    """Compute the gates that a job is about, together with other threads.

    Args:
        job: pointer to its integers: four of the threads' (see ``threads.py``), addresses of
            gates and of what they let through, [rows, count] each, and of results [rows, count],
            then rows, count, how far the rows of the first two are apart, and the form.
        kind: of all elements.
    """
    rows, count, form = get(job, 7), get(job, 8), get(job, 11)
    chunks = -(-count // CHUNK)
    while True:
        unit = take(job)
        row, start = unit // chunks, unit % chunks * CHUNK
        if row >= rows:
            break
        gates = shifted(pointer(get(job, 4), kind), row * get(job, 9))
        states = shifted(pointer(get(job, 5), kind), row * get(job, 10))
        results = shifted(pointer(get(job, 6), kind), row * count)
        for at in range(start, min(count, start + CHUNK), WIDTH):
            store(results, at, _opened(load(gates, at), form))  # rounded, as models do
            store(results, at, load(results, at) * load(states, at))


def gates(kind: Any, sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled for states of a type.

    Args:
        kind: float32, BFLOAT16 or FLOAT16.
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(job):
        if sources:
            _gate(integers(job), kind)

    return run
