"""Tape: work on the CPU, recorded as torch's operators and compiled jobs, to be done again.

Half of a small tick is Python: of transformers' modules, and of torch's own. A tape keeps what is
computed and leaves out the rest: where everything lies is known, so views need not be made again,
nor memory be asked for. All results lie in one piece of memory, where those that nobody needs any
more make room for others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hogwild_agents.engine import compiled, threads
from hogwild_agents.engine.blas import multiplied
from hogwild_agents.engine.elementwise import Call, joined

_LINE = 64
"""Results begin at multiples of so many bytes, as torch's own memory does."""
_aten = torch.ops.aten
_MEMORY = frozenset(
    ("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty",
     "aten::new_empty_strided", "aten::empty_permuted")
)  # fmt: skip
"""Operators that only ask for memory."""
_COPIES = frozenset(("aten::_to_copy", "aten::clone"))
"""Operators that only copy their first argument."""
_MOVED = frozenset(("aten::set_", "aten::resize_", "aten::resize_as_"))
"""Operators after which a tensor lies elsewhere."""
_SPLIT = (
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
)
"""Of operators whose results are other ones, or of another shape, when they are run again."""
_LOOKS = frozenset(
    (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.tensor_split,
     torch.tensor_split)
)  # fmt: skip
"""What looks at numbers without any operator's being run."""
_DIRECT: dict[Any, Callable[..., Any]] = {
    _aten.add.Tensor: torch.add,
    _aten.cat.default: torch.cat,
    _aten.div.Tensor: torch.div,
    _aten.mean.dim: torch.mean,
    _aten.mul.Tensor: torch.mul,
    _aten.neg.default: torch.neg,
    _aten.pow.Tensor_Scalar: torch.pow,
    _aten.rsqrt.default: torch.rsqrt,
    _aten.sub.Tensor: torch.sub,
}
"""Frequent operators by torch's own functions, which are called in half the time."""


class NotRecordableError(Exception):
    """Work that would not be the same when it is done again."""


@dataclass(eq=False, slots=True)
class _Step:
    """One operator or one job.

    Attributes:
        function: the operator, or what makes a call of a job's arguments.
        args, options: what it was given.
        results: what it returned; nothing for a job.
    """

    function: Any
    args: Sequence[Any]
    options: dict[str, Any]
    results: list[Tensor]


class Tape:
    """What was done while something was computed.

    Args:
        work: computes a tensor on the CPU; called once. What it reads besides, it finds in the
            same places when it is done again.
        lasting: what the work may change besides what it makes, such as buffers of a model.
        arena: memory that it may share with tapes which are never played at the same time.

    Attributes:
        result: what it computed, after :meth:`replay`.
        bytes: of the memory that it needs.

    Raises:
        NotRecordableError: it looks at numbers, draws some, or changes what it did not make.
    """

    def __init__(
        self,
        work: Callable[[], Tensor],
        lasting: Iterable[Tensor] = (),
        arena: Arena | None = None,
    ) -> None:
        recorder = Recorder()
        with torch.no_grad(), _Blind(), recorder, threads.noting(recorder.job):
            result = work()
        memory = _Memory(recorder.steps, result, lasting, recorder.room, arena or Arena())
        self.bytes = memory.bytes
        calls = [
            call
            for number, step in enumerate(recorder.steps)
            for call in _calls(number, step, memory)
        ]
        self._calls = joined(multiplied(calls))
        self._replayed = _in_rows(self._calls)
        self.result: Tensor = memory.placed(result)

    def replay(self) -> None:
        """Do it again."""
        with torch.no_grad():
            for function, args, options in self._replayed:
                function(*args, **options)

    def profile(self) -> list[tuple[Callable[..., object], float]]:
        """Do it again with a clock: of each call, what was called and how many seconds it took."""
        spent = []
        with torch.no_grad():
            for function, args, options in self._calls:
                start = time.perf_counter()
                function(*args, **options)
                spent.append((function, time.perf_counter() - start))
        return spent


def _in_rows(calls: Sequence[Call]) -> list[Call]:
    """Return the same calls, jobs in a row as one."""
    result: list[Call] = []
    for _, row in groupby(calls, lambda call: isinstance(call[0], threads.Job)):
        some = list(row)
        jobs = [function for function, *_ in some if isinstance(function, threads.Job)]
        if len(jobs) > 1 and threads.meet():
            some = [(threads.Jobs(compiled.jobs().address, jobs), (), {})]
        result += some
    return result


