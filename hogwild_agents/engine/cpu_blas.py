"""CPU BLAS: the compiled call of a product of matrices that a library has.

Importing this module imports numba.
"""

# No `from __future__ import annotations`: numba reads the signatures.

from collections.abc import Callable

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from hogwild_agents.engine.threads import HEAD
from hogwild_agents.engine.vectors import get, integers, shifted

_ARGUMENTS = (1, 2, 3, 4, 5, 9, -11, 6, -12, 7, 10, -13, 8)
"""Which of the job's own integers each argument of ``sgemm`` points to, in order; those that are
addresses of matrices are arguments themselves, and stand here with a minus."""


@intrinsic
def _multiply(context, numbers):
    """Call ``sgemm`` with a job's own integers."""

    def build(context, builder, signature, args):
        place = [builder.gep(args[0], [ir.IntType(64)(abs(number))]) for number in range(14)]
        address = builder.load(place[0])
        given = [
            builder.ptrtoint(place[number], ir.IntType(64)) if number > 0
            else builder.load(place[-number])
            for number in _ARGUMENTS
        ]  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(given))
        builder.call(builder.inttoptr(address, kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.int64)), build


@njit(nogil=True, error_model="numpy")
def _run(job):
    """Multiply the matrices that a job is about; it is one thread's alone.

    Args:
        job: pointer to its integers: four of the threads' (see ``threads.py``), the address of
            ``sgemm``, then what its arguments point to: two letters, three sizes, how far columns
            are apart in each of three matrices, and two factors, float32s; then the addresses of
            the matrices. A letter, and a float32, is the first bytes of an integer.
    """
    if get(job, HEAD):
        _multiply(shifted(job, HEAD))


def blas(sources: int) -> Callable[[int], None]:
    """Return the function that is to be compiled.

    Args:
        sources: a number that is not 0, and another one for other sources; see ``compiled.py``.
    """

    def run(job):
        if sources:
            _run(integers(job))

    return run
