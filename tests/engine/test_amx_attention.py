"""Attention by tiles gives what exact arithmetic gives, of whatever lengths and numbers of rows.

Where the processor has no tiles, other kernels are held to the same.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings, strategies as st

from hogwild_agents.bench.scene import Case, Scene
from hogwild_agents.engine import compiled, pool
from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.reach import FULL, Reach
from hogwild_agents.engine.schedule import Tuning

pytestmark = pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")
CPU = torch.device("cpu")
ALONE = Tuning(kernel="cpu", programs=1)
SCALE = 0.1234567
"""No power of two: queries times it have all the digits of float32."""
CASE = Case(heads=14, dtype=torch.bfloat16, turning=0, workers=1)
EXAMPLES = settings(deadline=None, suppress_health_check=list(HealthCheck))


def attended(
    scene: Scene, tuning: Tuning = ALONE, scale: float = SCALE
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what the kernel makes of a scene's first layer, and its partial results in float32.

    Those are [kv_heads, room, group, value_dim], and their log-sum-exps without the last dimension.
    """
    from hogwild_agents.engine.cpu_tick import CpuTick

    schedule = scene.plan(tuning).schedule
    assert schedule is not None
    tick, case = CpuTick(schedule, scene.adapter, CPU), scene.case
    sinks = scene.adapter.layers[0].sinks
    result = tick.attend(0, scene.query[0], scene.key[0], scene.value[0], scale, sinks)
    ((outs, lses),) = tick._rooms.values()
    shape = case.kv_heads, -1, case.heads // case.kv_heads
    return result, outs.view(*shape, outs.shape[-1])[..., : case.value_dim], lses.view(shape)


