"""Checks of the kernel that run where Triton interprets; see ``test_kernel.py``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode

from hogwild_agents.bench.kernel import BOUNDS, Launches, main
from hogwild_agents.bench.scene import Case, Scene
from hogwild_agents.engine import Engine, engine as engine_module, gates, graphs, norms, pool
from hogwild_agents.engine.agreement import same
from hogwild_agents.engine.schedule import Tuning
from hogwild_agents.engine.tape import Recorder
from tests.engine.cases import drawn_cases
from tests.engine.families import EVERY
from tests.engine.schedules import Tokens
from tests.engine.test_gates import KINDS, mlp
from tests.engine.test_norms import FORMS, norm_of
from tests.engine.twin import Entry, Twin, Write, oracle_of

CPU = torch.device("cpu")
SMALL = Tuning(programs=3, grain=4, rows=16, fast_bytes=4096)
EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@contextmanager
def by_triton() -> Iterator[pytest.MonkeyPatch]:
    """Let everything on the CPU be computed as on a GPU, where there are kernels for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "tuning_of", lambda shape: SMALL)
        for module in (norms, gates):
            patch.setattr(module, "kernels_for", lambda states: "gpu")
        patch.setattr(norms, "kernels_on", lambda device: "gpu")
        yield patch


def follow_the_oracle(family: str) -> tuple[float, tuple[str, ...]]:
    """Run some ticks of a family by the kernels; return the largest difference, and which they are.

    Feeds of one and of several tokens, slices, steps that end, and a cache of many small slabs.
    """
    tokens = Tokens(5)
    with by_triton() as patch:
        patch.setattr(pool, "first_slab", lambda shapes: 6)
        engine = Engine(EVERY[family].build(), verify=False, **EVERY[family].engine)
        with engine, Twin(engine, oracle_of(family)) as twin:
            prompt, one, two = (twin.block() for _ in range(3))
            twin.tick(Write(prompt, [Entry(prompt)], tokens(9)))
            twin.tick(
                Write(one, [Entry(prompt), Entry(two), Entry(one)], tokens(1)),
                Write(two, [Entry(prompt), Entry(one), Entry(two)], tokens(3)),
            )
            twin.move(one, prompt)
            twin.tick(
                Write(one, [Entry(prompt, 2), Entry(two), Entry(one)], tokens(1)),
                Write(two, [Entry(prompt), Entry(one), Entry(two)], tokens(1)),
            )
            return twin.worst, engine.kernels


class Noted:
    """A kernel whose launches a tape hears of, as a CUDA graph would."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        """Return what launches the kernel."""
        return partial(self._launch, grid)

    def _launch(self, grid: Any, *args: Any, **options: Any) -> None:
        kernel, names = self._kernel[grid], tuple(options)

        def make(room: Any, *given: Any) -> Callable[[], object]:
            named = zip(names, given[len(args) :], strict=True)
            return partial(kernel, *given[: len(args)], **dict(named))

        mode = _get_current_dispatch_mode()
        if isinstance(mode, Recorder):
            mode.call(make, (*args, *options.values()))
        with _disable_current_modes():
            kernel(*args, **options)


def replay_growing_contexts(family: str, step: int = 1) -> int:
    """Let an engine record its ticks by the kernel, and compare; return how many were replayed.

    Args:
        family: of the model.
        step: ticks are filled up to a multiple of it.
    """
    from hogwild_agents.engine import gpu_attention, gpu_rows  # imports triton

    tokens, replayed = Tokens(5), 0
    with by_triton() as patch:
        for name in ("hogwild_store", "hogwild_attend", "hogwild_merge"):
            patch.setattr(gpu_attention, name, Noted(getattr(gpu_attention, name)))
        for name in ("hogwild_norm", "hogwild_gate"):
            patch.setattr(gpu_rows, name, Noted(getattr(gpu_rows, name)))
        patch.setattr(engine_module, "obstacle", lambda *args: None)
        patch.setattr(graphs, "AFTER", 1)
        patch.setattr(graphs, "_EXACT", 0)
        patch.setattr(graphs, "_STEP", step)
        engine = Engine(EVERY[family].build(), verify=False, **EVERY[family].engine)
        with engine, Twin(engine, oracle_of(family)) as twin:
            twin.logits = "last"
            prompt, one, two = (twin.block() for _ in range(3))
            twin.tick(Write(prompt, [Entry(prompt)], tokens(9)))
            for _ in range(6):
                replayed += engine.graphs > 0
                twin.tick(
                    Write(one, [Entry(prompt), Entry(two), Entry(one)], tokens(1)),
                    Write(two, [Entry(prompt), Entry(one), Entry(two)], tokens(1)),
                )
            assert engine._graphs is not None
            assert engine._graphs.failure is None
            return replayed


DRAWN_TUNINGS = st.builds(
    Tuning,
    programs=st.integers(1, 5),
    grain=st.sampled_from([1, 4, 16]),
    rows=st.sampled_from([16, 32]),
    fast_bytes=st.sampled_from([1024, 16384]),
)


def equal_torch() -> None:
    """The kernel's results are those of torch in float32, as far as the dtype allows."""
    _equals_torch()


