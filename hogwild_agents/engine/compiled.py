"""Compiled: the functions that numba compiles for this processor, each when it is first needed.

What was compiled is kept on disk, beside the package or in the user's cache folder, so that only
the first run on a machine waits for it, for some seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.util import find_spec
from typing import Any

import torch

from hogwild_agents.engine import threads

KERNELS = (
    "forms.py", "vectors.py", "cpu_amx.py", "cpu_amx_attention.py", "cpu_attention.py",
    "cpu_tiles.py", "cpu_products.py", "cpu_norms.py", "cpu_gates.py", "cpu_elementwise.py",
    "cpu_blas.py", "cpu_jobs.py",
)  # fmt: skip
"""The modules that numba compiles, and what they take numbers from."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of states that they compute with."""


class KernelWarning(UserWarning):
    """Kernels of the engine's own do not work here, so torch computes in their place."""


def takes(states: torch.Tensor) -> bool:
    """Whether compiled functions compute with a tensor."""
    plain = type(states) is torch.Tensor and states.is_cpu and not states.is_neg()
    return plain and states.dtype in DTYPES


def works() -> bool:
    """Whether functions can be compiled here, and run on torch's threads."""
    return threads.available() and _works()


@cache
def attention(dtype: torch.dtype) -> Any:
    """Return the attention for keys and values of a dtype; its ``address`` is to be run."""
    from hogwild_agents.engine import cpu_attention

    return _compiled(cpu_attention.attention(_types()[dtype], _sources()))


@cache
def products(weights: torch.dtype, states: torch.dtype) -> Any:
    """Return the products of weights of one dtype with states of another, likewise."""
    from hogwild_agents.engine import cpu_products

    kinds = _types()
    return _compiled(cpu_products.products(kinds[weights], kinds[states], _sources()))


@cache
def group_products(weights: torch.dtype, states: torch.dtype) -> Any:
    """Return the products of groups of weights with the rows of each, likewise."""
    from hogwild_agents.engine import cpu_products

    kinds = _types()
    return _compiled(cpu_products.group_products(kinds[weights], kinds[states], _sources()))


@cache
def norms(states: torch.dtype) -> Any:
    """Return the RMS norms of states of a dtype, likewise."""
    from hogwild_agents.engine import cpu_norms

    return _compiled(cpu_norms.norms(_types()[states], _sources()))


@cache
def gates(states: torch.dtype) -> Any:
    """Return the gates of states of a dtype, likewise."""
    from hogwild_agents.engine import cpu_gates

    return _compiled(cpu_gates.gates(_types()[states], _sources()))


@cache
def elementwise(numbers: torch.dtype) -> Any:
    """Return the runs of small operators over numbers of a dtype, likewise."""
    from hogwild_agents.engine import cpu_elementwise

    return _compiled(cpu_elementwise.elementwise(_types()[numbers], _sources()))


@cache
def blas() -> Any:
    """Return what calls a library's product of matrices, likewise."""
    from hogwild_agents.engine import cpu_blas

    return _compiled(cpu_blas.blas(_sources()))


@cache
def jobs() -> Any:
    """Return what runs jobs one after the other, likewise."""
    from hogwild_agents.engine import cpu_jobs

    return _compiled(cpu_jobs.jobs(_sources()))


def _types() -> dict[torch.dtype, Any]:
    """Return what numba calls the dtypes."""
    from numba import types

    from hogwild_agents.engine.vectors import BFLOAT16, FLOAT16

    return {
        torch.float32: types.float32,
        torch.bfloat16: BFLOAT16,
        torch.float16: FLOAT16,
        torch.int8: types.int8,
    }


def _sources() -> int:
    """Return a number for what the kernels' modules say, and for what they find here.

    numba keeps a function for as long as the file that it is in stays the same. What it calls may
    have changed in other files; but of what it closes over, numba's key has the value.
    """
    from hogwild_agents.engine.cpu_amx import TILES

    folder = resources.files(__package__)
    texts = (folder.joinpath(name).read_bytes() for name in KERNELS)
    digest = sha256(b"".join((*texts, bytes([TILES])))).digest()
    return int.from_bytes(digest[:7], "big") | 1


@cache
def _works() -> bool:
    if find_spec("numba") is None:
        return False
    try:
        _compiled(_nothing)
    except Exception as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        warnings.warn(
            f"numba cannot compile for this processor ({lines[0]}), so torch computes attention "
            "and products, which is slower: see whether numba fits Python and numpy.",
            KernelWarning,
            stacklevel=2,
        )
        return False
    return True


def _nothing(job: int) -> None:
    """Do nothing."""


def _compiled(function: Callable[[int], None]) -> Any:
    from numba import cfunc, types

    signature = types.void(types.voidptr)
    try:
        return cfunc(signature, cache=True)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):  # there is no folder to write to
            raise
        return cfunc(signature)(function)