class Arena:
    """Memory for the results of tapes, of which only one is played at a time."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8, device="cpu")

    def take(self, count: int) -> Tensor:
        """Return so many bytes, that whoever takes some later may use as well."""
        if count > len(self._memory):
            whole = 1 << (count - 1).bit_length()
            self._memory = torch.empty(whole, dtype=torch.uint8, device="cpu")
        return self._memory[:count]


class _Blind(TorchFunctionMode):
    """Lets nobody look at numbers unseen, which might decide what is computed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, unless it looks."""
        if func in _LOOKS:
            raise NotRecordableError(f"{func.__name__} looks at numbers on the way")
        return func(*args, **(kwargs or {}))


class Recorder(TorchDispatchMode):
    """Notes what is computed while it is in force.

    Attributes:
        steps: what was done.
        room: bytes that the jobs need for their threads, one after another.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[_Step] = []
        self.room = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and note it."""
        options = kwargs or {}
        result = func(*args, **options)
        self.steps.append(_Step(func, args, options, _results(func, args, result)))
        return result

    def job(self, function: int, place: int, numbers: threads.Numbers, alone: bool) -> None:
        """Note a job that is about to be run."""
        self.room = max(self.room, threads.room_for(place))

        def make(room: Tensor, *numbers: int | Tensor) -> Callable[[], None]:
            return threads.Job(function, place, numbers, room, alone=alone)

        self.call(make, numbers)

    def call(self, make: Callable[..., Callable[[], object]], args: Sequence[Any]) -> None:
        """Note a call that torch does not see.

        Args:
            make: returns the call, given the jobs' room and ``args`` with tensors in new places.
            args: what it reads and writes.
        """
        self.steps.append(_Step(make, args, {}, []))


class _Memory:
    """One piece of memory for all results of some steps.

    Args:
        steps: what was done; their results are all alive.
        result: needed after the last step.
        lasting: what was there before and may be changed.
        room: bytes that jobs need besides.
        arena: where to find it all.

    Attributes:
        bytes: how much that is.
        room: those bytes.
    """

    def __init__(
        self,
        steps: Sequence[_Step],
        result: Tensor,
        lasting: Iterable[Tensor],
        room: int,
        arena: Arena,
    ) -> None:
        self._spans = _spans(steps)
        self._changeable = {*self._spans, *map(_storage, lasting)}
        if _storage(result) in self._spans:
            self._spans[_storage(result)].last = len(steps)
        size = _whole(_arrange(list(self._spans.values())))
        self.bytes = size + room
        self._memory = arena.take(self.bytes)
        self._memory.fill_(0xFF)  # so what is read before it was computed is a NaN
        self.room = self._memory[size:]
        self._placed: dict[int, Tensor] = {}

    def changeable(self, tensor: Tensor) -> bool:
        """Whether a tensor may be changed."""
        return _storage(tensor) in self._changeable

    def begins(self, tensor: Tensor, step: int) -> bool:
        """Whether this step asked for the memory that a tensor lies in."""
        span = self._spans.get(_storage(tensor))
        return span is not None and span.first == step

    def placed(self, value: Any) -> Any:
        """Return a value with its tensors in their new places."""
        if isinstance(value, Tensor):
            return self._place(value)
        if isinstance(value, list | tuple):
            return type(value)(map(self.placed, value))
        return value

    def _place(self, tensor: Tensor) -> Tensor:
        span = self._spans.get(_storage(tensor))
        if span is None:
            return tensor
        if id(tensor) not in self._placed:
            size = tensor.dtype.itemsize
            start = span.start // size + tensor.storage_offset()
            self._placed[id(tensor)] = torch.empty(0, dtype=tensor.dtype, device="cpu").set_(
                self._memory.untyped_storage(), start, tensor.shape, tensor.stride()
            )
        return self._placed[id(tensor)]


@dataclass(eq=False, slots=True)
class _Span:
    """Memory that is needed from one step to another.

    Attributes:
        first, last: the steps.
        bytes: how much.
        start: where it lies.
    """

    first: int
    last: int
    bytes: int
    start: int = 0


def _spans(steps: Sequence[_Step]) -> dict[int, _Span]:
    """Return what memory the steps asked for, by the address of the storage."""
    found: dict[int, _Span] = {}
    others: set[int] = set()
    for number, step in enumerate(steps):
        for tensor in (*_tensors(step.args), *_tensors(step.options)):
            place = _storage(tensor)
            if place in found:
                found[place].last = number
            else:
                others.add(place)
        for tensor in step.results:
            place = _storage(tensor)
            if place in found:
                found[place].last = number
            elif place and place not in others:
                found[place] = _Span(number, number, tensor.untyped_storage().nbytes())
    return found


def _arrange(spans: Sequence[_Span]) -> int:
    """Lay out memory so that nothing overlaps while both are needed; return how much it takes.

    Each goes into the first gap, in the order in which they are needed.
    """
    used: list[_Span] = []  # by where they start
    total = 0
    for span in spans:
        used = [other for other in used if other.last >= span.first]
        at = 0
        place = len(used)
        for index, other in enumerate(used):
            if other.start - at >= span.bytes:
                place = index
                break
            at = other.start + _whole(other.bytes)
        span.start = at
        used.insert(place, span)
        total = max(total, at + span.bytes)
    return total


def _whole(count: int) -> int:
    """Return the bytes of the lines that so many bytes take."""
    return -(-count // _LINE) * _LINE


def _calls(number: int, step: _Step, memory: _Memory) -> Iterator[Call]:
    """Yield what does a step again."""
    function, args, options = step.function, tuple(step.args), step.options
    if not isinstance(function, torch._ops.OpOverload):
        yield function(memory.room, *memory.placed(args)), (), {}
        return
    name = function._schema.name
    placed = memory.placed(args), {key: memory.placed(value) for key, value in options.items()}
    if function._schema.is_mutable:
        if name in _MOVED or not all(map(memory.changeable, _written(function, args, options))):
            raise NotRecordableError(f"{name} changes what was there before")
        yield function, *placed
        return
    fresh = [tensor for tensor in step.results if memory.begins(tensor, number)]
    if not fresh or name in _MEMORY:
        return
    (result, *others) = memory.placed(fresh)
    if name in _COPIES:
        yield Tensor.copy_, (result, placed[0][0]), {}
    elif not others and len(step.results) == 1 and (into := _into(function)) is not None:
        yield into, placed[0], {**placed[1], "out": result}
    else:
        kept = [memory.begins(tensor, number) for tensor in step.results]
        targets = memory.placed(step.results)
        yield _copied, (function, *placed, kept, targets), {}


def _copied(
    function: Any, args: Any, options: Any, kept: Sequence[bool], targets: Sequence[Tensor]
) -> None:
    """Run an operator that has no other way, and copy its results to their places."""
    results = _leaves(function(*args, **options))
    for result, keep, target in zip(results, kept, targets, strict=True):
        if keep:
            target.copy_(result)


@cache
def _into(function: Any) -> Callable[..., Any] | None:
    """Return what computes an operator into memory that is there, if anything does."""
    if function in _DIRECT:
        return _DIRECT[function]
    wanted = [(one.name, str(one.type)) for one in function._schema.arguments]
    packet = function.overloadpacket
    for name in packet.overloads():
        other = getattr(packet, name)
        given = [(one.name, str(one.type)) for one in other._schema.arguments]
        if given[-1:] == [("out", "Tensor")] and given[:-1] == wanted:
            variant: Callable[..., Any] = other
            return variant
    return None


def _results(function: Any, args: Any, result: Any) -> list[Tensor]:
    """Return the tensors that an operator returned.

    Raises:
        NotRecordableError: it cannot be run again, or not here.
    """
    tags = [tag for tag in _SPLIT if tag in function.tags]
    if function is _aten.index.Tensor and not any(
        one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]
    ):
        tags = []  # only masks find another number of entries
    found = _leaves(result)
    plain = all(type(one) in (Tensor, nn.Parameter) and _is_plain(one) for one in found)
    if tags or not plain:
        raise NotRecordableError(f"{function._schema.name} is not the same when it is run again")
    return found


def _is_plain(tensor: Tensor) -> bool:
    bent = tensor.is_conj() or tensor.is_neg()
    return tensor.is_cpu and tensor.layout == torch.strided and not bent


def _written(function: Any, args: Sequence[Any], options: dict[str, Any]) -> Iterator[Tensor]:
    """Yield the arguments that an operator changes."""
    for index, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else options.get(argument.name)
            yield from _tensors(value)


def _leaves(value: Any) -> list[Any]:
    """Return what an operator returned, one by one."""
    if isinstance(value, list | tuple):
        return [leaf for one in value for leaf in _leaves(one)]
    return [] if value is None else [value]


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of an argument."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _storage(tensor: Tensor) -> int:
    """Return what tells a tensor's memory from others', while it is alive; 0 if it has none."""
    return tensor.untyped_storage().data_ptr()
