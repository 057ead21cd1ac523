"""Kernels: whose kernels run on a device: those that numba compiles, or Triton's."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from hogwild_agents.engine import compiled
from hogwild_agents.engine.compiled import KernelWarning

Kernels: TypeAlias = Literal["cpu", "gpu"]


def kernels_on(device: torch.device) -> Kernels | None:
    """Return whose kernels run on a device; None if everything is left to torch there.

    There are some for CPUs, where numba is, and for GPUs on which triton works.
    """
    if device.type == "cuda":
        return "gpu" if _gpu_works(device) else None
    if device.type != "cpu" or device.index:  # there is but one CPU; others are make-believe
        return None
    return "cpu" if compiled.works() else None


def kernels_for(states: Tensor) -> Kernels | None:
    """Return whose kernels compute with a tensor, which lies plainly and is no subclass's."""
    plain = type(states) is Tensor and not states.is_neg() and states.dtype in compiled.DTYPES
    return kernels_on(states.device) if plain else None


@cache
def _gpu_works(device: torch.device) -> bool:
    if find_spec("triton") is None or _interprets():
        return False
    if torch.cuda.get_device_capability(device) < (8, 0):  # no products of bfloat16
        return False
    try:
        from hogwild_agents.engine.gpu_rows import try_out  # imports triton

        try_out(device)
    except Exception as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        warnings.warn(
            f"Triton's kernels do not run on {device} ({lines[0]}), so attention, norms and gates "
            "are left to torch, which is slower: see whether triton fits torch, and whether there "
            "is a C compiler.",
            KernelWarning,
            stacklevel=2,
        )
        return False
    return True


def _interprets() -> bool:
    """Whether Triton was told to interpret on the CPU, where no address of a GPU leads anywhere."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
