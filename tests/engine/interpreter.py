"""Interpreter: a process of its own in which Triton's kernels run on the CPU, slowly.

Triton decides when it is imported whether it interprets, so this cannot be done in the process of
the tests, where others may have imported it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch

T = TypeVar("T")


class Interpreter:
    """Calls functions, which are found by their names, in that process."""

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), begin)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def __call__(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function there, and return or raise what it does."""
        return self._pool.submit(function, *args).result()


def begin() -> None:
    """Let this process interpret; triton was not imported yet."""
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.runtime import interpreter

    _multiply_bfloat16(interpreter)
    _round_to_bfloat16(interpreter)
    if int(version("triton").split(".")[1]) < 9:
        _count_by_tensors(interpreter)


def _multiply_bfloat16(interpreter: Any) -> None:
    """Let the interpreter multiply numbers in bfloat16, of which it multiplies the bits."""
    builder, handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
    multiply = builder.create_dot

    def widened(states: Any) -> Any:
        if str(states.dtype.scalar) != "bf16":
            return states
        bits = torch.from_numpy(np.ascontiguousarray(states.data).view(np.int16))
        return handle(bits.view(torch.bfloat16).float().numpy(), interpreter.tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(self, widened(a), widened(b), *rest)

    builder.create_dot = create_dot


def _round_to_bfloat16(interpreter: Any) -> None:
    """Let the interpreter round to bfloat16 as GPUs do; it cuts bits off."""
    convert = interpreter._convert_float

    def rounded(states: Any, source: Any, target: Any, mode: Any) -> Any:
        if (str(source), str(target)) != ("fp32", "bf16"):
            return convert(states, source, target, mode)
        bits = torch.from_numpy(np.ascontiguousarray(states)).bfloat16().view(torch.int16)
        return bits.numpy().view(np.uint16)

    interpreter._convert_float = rounded


def _count_by_tensors(interpreter: Any) -> None:
    """Let older interpreters make an int of an array of one number, as numpy 2.4 does no more."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
