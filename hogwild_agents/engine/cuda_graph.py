"""CUDA graph: work on a GPU, recorded with its launches, to be done again by a single one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_DEPENDS = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape
"""Of operators that give numbers to the host, or of which only the device knows how many."""
_INDEXED = (
    _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default,
    _aten._index_put_impl_.default,
)  # fmt: skip
"""Operators of which masks let the host wait, and what it has to bring."""
_MASKS = torch.bool, torch.uint8


class CudaGraph:
    """What was launched while something was computed.

    Args:
        work: computes a tensor; called twice, and nothing runs the second time. What it reads
            besides, it finds in the same places when it is launched again. All its kernels were
            built before.
        device: the GPU.
        pool: memory that it may share with graphs which never run at the same time, of which one
            is alive; None for some of its own. See ``torch.cuda.graph``.
        stream: of that device, to record on; torch's own is on that of the first recording, and
            what belongs to it may go with any graph that was recorded there (pytorch 193402).

    Attributes:
        result: what it computed, after :meth:`replay`.
        pool: the memory that it takes.

    Raises:
        WaitError: it waits for the GPU.
        RuntimeError: it does what cannot be recorded.
    """

    def __init__(
        self,
        work: Callable[[], Tensor],
        device: torch.device,
        pool: Any,
        stream: torch.cuda.Stream,
    ) -> None:
        with torch.cuda.device(device), torch.no_grad():
            self._graph = torch.cuda.CUDAGraph()
            current = torch.cuda.current_stream()
            without_waiting(work)
            recording = torch.cuda.graph(
                self._graph,
                pool=pool,
                stream=stream,
                capture_error_mode="thread_local",  # others may go on using the GPU meanwhile
            )
            try:
                with recording:
                    self.result: Tensor = work()
            finally:
                torch.cuda.set_stream(current)  # a failed recording leaves its own
            self.pool = self._graph.pool()

    def replay(self) -> None:
        """Launch it again, on the current stream."""
        self._graph.replay()


class WaitError(RuntimeError):
    """Work during which the host would wait for a device."""


def without_waiting(work: Callable[[], Tensor]) -> Tensor:
    """Return what is computed, unless the host has to wait for a device meanwhile.

    Recording that would fail, and a recording that fails on its way leaves torch's random numbers
    and its memory as if it still went on (torch 2.11).

    Raises:
        WaitError: before it waits.
    """
    with _Impatient():  # type: ignore[no-untyped-call]
        return work()


class _Impatient(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets no operator wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, unless it waits."""
        options = kwargs or {}
        if _waits(func, args, options):
            raise WaitError(f"{func._schema.name} has the host wait for the device")
        return func(*args, **options)


def _waits(function: Any, args: Sequence[Any], options: dict[str, Any]) -> bool:
    """Whether an operator reads from a device, or copies between it and the host."""
    if function is _aten._to_copy.default:
        there = torch.device(options.get("device") or args[0].device)
        return bool(args[0].is_cpu != (there.type == "cpu"))
    if function is _aten.copy_.default:
        return bool(args[0].is_cpu != args[1].is_cpu)
    given = [one for one in tree_leaves((args, options)) if isinstance(one, Tensor)]
    if all(one.is_cpu for one in given):
        return False
    if function in _INDEXED:
        fills = len(args) > 2 and args[2].numel() == 1  # where a mask says so, without counting
        indices = [one for one in args[1] if one is not None]
        return not fills and any(one.is_cpu or one.dtype in _MASKS for one in indices)
    if function is _aten.lift_fresh.default:  # torch.tensor shows no more of what it copies
        return True
    return any(tag in function.tags for tag in _DEPENDS)
