"""``python -m tests.engine.far_kernels FAMILY...``: as ``accelerator.py``, with Triton's kernels.

They are interpreted, and take none but the device's tensors, as a GPU's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tests.engine.interpreter import begin

begin()  # before triton is imported

from triton.runtime.interpreter import GridExecutor  # noqa: E402

from tests.engine.accelerator import Far, main, near  # noqa: E402
from tests.engine.kernel_checks import by_triton  # noqa: E402


def _given(
    executor: Any, args: Sequence[Any], options: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return what a kernel is launched with, where it lies; the interpreter would copy it."""
    for one in (*args, *options.values()):
        if isinstance(one, Tensor) and not isinstance(one, Far):
            raise RuntimeError(f"{executor.fn.__name__} is given a tensor of the CPU: {one.shape}.")
    return [near(one) for one in args], {name: near(one) for name, one in options.items()}


GridExecutor._init_args_hst = _given
GridExecutor._restore_args_dev = lambda *copies: None

if __name__ == "__main__":
    main(sys.argv[1:], by_triton)
