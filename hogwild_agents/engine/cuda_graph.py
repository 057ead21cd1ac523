"""CUDA graph: work on a GPU, recorded with its launches, to be done again by a single one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class CudaGraph:
    """What was launched while something was computed.

    Args:
        work: computes a tensor; called once, and nothing runs then. What it reads besides, it
            finds in the same places when it is launched again. All its kernels were built before.
        device: the GPU.
        pool: memory that it may share with graphs which never run at the same time; see
            ``torch.cuda.graph``. One of them has to be alive.
        stream: of that device, to record on; torch's own is on that of the first recording, and
            what belongs to it may go with any graph that was recorded there (pytorch 193402).

    Attributes:
        result: what it computed, after :meth:`replay`.
        pool: the memory that it takes.

    Raises:
        RuntimeError: it waits for the GPU, or does what cannot be recorded.
    """

    def __init__(
        self,
        work: Callable[[], Tensor],
        device: torch.device,
        pool: Any = None,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        with torch.cuda.device(device), torch.no_grad():
            self._graph = torch.cuda.CUDAGraph()
            current = torch.cuda.current_stream()
            # Other threads may go on using the GPU meanwhile.
            how: dict[str, Any] = {"pool": pool, "capture_error_mode": "thread_local"}
            try:
                with torch.cuda.graph(self._graph, stream=stream, **how):
                    self.result: Tensor = work()
            finally:
                torch.cuda.set_stream(current)  # a failed recording leaves its own
            self.pool = self._graph.pool()

    def replay(self) -> None:
        """Launch it again, on the current stream."""
        self._graph.replay()
