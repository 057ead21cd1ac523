"""CPU jobs: the compiled function that runs jobs one after the other, with no Python in between.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

from collections.abc import Callable

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.types import int64

from hogwild_agents.engine.vectors import get, integers, pointer, set_integer, shifted, take

HEAD, EACH = 3, 3
"""How many integers come before those of the jobs, and how many each job has."""


def _build_call(builder, address, *args):
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(builder.inttoptr(address, kind.as_pointer()), args)


@intrinsic
def _call(context, address, argument):
    """Call the function at an address with another address."""

    def build(context, builder, signature, args):
        _build_call(builder, *args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), build


@intrinsic
def _wait(context, address):
    """Call the function at an address, if there is one: all threads wait there for each other."""

    def build(context, builder, signature, args):
        there = builder.icmp_unsigned("!=", args[0], ir.IntType(64)(0))
        with builder.if_then(there):
            _build_call(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), build


@njit(nogil=True, error_model="numpy")
def _run(table):
    """Run jobs, together with other threads.

    Args:
        table: pointer to integers: 0, how many jobs, the address of what lets threads wait, or 0
            where there is one thread; then for each job the address of its function, its own,
            and whether it is run on one thread.
    """
    count, wait = get(table, 1), get(table, 2)
    first = take(table) == 0
    if first:
        for number in range(count):
            job = pointer(get(table, HEAD + EACH * number + 1), int64)
            set_integer(job, 0, 0)
            set_integer(job, 1, 0)
    shared = True  # with all threads, as they all begin
    for number in range(count):
        row = shifted(table, HEAD + EACH * number)
        alone = get(row, 2) != 0
        if shared or not alone:
            _wait(wait)
        if first or not alone:
            _call(get(row, 0), get(row, 1))
        shared = not alone


def jobs(sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled.

    Args:
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(table):
        if sources:
            _run(integers(table))

    return run
