"""The compiled attention gives what torch's gives, in every shape, dtype and division of work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st

from hogwild_agents.bench import scene as scene_module
from hogwild_agents.bench.kernel import BOUNDS
from hogwild_agents.bench.scene import Case, Scene
from hogwild_agents.engine import Engine, Feed, compiled, pool
from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.attention import TickAttention
from hogwild_agents.engine.schedule import Tuning
from hogwild_agents.errors import TickError
from tests.engine.cases import drawn_cases
from tests.engine.families import EVERY, VOCAB

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")
CPU = torch.device("cpu")
tunings = st.builds(
    Tuning,
    kernel=st.just("cpu"),
    programs=st.integers(1, 5),
    grain=st.sampled_from([1, 4, 64]),
    rows=st.sampled_from([16, 32, 128]),
)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def attended(scene: Scene, tuning: Tuning) -> torch.Tensor:
    """What the kernel makes of a scene's first layer."""
    from hogwild_agents.engine.cpu_tick import CpuTick

    schedule = scene.plan(tuning).schedule
    assert schedule is not None
    tick = CpuTick(schedule, scene.adapter, CPU)
    sinks = scene.adapter.layers[0].sinks
    return tick.attend(0, scene.query[0], scene.key[0], scene.value[0], scene.scale, sinks)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected).abs().max() / expected.abs().max())


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    case=drawn_cases([8, 12, 16, 20, 32, 48], [8, 18, 32, 144]),
    tuning=tunings,
    slab=st.sampled_from([5, 4096]),
    threads=st.integers(1, 3),
)
@example(  # far more queries than are multiplied at a time; some see a part of a tile only
    case=Case(heads=14, kv_heads=2, workers=5, shared=70, own=9, fed=(17, 1, 40)),
    tuning=Tuning(kernel="cpu", programs=2),
    slab=4096,
    threads=2,
)
@example(  # scores of which only the cap keeps the exponentials finite
    case=Case(softcap=30.0, workers=2, shared=100, own=3, sinks=True, dtype=torch.bfloat16),
    tuning=Tuning(kernel="cpu", programs=1),
    slab=4096,
    threads=1,
)
def test_attention_equals_that_of_torch(
    case: Case, tuning: Tuning, slab: int, threads: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "first_slab", lambda shapes: slab)
        torch.set_num_threads(threads)
        scene = Scene(case, CPU)
        found = attended(scene, tuning)
        assert found.dtype == case.dtype
        assert error(found, scene.precise().by_torch()) <= BOUNDS[case.dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_keys_and_values_are_stored_as_they_came(dtype: torch.dtype) -> None:
    case = Case(dtype=dtype, workers=2, fed=(1, 3), key_dim=20, value_dim=11, turning=8)
    mine, theirs = Scene(case, CPU), Scene(case, CPU)
    attended(mine, Tuning(kernel="cpu", programs=2))
    theirs.by_torch()
    for one, other in zip(mine.blocks, theirs.blocks, strict=True):
        for run, same in zip(one._runs, other._runs, strict=True):
            for states, expected in (
                (run.slab.keys[0], same.slab.keys[0]),
                (run.slab.values[0], same.slab.values[0]),
            ):
                span = slice(run.start, run.stop)
                assert torch.equal(states[:, span], expected[:, span])


def test_queries_in_another_dtype_than_the_cache_are_read_as_what_they_are() -> None:
    scene = Scene(Case(dtype=torch.bfloat16, workers=3, shared=50, own=10), CPU)
    tuning = Tuning(kernel="cpu", programs=1)
    expected = attended(scene, tuning)
    scene.query, scene.key = scene.query.float(), scene.key.double()
    found = attended(scene, tuning)
    assert found.dtype == torch.float32
    assert torch.equal(found.bfloat16(), expected)


def test_layers_that_share_tables_but_not_sizes_have_room_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hogwild_agents.engine.cpu_tick import CpuTick

    small, large = (Scene(Case(heads=2 * n, kv_heads=n), CPU) for n in (1, 4))
    layers = Adapter(small.adapter.layers + large.adapter.layers)
    monkeypatch.setattr(scene_module, "Adapter", lambda given: layers)
    mixed = Scene(small.case, CPU)
    schedule = mixed.plan(Tuning(kernel="cpu", programs=1)).schedule
    assert schedule is not None
    assert schedule.kinds[0] == schedule.kinds[1]
    tick, by_torch = CpuTick(schedule, layers, CPU), TickAttention(mixed.plan(None), layers)
    for index, scene in enumerate((small, large)):
        query, key, value = scene.query, scene.key, scene.value
        found = tick.attend(index, query[0], key[0], value[0], scene.scale)
        layer: Any = SimpleNamespace(layer_idx=index)
        expected = by_torch.attend(layer, query, key, value, scene.scale, {})[0]
        assert error(found, expected) <= BOUNDS[torch.float32]
    sizes = sorted(len(lses) for _, lses in tick._rooms.values())
    assert sizes[1] == 4 * sizes[0]


def test_tensors_that_may_have_no_memory_are_refused() -> None:
    scene = Scene(Case(), CPU)
    scene.key = torch.nn.Parameter(scene.key)[0].as_subclass(Own)[None]
    with pytest.raises(TickError, match="given a Own: make the engine with kernels=False"):
        attended(scene, Tuning(kernel="cpu", programs=1))


class Own(torch.Tensor):
    """Tensors of somebody's own."""


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0, 30.0, 300.0])
def test_large_scores_overflow_nowhere(scale: float) -> None:
    scene = Scene(Case(workers=3, shared=200, own=10), CPU)
    scene.query *= scale
    found = attended(scene, Tuning(kernel="cpu", programs=1))
    assert error(found, scene.by_torch()) <= 1e-4


