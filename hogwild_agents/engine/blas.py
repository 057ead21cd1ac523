"""BLAS: torch's products of float32 matrices on one thread, called without torch.

torch gives them to a library's ``sgemm``, and takes longer for that than the library for a few
rows. Called by a job they give the same bits, and jobs in a row need no Python in between. (On
several threads they would not: the library splits long sums by its own threads, and has but one
inside of a job.)
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.elementwise import Call

_aten = torch.ops.aten
_ONE = 0x3F800000
"""The bits of a float32 of 1."""


def multiplied(calls: Sequence[Call]) -> list[Call]:
    """Return calls that compute the same bits, those of products of matrices as jobs.

    Args:
        calls: of functions of torch's that write to memory which is there, or of anything else,
            which is left as it is. Their tensors stay where they are.
    """
    if torch.get_num_threads() > 1 or not _sgemm():
        return list(calls)
    return [one for call in calls for one in _multiplied(*call)]


def _multiplied(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Iterator[Call]:
    added = args[:-2] if function is _aten.addmm.out else ()
    if function in (_aten.mm.out, _aten.addmm.out) and [*options] == ["out"]:
        out: Tensor = options["out"]
        left, right = args[-2:]
        if _fits(left, right, out) and all(one.dtype == out.dtype for one in added):
            for one in added:
                yield Tensor.copy_, (out, one.expand(out.shape)), {}
            yield _job(left, right, out, _ONE if added else 0), (), {}
            return
    yield function, args, options


def _fits(left: Tensor, right: Tensor, out: Tensor) -> bool:
    """Whether a product's matrices are float32, and lie as those of linear layers do."""
    return (
        all(compiled.takes(one) and one.dtype == torch.float32 for one in (left, right, out))
        and _is_precise()
        and min(*left.shape, *right.shape) > 0
        and left.stride(1) == right.stride(0) == out.stride(1) == 1
        and left.stride(0) >= left.shape[1]
        and right.stride(1) >= right.shape[0]
        and out.stride(0) >= out.shape[1]
    )


def _is_precise() -> bool:
    """Whether torch multiplies float32 as such."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # said in two ways that do not agree
        return False


def _job(left: Tensor, right: Tensor, out: Tensor, share: int) -> threads.Job:
    """Return what multiplies [rows, count] with [count, outs], and adds a share of what was there.

    To ``sgemm``, which counts by columns, all of them are turned over.
    """
    (rows, count), outs = left.shape, right.shape[1]
    letters, apart = (ord("T"), ord("N")), (right.stride(1), left.stride(0), out.stride(0))
    numbers = (_sgemm(), *letters, outs, rows, count, *apart, _ONE, share, right, left, out)
    return threads.Job(compiled.blas().address, 0, numbers, alone=True)


@cache
def _sgemm() -> int:
    """Return the address of what torch multiplies with; 0 if it is not known to be that.

    Where torch has MKL, float32 goes to nothing else; elsewhere it may go to oneDNN as well.
    """
    if not (compiled.works() and torch._C.has_mkl and sys.byteorder == "little"):
        return 0
    found = getattr(threads.library(), "sgemm_", None)
    return 0 if found is None else ctypes.cast(found, ctypes.c_void_p).value or 0
