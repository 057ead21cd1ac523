"""How a tick is laid out for the kernel: everything is read once, evenly, and in its place."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, strategies as st

from hogwild_agents.bench.scene import Case, Scene
from hogwild_agents.engine import (
    Engine,
    Feed,
    compiled,
    engine as engine_module,
    kernels,
    pool,
)
from hogwild_agents.engine.compiled import KernelWarning
from hogwild_agents.engine.plan import Plan, build_plan
from hogwild_agents.engine.pool import LayerShape
from hogwild_agents.engine.reach import FULL, Reach
from hogwild_agents.engine.schedule import Layout, Schedule, Tuning, tuning_of
from tests.engine.families import SUPPORTED

CPU = torch.device("cpu")

cases = st.builds(
    Case,
    heads=st.sampled_from([2, 6]),
    kv_heads=st.just(2),
    key_dim=st.just(4),
    value_dim=st.just(4),
    turning=st.just(4),
    reach=st.sampled_from([FULL, Reach("sliding", 7), Reach("chunked", 5)]),
    workers=st.integers(1, 4),
    shared=st.integers(0, 60),
    own=st.integers(0, 9),
    fed=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
)
tunings = st.builds(
    Tuning,
    programs=st.integers(1, 9),
    grain=st.sampled_from([1, 4, 16]),
    rows=st.sampled_from([16, 32]),
)


def laid_out(scene: Scene, tuning: Tuning) -> tuple[Schedule, Layout]:
    """The schedule of a scene, and its only layout."""
    schedule = scene.plan(tuning).schedule
    assert schedule is not None
    (layout,) = schedule.layouts.values()
    return schedule, layout


def table(schedule: Schedule, place: tuple[int, int], width: int) -> list[list[int]]:
    """The numbers of a section, in rows."""
    return schedule.table[slice(*place)].view(-1, width).tolist()


@given(case=cases, tuning=tunings, first_slab=st.sampled_from([7, 4096]))
def test_each_token_reads_each_slot_of_its_view_once(
    case: Case, tuning: Tuning, first_slab: int
) -> None:
    with patch.object(pool, "first_slab", lambda shapes: first_slab):
        scene = Scene(case, CPU)
    schedule, layout = laid_out(scene, tuning)
    items, rows = table(schedule, layout.items, 8), table(schedule, layout.rows, 4)
    ends = table(schedule, layout.item_ends, 1)
    read: list[Counter[tuple[int, int]]] = [Counter() for _ in range(schedule.tokens)]
    for slab, _, start, stop, row, count, *_ in items[: ends[case_programs(schedule)][0]]:
        for token, _, first, last in rows[row : row + count]:
            read[token].update((slab, slot) for slot in range(start, stop) if first <= slot <= last)
    assert read == [Counter(dict.fromkeys(slots, 1)) for slots in expected(scene)]


def case_programs(schedule: Schedule) -> int:
    ((_, tile),) = schedule.layouts
    return tile.programs


def expected(scene: Scene) -> list[set[tuple[int, int]]]:
    """Which slots each token sees, from the definition: every place of its view, one by one."""
    found = []
    slabs = {id(slab): number for number, slab in enumerate(scene.pool.slabs)}
    for feed in scene.feeds:
        view = []
        for block in feed.view:
            for run in block._runs:  # type: ignore[union-attr]
                view += [(slabs[id(run.slab)], slot) for slot in range(run.start, run.stop)]
        for number in range(len(feed.tokens)):
            position = len(view) - len(feed.tokens) + number
            found.append(set(view[scene.case.reach.lowest(position) : position + 1]))
    return found


@given(case=cases, tuning=tunings)
def test_no_program_gets_more_than_its_share(case: Case, tuning: Tuning) -> None:
    schedule, layout = laid_out(Scene(case, CPU), tuning)
    items = table(schedule, layout.items, 8)
    ends = [end for (end,) in table(schedule, layout.item_ends, 1)][: case_programs(schedule) + 1]
    grains = [-(-(stop - start) // tuning.grain) for _, _, start, stop, *_ in items]
    loads = [sum(grains[low:high]) for low, high in pairwise(ends)]
    assert sum(loads) == sum(grains)
    assert max(loads) == -(-sum(grains) // len(loads))


@given(case=cases, tuning=tunings)
def test_each_partial_result_belongs_to_one_token(case: Case, tuning: Tuning) -> None:
    schedule, layout = laid_out(Scene(case, CPU), tuning)
    ends = [end for (end,) in table(schedule, layout.partial_ends, 1)][: schedule.tokens + 1]
    partials = [number for (number,) in table(schedule, layout.partials, 1)][: ends[-1]]
    assert sorted(partials) == list(range(len(partials)))
    assert len(partials) <= layout.room
    rows: dict[int, int] = {}
    for _, _, _, _, row, count, partial, _ in table(schedule, layout.items, 8):
        rows |= {partial + number: row + number for number in range(count)}
    tokens = [token for token, *_ in table(schedule, layout.rows, 4)]
    for token in range(schedule.tokens):
        assert {tokens[rows[p]] for p in partials[ends[token] : ends[token + 1]]} == {token}


def test_sections_stay_in_their_places_while_contexts_grow() -> None:
    scene = Scene(Case(workers=3, shared=1000, own=50), CPU)
    schedule, _ = laid_out(scene, Tuning(programs=8))
    for _ in range(20):
        scene.next_tick()
        later, _ = laid_out(scene, Tuning(programs=8))
        assert schedule.fits(later)
        assert not torch.equal(schedule.table, later.table)
    assert not schedule.fits(
        laid_out(Scene(Case(workers=4, shared=1000), CPU), Tuning(programs=8))[0]
    )


def schedules_of(engine: Engine) -> list[Schedule | None]:
    """The schedule of the plan of one tick."""
    plans: list[Plan] = []

    def build(*given: Any) -> Plan:
        plans.append(build_plan(*given))
        return plans[-1]

    with patch.object(engine_module, "build_plan", build):
        block = engine.block()
        engine.forward([Feed(block, [block], [3])])
    return [plan.schedule for plan in plans]


@pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")
def test_a_cpu_takes_what_it_can_compile_and_leaves_the_rest_to_torch() -> None:
    found = tuning_of(LayerShape(2, 16, 8, torch.float32, CPU))
    assert found is not None
    assert found.kernel == "cpu"
    assert tuning_of(LayerShape(2, 16, 8, torch.float64, CPU)) is None
    assert tuning_of(LayerShape(2, 16, 8, torch.float32, torch.device("cpu", 1))) is None
    with patch.object(compiled, "works", lambda: False):
        assert tuning_of(LayerShape(2, 16, 8, torch.float32, CPU)) is None


@pytest.mark.parametrize("kernels", [None, False])
def test_a_plan_is_for_torch_where_there_is_no_kernel(kernels: bool | None) -> None:
    with Engine(SUPPORTED["llama"].build(), verify=False, kernels=kernels) as engine:
        by_torch = "attention" not in engine.kernels
        assert [schedule is None for schedule in schedules_of(engine)] == [by_torch]
        assert by_torch or kernels is None


def test_heads_are_dealt_out_whole_where_threads_divide_them() -> None:
    before = torch.get_num_threads()
    if not compiled.works():
        pytest.skip("nothing can be compiled here")
    try:
        programs = {}
        for threads, kv_heads in ((1, 3), (2, 4), (2, 3), (4, 2)):
            torch.set_num_threads(threads)
            found = tuning_of(LayerShape(kv_heads, 16, 16, torch.float32, CPU))
            assert found is not None
            programs[threads, kv_heads] = -(-found.programs // kv_heads)
    finally:
        torch.set_num_threads(before)
    assert programs == {(1, 3): 1, (2, 4): 1, (2, 3): 3, (4, 2): 8}


def test_a_gpu_on_which_triton_does_not_work_is_left_to_torch() -> None:
    gpu = torch.device("cuda", 99)  # which is not here
    with (
        patch.object(torch.cuda, "get_device_capability", lambda device: (9, 0)),
        patch.object(kernels, "find_spec", lambda name: True),
        pytest.warns(KernelWarning, match="cuda:99"),
    ):
        assert tuning_of(LayerShape(2, 16, 16, torch.bfloat16, gpu)) is None
    kernels._gpu_works.cache_clear()


def test_a_gpu_is_left_to_torch_while_triton_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu = torch.device("cuda", 97)
    assert tuning_of(LayerShape(2, 16, 16, torch.bfloat16, gpu)) is None
    kernels._gpu_works.cache_clear()


def test_old_gpus_and_other_dtypes_are_left_to_torch() -> None:
    gpu = torch.device("cuda", 98)
    with patch.object(torch.cuda, "get_device_capability", lambda device: (7, 5)):
        assert tuning_of(LayerShape(2, 16, 16, torch.bfloat16, gpu)) is None
    assert tuning_of(LayerShape(2, 16, 16, torch.float64, gpu)) is None
    kernels._gpu_works.cache_clear()