@EXAMPLES
@given(
    case=drawn_cases([8, 16, 20, 24], [8, 18]),
    tuning=DRAWN_TUNINGS,
    slab=st.sampled_from([5, 4096]),
)
def _equals_torch(case: Case, tuning: Tuning, slab: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "first_slab", lambda shapes: slab)
        scene = Scene(case, CPU)
        found = Launches(scene, tuning).run()
        expected = scene.precise().by_torch()
    assert found.dtype == case.dtype
    assert found.shape == expected.shape
    assert (found.float() - expected).abs().max() <= BOUNDS[case.dtype] * expected.abs().max()


def norm_as_models_do() -> None:
    """The norms are those of the models, in all forms and dtypes, to the last rounding."""
    _norms_as_models_do()


@EXAMPLES
@given(
    form=st.sampled_from(sorted(FORMS)),
    dtype=st.sampled_from(sorted(BOUNDS, key=str)),
    shape=st.sampled_from([(1, 1), (2, 3), (3, 40)]),
    count=st.sampled_from([16, 36, 128, 896, 3000]),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
)
def _norms_as_models_do(
    form: str, dtype: torch.dtype, shape: tuple[int, ...], count: int, size: float
) -> None:
    torch.manual_seed(count)
    module = norm_of(form, count, dtype)
    states = (size * torch.randn(*shape, count)).to(dtype)
    apart = torch.randn(*shape, count + 1).to(dtype)[..., 1:]
    with by_triton(), torch.no_grad():
        plain = [module(given) for given in (states, apart)]
        found = norms.find_norms(module)
        assert set(found) == {module}
        own = [found[module](given) for given in (states, apart)]
        alone = found[module](states[:1, :1])
    assert torch.equal(alone, own[0][:1, :1])
    for one, other in zip(own, plain, strict=True):
        assert (one.dtype, one.shape) == (dtype, other.shape)
        assert same(one, other, most=0.01 + 2 / other.numel())


def gate_as_models_do() -> None:
    """What gates let through is what the models' do, however the products lie."""
    _gates_as_models_do()


@EXAMPLES
@given(
    kind=st.sampled_from(sorted(KINDS)),
    dtype=st.sampled_from(sorted(BOUNDS, key=str)),
    rows=st.sampled_from([1, 5, 40]),
    width=st.sampled_from([16, 36, 1024, 1500]),
)
def _gates_as_models_do(kind: str, dtype: torch.dtype, rows: int, width: int) -> None:
    torch.manual_seed(width)
    module, states = mlp(kind, width).to(dtype), (3 * torch.randn(2, rows, 32)).to(dtype)
    with by_triton(), torch.no_grad():
        plain = module(states)
        found = gates.find_gates(module)
        assert set(found) == {module}
        own = found[module](states)
    assert (own.dtype, own.shape) == (dtype, plain.shape)
    assert (own - plain).norm() <= 3 * torch.finfo(dtype).eps * plain.norm()


def serve_growing_contexts() -> int:
    """Launch one tick's work again and again while blocks grow; return how far they grew."""
    scene = Scene(Case(workers=2, shared=30, own=5), CPU)
    launches = Launches(scene, Tuning(programs=4, grain=4, rows=16))
    for ticks in range(1, 10):
        scene.next_tick()
        schedule = scene.plan(Tuning(programs=4, grain=4, rows=16)).schedule
        assert schedule is not None
        if not launches.refill(schedule):
            return ticks
        difference = (launches.run() - scene.precise().by_torch()).abs().max()
        assert difference <= 1e-5
    return ticks


def spoil(case: Case) -> list[float]:
    """Return how far the kernel is from torch when the tables name a wrong slot, angle or row."""
    found: list[float] = []
    for column, change in ((0, 0), (1, 1), (2, 3), (3, -3)):  # the other of two tokens, ...
        scene = Scene(case, CPU)
        launches = Launches(scene, SMALL)
        schedule: Any = launches.schedule
        (layout,) = schedule.layouts.values()
        rows = schedule.table[slice(*layout.rows)].view(-1, 4)
        rows[1, column] = 1 - rows[1, 0] if column == 0 else rows[1, column] + change
        assert launches.refill(schedule)
        found.append(float((launches.run() - scene.precise().by_torch()).abs().max()))
    return found


def try_the_device() -> None:
    """Run the first kernel that runs on a GPU, before its triton is relied on."""
    from hogwild_agents.engine.gpu_rows import try_out

    try_out(CPU)


def setting() -> str | None:
    """Return what decides whether Triton interprets."""
    return os.environ.get("TRITON_INTERPRET")


def run_the_command(*arguments: str) -> int:
    """Return the exit code of the command that checks the kernel."""
    return main(arguments)
