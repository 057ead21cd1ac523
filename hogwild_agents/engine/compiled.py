"""Compiled: the functions that numba compiles for this processor, each when it is first needed.

What was compiled is kept on disk, beside the package or in the user's cache folder, so that only
the first run on a machine waits for it, for some seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from hogwild_agents.engine import threads


class KernelWarning(UserWarning):
    """Kernels of the engine's own do not work here, so torch computes in their place."""


def works() -> bool:
    """Whether functions can be compiled here, and run on torch's threads."""
    return threads.available() and _works()


@cache
def attention(dtype: torch.dtype) -> Any:
    """Return the attention for keys and values of a dtype; its ``address`` is to be run."""
    from hogwild_agents.engine import cpu_attention

    return _compiled(
        {
            torch.float32: cpu_attention.float32_attention,
            torch.bfloat16: cpu_attention.bfloat16_attention,
            torch.float16: cpu_attention.float16_attention,
        }[dtype]
    )


@cache
def products(weights: torch.dtype, states: torch.dtype) -> Any:
    """Return the products of weights of one dtype with states of another, likewise."""
    from hogwild_agents.engine import cpu_products

    return _compiled(
        {
            (torch.bfloat16, torch.bfloat16): cpu_products.bfloat16_products,
            (torch.float16, torch.float16): cpu_products.float16_products,
            (torch.int8, torch.float32): cpu_products.int8_float32_products,
            (torch.int8, torch.bfloat16): cpu_products.int8_bfloat16_products,
            (torch.int8, torch.float16): cpu_products.int8_float16_products,
        }[weights, states]
    )


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