def test_a_nan_is_not_lost() -> None:
    scene = Scene(Case(workers=2, shared=50, own=10), CPU)
    scene.query[0, 0, 0, 0] = math.nan  # the first token's first head
    found = attended(scene, Tuning(kernel="cpu", programs=1))
    assert found[0, 0].isnan().all()
    assert not found[0, 1:].isnan().any()
    assert not found[1:].isnan().any()


def test_a_nan_in_a_query_ends_the_tick_before_blocks_grow() -> None:
    model = EVERY["llama"].build()
    with Engine(model) as engine:
        block = engine.block()
        engine.forward([Feed(block, [block], [3, 4])])
        with torch.no_grad():
            model.model.layers[0].self_attn.q_proj.weight[0, 0] = math.nan
        with pytest.raises(TickError, match="NaN"):
            engine.forward([Feed(block, [block], [5])])
        assert len(block) == 2


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt-oss", "mistral", "glm"])
def test_torch_gives_the_same_logits_where_kernels_are_switched_off(family: str) -> None:
    tokens = [number % VOCAB for number in range(3, 60)]
    found: list[torch.Tensor] = []
    for kernels in (None, False):
        with Engine(EVERY[family].build(), kernels=kernels, **EVERY[family].engine) as engine:
            one, two = engine.block(), engine.block()
            engine.forward([Feed(one, [one], tokens)])
            engine.forward([Feed(two, [one, two], tokens[:5]), Feed(one, [two, one], [7])])
            found.append(engine.forward([Feed(two, [one, two], [9]), Feed(one, [two, one], [8])]))
    own, by_torch = found
    assert torch.allclose(own, by_torch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["exp", "tanh"])
def test_functions_are_exact_to_some_last_places(name: str) -> None:
    from numba import njit, types

    from hogwild_agents.engine import vectors

    function = getattr(vectors, name)
    load, store, pointer = vectors.load, vectors.store, vectors.pointer

    @njit  # type: ignore[untyped-decorator]
    def run(source: int, target: int, count: int) -> None:
        numbers, results = pointer(source, types.float32), pointer(target, types.float32)
        for at in range(0, count, vectors.WIDTH):
            store(results, at, function(load(numbers, at)))

    span = (-87, 88) if name == "exp" else (-12, 12)
    numbers = numpy.linspace(*span, 16 * 4000, dtype=numpy.float32)
    results = numpy.empty_like(numbers)
    run(numbers.ctypes.data, results.ctypes.data, len(numbers))
    exact = getattr(numpy, name)(numbers.astype(numpy.float64))
    assert (abs(results - exact) <= 4e-7 * abs(exact)).all()


def test_exponentials_of_nothing_are_0_and_of_nan_are_nan() -> None:
    from numba import njit, types

    from hogwild_agents.engine import vectors

    exp, load, store, pointer = vectors.exp, vectors.load, vectors.store, vectors.pointer

    @njit  # type: ignore[untyped-decorator]
    def run(source: int, target: int) -> None:
        store(pointer(target, types.float32), 0, exp(load(pointer(source, types.float32), 0)))

    numbers = numpy.zeros(16, numpy.float32)
    numbers[:4] = -math.inf, -100, math.nan, -3e38
    results = numpy.empty_like(numbers)
    run(numbers.ctypes.data, results.ctypes.data)
    assert results[[0, 1, 3, 4]].tolist() == [0, 0, 0, 1]
    assert math.isnan(results[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_torch_makes_without_being_told_a_dtype_does_not_matter(dtype: torch.dtype) -> None:
    model = EVERY["llama"].build()
    found = []
    for default in (torch.float32, dtype):
        before = torch.get_default_dtype()
        torch.set_default_dtype(default)
        try:
            with Engine(model) as engine:
                assert {"attention", "norms", "gates"} <= {*engine.kernels}
                block = engine.block()
                for token in range(3, 15):
                    logits = engine.forward([Feed(block, [block], (token,))])
                assert engine.replayed
        finally:
            torch.set_default_dtype(before)
        found.append(logits)
    assert torch.equal(*found)
