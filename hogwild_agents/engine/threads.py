"""Threads: how many torch computes with, and a compiled function run on them.

A pool of one's own would fight torch's for the cores: its threads spin for a while after each
operator. GCC's OpenMP, with which torch is built on Linux, hands its threads to anybody who asks
(``GOMP_parallel``); the libraries of LLVM and Intel take the same call there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

HEAD = 4
"""So many integers come before a job's own: a counter for units of work, one for places in the
room, the room's address, and the bytes of a place."""

_LINE = 64
"""Bytes of a line of the processor's caches."""


def run(function: int, place: int, numbers: tuple[int, ...]) -> None:
    """Run a function on all of torch's threads, and wait until each has come back.

    Args:
        function: the address of a function that takes the address of the job's integers.
        place: bytes that each thread may use meanwhile.
        numbers: the job's own integers, addresses among them.
    """
    threads = torch.get_num_threads()
    place = -(-place // _LINE) * _LINE  # else vectors of all but the first lie across two lines
    room = torch.empty(threads * place, dtype=torch.uint8)
    job = (ctypes.c_int64 * (HEAD + len(numbers)))(0, 0, room.data_ptr(), place, *numbers)
    together = _together()
    if threads == 1 or together is None:
        _alone(function)(job)
    else:
        together(function, job, threads, 0)


@contextmanager
def limited(number: int | None) -> Iterator[None]:
    """Let torch compute with so many threads of the CPU meanwhile; None for its own number."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available() -> bool:
    """Whether torch's threads can be had, or it uses but one."""
    return torch.get_num_threads() == 1 or _together() is not None


@cache
def _alone(function: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


@cache
def _together() -> Any:
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if parallel is not None:
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
    return parallel
