"""Threads: how many torch computes with, and a compiled function run on them.

A pool of one's own would fight torch's for the cores: its threads spin for a while after each
operator. GCC's OpenMP, with which torch is built on Linux, hands its threads to anybody who asks
(``GOMP_parallel``); the libraries of LLVM and Intel take the same call there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

Numbers: TypeAlias = Sequence[int | Tensor]
"""What a job is told; a tensor stands for its address."""

_SOFT = 1
"""What is given back is had again with the next parallel operator (OpenMP, omp_pause_soft)."""

HEAD = 4
"""So many integers come before a job's own: a counter for units of work, one for places in the
room, the room's address, and the bytes of a place."""

_LINE = 64
"""Bytes of a line of the processor's caches."""

Note: TypeAlias = Callable[[int, int, Numbers, bool], None]
"""What is told of a job: its function, place and numbers, and whether it is run alone."""

_NOTE: ContextVar[Note | None] = ContextVar("note", default=None)


class Job:
    """A function and what it is told, to be run on torch's threads, once or again.

    Args:
        function: the address of a function that takes the address of the job's integers.
        place: bytes that each thread may use meanwhile.
        numbers: the job's own integers; a tensor stands for its address.
        room: where the places are, of :func:`room_for` bytes; None for memory of its own.
        alone: run it on one thread: it is over before a second one had begun.

    Attributes:
        function: the address.
        count: on how many threads it is run.
    """

    def __init__(
        self,
        function: int,
        place: int,
        numbers: Numbers,
        room: Tensor | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self._alone = alone
        self.count = torch.get_num_threads()
        self._room = (
            torch.empty(room_for(place), dtype=torch.uint8, device="cpu") if room is None else room
        )
        self._kept = numbers  # so that no tensor goes while its address stands here
        own = [one if isinstance(one, int) else one.data_ptr() for one in numbers]
        kind = ctypes.c_int64 * (HEAD + len(own))
        self._job = kind(0, 0, self._room.data_ptr(), _whole(place), *own)
        self.function = function
        together = _together()
        self._together = None if alone or self.count == 1 else together

    @property
    def row(self) -> tuple[int, int, int]:
        """What :class:`Jobs` is told: addresses of the function and the job, and whether alone."""
        return self.function, ctypes.addressof(self._job), int(self._alone)

    def __call__(self) -> None:
        """Run it, and wait until each thread has come back."""
        job = self._job
        job[0] = job[1] = 0
        if self._together is None:
            _alone(self.function)(job)
        else:
            self._together(self.function, job, self.count, 0)


class Jobs:
    """Jobs that are run one after the other by one call.

    Python's lock is had back once, not after each of them: a thread that is busy with Python keeps
    it for 5 ms at a time. And the threads meet between the jobs, where they need not be woken.

    Args:
        function: the address of ``cpu_jobs.py``'s function.
        jobs: at least one, all for as many threads; where these are several, they can :func:`meet`.
    """

    def __init__(self, function: int, jobs: Sequence[Job]) -> None:
        self._function, self._jobs = function, jobs
        self._count = jobs[0].count
        self._together = None if self._count == 1 else _together()
        barrier = 0 if self._together is None else _barrier()
        numbers = [0, len(jobs), barrier, *(number for job in jobs for number in job.row)]
        self._table = (ctypes.c_int64 * len(numbers))(*numbers)

    def __call__(self) -> None:
        """Run them, and wait until each thread has come back."""
        self._table[0] = 0
        if self._together is None:
            _alone(self._function)(self._table)
        else:
            self._together(self._function, self._table, self._count, 0)


def run(function: int, place: int, numbers: Numbers, *, alone: bool = False) -> None:
    """Run a job once; see :class:`Job`. Who is noting is told of it first."""
    note = _NOTE.get()
    if note is not None:
        note(function, place, numbers, alone)
    Job(function, place, numbers, alone=alone)()


@contextmanager
def noting(note: Note) -> Iterator[None]:
    """Let somebody be told of every job that is run inside of this context."""
    token = _NOTE.set(note)
    try:
        yield
    finally:
        _NOTE.reset(token)


def room_for(place: int) -> int:
    """Return the bytes of the places of all threads."""
    return torch.get_num_threads() * _whole(place)


def _whole(place: int) -> int:
    """Return a number of whole lines: else vectors of all but the first place lie across two."""
    return -(-place // _LINE) * _LINE


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


def meet() -> bool:
    """Whether torch's threads can wait for each other, or a job is run on one of them anyhow."""
    return torch.get_num_threads() == 1 or _together() is None or _barrier() != 0


def give_back() -> None:
    """Give back the threads that OpenMP keeps for the calling thread, until it computes again.

    GCC's OpenMP keeps some for each thread that has computed. Once they are more than the
    processors, none of them spins any more while it waits: a tick is then slower by a quarter.
    """
    pause = _pause()
    if pause is not None:
        pause(_SOFT)


def _barrier() -> int:
    """Return the address of what lets threads wait for each other; 0 if there is no such thing."""
    found = getattr(_loaded(), "GOMP_barrier", None)
    return 0 if found is None else ctypes.cast(found, ctypes.c_void_p).value or 0


@cache
def _pause() -> Any:
    loaded = _loaded()
    if hasattr(loaded, "__kmpc_fork_call"):  # LLVM's or Intel's, which send all to sleep
        return None
    return getattr(loaded, "omp_pause_resource_all", None)


@cache
def _loaded() -> ctypes.CDLL | None:
    """Return what finds the calls of torch's OpenMP; None where nothing does (Windows).

    Those that all of the process knows are torch's too, be they of a library that was loaded
    before. Where none are (torch for Linux on ARM), torch's own library leads to them.
    """
    try:
        everything = ctypes.CDLL(None)
    except TypeError:
        return None
    if hasattr(everything, "GOMP_parallel"):
        return everything
    return library() or everything


@cache
def library() -> ctypes.CDLL | None:
    """Return torch's own library for the CPU, and what it needs; None if it is not found."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*")):
        with suppress(OSError):
            return ctypes.CDLL(str(path))
    return None


@cache
def _alone(function: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)


@cache
def _together() -> Any:
    parallel = getattr(_loaded(), "GOMP_parallel", None)
    if parallel is not None:
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
    return parallel