def exact(scene: Scene, scale: float = SCALE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the attention of a scene of one worker in float64, where nothing turns, and its lse.

    The query is rounded to float32 once it is scaled, as the kernel does. Keys are stored already.
    """
    case = scene.case
    runs = [run for block in scene.blocks for run in block._runs]
    slabs = [(run.slab, slice(run.start, run.stop)) for run in runs]
    keys, values = (
        torch.cat([states[0][:, span].double() for states, span in found], 1)
        for found in (
            [(slab.keys, span) for slab, span in slabs],
            [(slab.values, span) for slab, span in slabs],
        )
    )
    rows, width = case.heads // case.kv_heads, keys.shape[1]
    queries = (scene.query[0].float() * torch.tensor(scale)).double()
    tokens = queries.shape[1]
    scores = torch.einsum("kgtd,knd->ktgn", queries.view(case.kv_heads, rows, tokens, -1), keys)
    if case.softcap:
        scores = torch.tanh(scores / case.softcap) * case.softcap
    last = torch.arange(width - tokens, width)[:, None]  # what each token sees
    slots = torch.arange(width)[None]
    seen = slots <= last
    if case.reach.kind == "sliding":
        seen &= slots > last - case.reach.size
    scores = scores.masked_fill(~seen[None, :, None], -math.inf)
    return scores.softmax(-1) @ values[:, None], scores.logsumexp(-1)


def spoil(scene: Scene, number: float) -> None:
    """Write a number into all slots that nobody has."""
    runs = [run for block in scene.blocks for run in block._runs]
    for slab in {id(run.slab): run.slab for run in runs}.values():
        free = torch.ones(slab.size, dtype=torch.bool)
        for run in runs:
            if run.slab is slab:
                free[run.start : run.stop] = False
        for states in (*slab.keys, *slab.values):
            states[:, free] = number


@pytest.mark.parametrize("dim", [32, 64, 128])
def test_stretches_of_every_length_are_exact_and_what_lies_beyond_is_not_seen(dim: int) -> None:
    for shared in range(1, 131):
        case = replace(CASE, heads=3, kv_heads=1, key_dim=dim, value_dim=dim, shared=shared, own=0)
        scene = Scene(case, CPU)
        spoil(scene, math.nan)
        _, outs, lses = attended(scene)
        both = torch.softmax(torch.stack([lses[:, 0], lses[:, 1]]), 0)  # its own token, and others
        found = (both[0, ..., None] * outs[:, 0] + both[1, ..., None] * outs[:, 1]).double()
        values, lse = exact(scene)
        assert (found - values[:, 0]).abs().max() <= 1.5e-5
        assert (lses[:, :2].logsumexp(1) - lse[:, 0]).abs().max() <= 1e-5


@EXAMPLES
@given(
    rows=st.integers(1, 120),
    group=st.sampled_from([1, 2, 3, 7]),
    shared=st.integers(1, 200),
    dims=st.tuples(st.sampled_from([32, 64, 96, 128, 48]), st.sampled_from([32, 64, 96, 128, 40])),
    reach=st.one_of(st.just(FULL), st.builds(Reach, st.just("sliding"), st.integers(1, 150))),
    softcap=st.sampled_from([None, 5.0]),
    programs=st.integers(1, 3),
)
@example(rows=112, group=7, shared=64, dims=(64, 64), reach=FULL, softcap=None, programs=1)
def test_rows_are_as_exact_as_the_dtype_lets_them_be(
    rows: int,
    group: int,
    shared: int,
    dims: tuple[int, int],
    reach: Reach,
    softcap: float | None,
    programs: int,
) -> None:
    case = replace(
        CASE, heads=2 * group, key_dim=dims[0], value_dim=dims[1], shared=shared, own=0,
        fed=(-(-rows // group),), reach=reach, softcap=softcap,
    )  # fmt: skip
    scene = Scene(case, CPU)
    spoil(scene, math.nan)
    found, _, _ = attended(scene, replace(ALONE, programs=programs, grain=4))
    values, _ = exact(scene)
    expected = values.permute(1, 0, 2, 3).flatten(1, 2)  # [tokens, heads, value_dim]
    rounding = torch.finfo(torch.bfloat16).eps / 2 * expected.abs()
    assert ((found.double() - expected).abs() <= rounding + 2e-5).all()


@EXAMPLES
@given(
    workers=st.integers(1, 5),
    fed=st.sampled_from([(1,), (1, 3), (5, 1, 2)]),
    shared=st.integers(0, 100),
    own=st.integers(0, 40),
    reach=st.one_of(
        st.just(FULL),
        st.builds(Reach, st.sampled_from(["sliding", "chunked"]), st.integers(1, 80)),
    ),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    slab=st.sampled_from([40, 4096]),
    threads=st.integers(1, 2),
)
def test_teams_that_feed_unevenly_get_what_torch_gives_in_float32(
    workers: int,
    fed: tuple[int, ...],
    shared: int,
    own: int,
    reach: Reach,
    softcap: float | None,
    sinks: bool,
    slab: int,
    threads: int,
) -> None:
    case = replace(
        CASE, workers=workers, fed=fed, shared=shared, own=own, reach=reach, softcap=softcap,
        sinks=sinks, turning=64,
    )  # fmt: skip
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "first_slab", lambda shapes: slab)
            scene = Scene(case, CPU)
            spoil(scene, math.nan)
            found, _, _ = attended(scene, replace(ALONE, programs=2, grain=4), scene.scale)
            expected = scene.precise().by_torch()
    finally:
        torch.set_num_threads(before)
    rounding = torch.finfo(torch.bfloat16).eps / 2 * expected.abs()
    assert ((found.float() - expected).abs() <= rounding + 5e-5).all()


@pytest.mark.parametrize("dim", [64, 128])
def test_what_a_row_comes_to_does_not_depend_on_how_many_others_there_are(dim: int) -> None:
    case = replace(CASE, key_dim=dim, value_dim=dim, shared=150, own=0)
    whole = Scene(replace(case, fed=(17,)), CPU)
    _, *expected = attended(whole)  # of their own 17 tokens, and then of the 150 others
    for tokens in range(1, 17):
        scene = Scene(replace(case, fed=(tokens,)), CPU)
        for name in ("query", "key", "value"):
            setattr(scene, name, getattr(whole, name)[:, :, :tokens])
        _, *found = attended(scene)
        first = tokens if tokens > 1 else 0
        for some, all in zip(found, expected, strict=True):
            assert torch.equal(some[:, first : first + tokens], all[:, 17 : 17 + tokens])


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
def test_errors_stay_far_below_those_of_rounding_to_bfloat16(scale: float) -> None:
    """Where one key has all the weight, too, and where all have about the same."""
    scene = Scene(replace(CASE, shared=2000, own=0), CPU)
    _, outs, lses = attended(scene, scale=scale * SCALE)
    both = torch.softmax(lses[:, :2].double(), 1)
    found = (both[..., None] * outs[:, :2].double()).sum(1)
    values, lse = exact(scene, scale * SCALE)
    assert (lses[:, :2].logsumexp(1) - lse[:, 0]).abs().max() <= 1e-6 * lse.abs().max() + 1e-6
    most = 1e-5 if scale <= 1 else 3e-5 * scale  # as far as float32 has digits for the scores
    error = (found - values[:, 0]).norm(dim=-1) / values[:, 0].norm(dim=-1)
    assert error.max() <= most


def test_a_nan_in_a_query_is_its_own_row_s_and_one_in_a_value_all_rows() -> None:
    scene = Scene(replace(CASE, workers=3, shared=70, own=5), CPU)
    scene.query[0, 3, 1, 5] = math.nan  # the second worker's fourth head
    found, _, _ = attended(scene)
    assert found[1, 3].isnan().all()
    found[1, 3] = 0
    assert not found.isnan().any()
    run = scene.blocks[0]._runs[0]
    run.slab.values[0][0, run.start + 40, 9] = math.nan
    found, _, _ = attended(scene)
    assert found[:, :7, 9].isnan().all()
    assert not found[:, 7:, 10:].isnan().any()


def test_nothing_outside_of_a_slab_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    page = mmap.PAGESIZE
    protect = getattr(ctypes.CDLL(None), "mprotect", None)
    if protect is None:
        pytest.skip("no mprotect")
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    kept = []

    def fenced(shape: LayerShape, size: int, dim: int) -> torch.Tensor:
        """Return a tensor between two pages that nobody may read, at the end or the beginning."""
        count = shape.kv_heads * size * dim
        pages = -(-2 * count // page)
        memory = mmap.mmap(-1, (pages + 2) * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for fence in (address, address + (pages + 1) * page):
            assert protect(fence, page, 0) == 0
        kept.append(memory)
        offset = (pages + 1) * page - 2 * count
        flat = torch.frombuffer(memory, dtype=shape.dtype, count=count, offset=offset)
        return flat.view(shape.kv_heads, size, dim)

    monkeypatch.setattr(pool, "_empty", fenced)
    for size in (*range(2, 40), 63, 64, 65, 97):
        monkeypatch.setattr(pool, "first_slab", lambda shapes, size=size: size)
        scene = Scene(replace(CASE, shared=0, own=size - 1), CPU)
        assert not attended(scene)[0].isnan().any()
