"""Graphs: the forwards of one engine's ticks, recorded, and replayed for ticks that are alike.

Ticks are alike whose tables have the same shape (see :class:`Schedule`): as many tokens, and
contexts that fill sections of the same sizes. A tick takes over what stands in the places that the
recorded one read: token ids, positions, tables and angles. So one recording serves while contexts
grow, and nothing of a replay depends on what the recorded tick was about. That is not taken for
granted: what is recorded has to give the logits of a plain forward, for the tick that was recorded
and for a later one, before it is relied on.

Ticks of many feeds are filled up to a few sizes, so that there are some that are alike; recorded
or not, since products may round a row otherwise among another number of rows.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Protocol, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor

from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.attention import TickAttention
from hogwild_agents.engine.compiled import KernelWarning
from hogwild_agents.engine.loan import Loan
from hogwild_agents.engine.plan import Plan
from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.probe import probe_error
from hogwild_agents.engine.schedule import Tuning
from hogwild_agents.engine.snapshot import Snapshot

AFTER = 3
"""A forward is recorded when so many ticks were alike: a recording takes as long as some ticks."""
_RECENT = 32
"""Ticks of so many shapes are counted; those that did not come for longest are forgotten."""
_KEPT = 64
"""So many recordings at most; those that were not used for longest go."""
_EXACT, _STEP, _MOST = 64, 16, 320
"""Ticks of so many tokens are recorded as they are; larger ones are filled up to a multiple of a
step, since no two would be alike; of the largest the forward is more than Python and launches."""
_FEEDS = 64
"""Their feeds, whose logits are wanted, are filled up to a multiple of this, or to all tokens."""
_PROOFS = 2
"""So many ticks are computed both ways before a recording is relied on."""
SETTLED = AFTER + _PROOFS
"""After so many ticks that are alike the next one is replayed."""
_BOUNDS = {torch.float16: 1e-2, torch.bfloat16: 1e-2}
"""The largest error of a recording, relative to the spread of the logits; 1e-4 for others."""


class Graph(Protocol):
    """Work that was recorded.

    Attributes:
        result: what it computed, after :meth:`replay`.
    """

    @property
    def result(self) -> Tensor: ...

    def replay(self) -> None:
        """Do it again."""
        ...


Record: TypeAlias = Callable[[Callable[[], Tensor]], Graph]
"""Records some work; raises if that cannot be done."""


class Graphs:
    """The recordings of one engine.

    Args:
        loan: the model.
        adapter: its layers, which are all left to kernels.
        record: records the work of a device.
        hooks: the ids of hooks of the engine's own on the model.

    Attributes:
        failure: why nothing is recorded any more, or None.
        last: what the last tick was replayed from; None if it was not.
    """

    def __init__(
        self, loan: Loan, adapter: Adapter, record: Record, hooks: Collection[int] = ()
    ) -> None:
        self._loan, self._adapter, self._record, self._hooks = loan, adapter, record, hooks
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._kept: OrderedDict[Hashable, _Recording] = OrderedDict()
        self._model: Snapshot | None = None
        self.failure: str | None = None
        self.last: Graph | None = None

    def fill(self, tokens: int, feeds: int) -> tuple[int, int] | None:
        """Return up to how many tokens and feeds a tick of so many is filled up; None if it isn't.

        It is not where the model has hooks, which see all tokens, and nothing is recorded.
        """
        if tokens <= _EXACT or self.failure or not _is_frequent(tokens, feeds):
            return None
        self._is_unchanged()
        if self._model is None or not self._model.plain:
            return None
        full = -(-tokens // _STEP) * _STEP
        return full, min(full, -(-feeds // _FEEDS) * _FEEDS)

    @property
    def count(self) -> int:
        """How many recordings there are that are relied on."""
        return sum(not recording.proofs for recording in self._kept.values())

    def replay(self, plan: Plan) -> Tensor | None:
        """Return the logits of a tick by a recording; None if there is none to rely on.

        Args:
            plan: of the tick.

        Returns:
            [feeds, vocab] float32, in memory of its own.
        """
        self.last = None
        recording = self._kept.get(_shape(plan)) if self._fits(plan) else None
        if recording is None or recording.proofs:
            return None
        self._kept.move_to_end(_shape(plan))
        on_host = self._loan.device.type == "cpu"
        # What is recorded reads whatever lies at an address.
        if not (self._is_unchanged() if on_host else self._is_in_place()):
            return None
        recording.run(plan)
        if not on_host and not self._is_unchanged():  # looked at while a GPU computes
            return None
        self.last = recording.graph
        return recording.logits(plan)

    def learn(self, plan: Plan, logits: Tensor) -> bool:
        """Hear what a tick gave that was not replayed: record its like, or prove a recording.

        Args:
            plan: of the tick, which is still the last one that ran.
            logits: [feeds, vocab] float32.

        Returns:
            False if what came of that was wrong: the tick's keys and values may be, too, so that
            the plain forward has to be run again.
        """
        if not self._fits(plan) or not self._is_unchanged():
            return True
        shape = _shape(plan)
        recording = self._kept.get(shape)
        try:
            if recording is None and self._is_due(shape):
                recording = _Recording(self._loan, self._adapter, self._record, plan)
                self._keep(shape, recording)
            if recording is not None:
                self._prove(recording, plan, logits)
        except Exception as error:  # whatever keeps a forward from being recorded; it goes on
            self.clear()
            self.failure = str(error).strip().split("\n")[0] or repr(error)
        return self.failure is None

    def clear(self) -> None:
        """Forget all recordings."""
        self._seen.clear()
        self._kept.clear()
        self._model = self.last = None

    def _fits(self, plan: Plan) -> bool:
        return (
            self.failure is None
            and not plan.readings  # torch attends where it has threads that kernels cannot have
            and _is_frequent(plan.tokens, plan.feeds)
            and not torch.is_autocast_enabled(self._loan.device.type)
            and not torch.is_inference_mode_enabled()  # its tensors cannot be changed outside of it
        )

    def _is_in_place(self) -> bool:
        return self._model is not None and self._model.in_place()

    def _is_unchanged(self) -> bool:
        """Whether the model is what was recorded; if not, all recordings go."""
        if self._model is not None and self._model.holds():
            return self._model.plain
        self.clear()
        self._model = Snapshot(self._loan.model, self._hooks)
        return False

    def _is_due(self, shape: Hashable) -> bool:
        count = self._seen.pop(shape, 0) + 1
        self._seen[shape] = count
        if len(self._seen) > _RECENT:
            self._seen.popitem(last=False)
        return count >= AFTER

    def _keep(self, shape: Hashable, recording: _Recording) -> None:
        self._kept[shape] = recording
        del self._seen[shape]  # what goes has to come again as often
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _prove(self, recording: _Recording, plan: Plan, logits: Tensor) -> None:
        recording.run(plan)
        error = probe_error(recording.logits(plan), logits)
        if not error <= _BOUNDS.get(self._loan.model.dtype, 1e-4):
            warnings.warn(
                f"The recorded forward of a tick gave logits that differ from the plain one's by "
                f"{error:.1e} of their spread, so ticks are not recorded; graphs=False says so "
                "from the start.",
                KernelWarning,
                stacklevel=2,
            )
            raise RuntimeError(f"the recorded logits differ by {error:.1e} of their spread")
        recording.proofs -= 1


class _Recording:
    """The forward of one tick, and the places in which another one is laid.

    Attributes:
        graph: what was recorded.
        proofs: how many ticks it has still to be held against.
    """

    def __init__(self, loan: Loan, adapter: Adapter, record: Record, plan: Plan) -> None:
        self._attention = TickAttention(plan, adapter)
        self._attention.settle()
        self.proofs = _PROOFS

        def work() -> Tensor:
            self._attention.begin()
            return loan.forward(plan.input_ids, plan.position_ids, self._attention, plan.last)

        self.graph = record(work)

    def run(self, plan: Plan) -> None:
        """Compute another tick of the same shape."""
        self._attention.refill(plan)
        self.graph.replay()

    def logits(self, plan: Plan) -> Tensor:
        """Return a copy of what was computed for a tick, [feeds, vocab] float32."""
        return self.graph.result[: plan.feeds].to(torch.float32, copy=True)


def _is_frequent(tokens: int, feeds: int) -> bool:
    """Whether there may be many ticks like one of so many tokens and feeds."""
    return tokens <= _EXACT or tokens <= min(_MOST, 2 * feeds)  # no beginnings of texts


def _shape(plan: Plan) -> Hashable:
    assert plan.schedule is not None
    return plan.schedule.shape, len(plan.last), torch.get_num_threads()


def obstacle(
    loan: Loan, adapter: Adapter, tuning: Callable[[LayerShape], Tuning | None]
) -> str | None:
    """Return why forwards of a model cannot be recorded at all; None if they may be."""
    kernels = {"cuda": "gpu", "cpu": "cpu"}
    own = (tuning(shape) for shape in adapter.shapes)
    if not all(cut and cut.kernel == kernels.get(loan.device.type) for cut in own):
        return "attention is not all computed by the engine's own kernels"
    if loan.compiled_layers and loan.device.type == "cpu":
        return "a recording on a CPU does not see what torch.compile has built"
    if loan.scattered or any(shape.device != loan.device for shape in adapter.shapes):
        return "the model lies on several devices"
    return None


def recorder_of(loan: Loan) -> Record:
    """Return what records the forwards of a model."""
    if loan.device.type == "cpu":
        from hogwild_agents.engine.tape import Arena, Tape

        arena = Arena()  # one for all
        return lambda work: Tape(work, loan.model.buffers(), arena)
    from hogwild_agents.engine.cuda_graph import CudaGraph

    stream = torch.cuda.Stream(loan.device)  # type: ignore[no-untyped-call]
    alive: WeakSet[CudaGraph] = WeakSet()  # with one pool for all: without them it is gone

    def record(work: Callable[[], Tensor]) -> Graph:
        pool = next((graph.pool for graph in alive), None)
        graph = CudaGraph(work, loan.device, pool, stream)
        alive.add(graph)
        return graph

    return record
