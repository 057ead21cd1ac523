"""``python -m tests.engine.far_kernels FAMILY...``: as ``accelerator.py``, with Triton's kernels.

They are interpreted, and take none but the device's tensors, as a GPU's. After ``recorded``,
forwards are: what is recorded must not wait for the device, and is done again as it was done the
first time, so that all that is new has to be in the places of what was recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from tests.engine.interpreter import begin

begin()  # before triton is imported

from triton.runtime.interpreter import GridExecutor  # noqa: E402

from hogwild_agents.engine import engine as engine_module, graphs  # noqa: E402
from hogwild_agents.engine.cuda_graph import without_waiting  # noqa: E402
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


class Again:
    """What was computed, to be computed once more."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        self._work = work
        self.result = without_waiting(work)

    def replay(self) -> None:
        """Compute it, into the place of the first time."""
        self.result.copy_(self._work())


@contextmanager
def recorded() -> Iterator[pytest.MonkeyPatch]:
    """Let engines record their ticks."""
    with by_triton() as patch:
        patch.setattr(engine_module, "obstacle", lambda *args: None)
        patch.setattr(engine_module, "recorder_of", lambda loan: Again)
        patch.setattr(graphs, "AFTER", 1)
        yield patch


if __name__ == "__main__":
    names = sys.argv[1:]
    if names[0] == "recorded":
        main(names[1:], recorded)
    else:
        main(names, by_triton)
