"""The engine's logits equal the oracle's, whatever the families, layouts and schedules."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from hogwild_agents.engine import Engine, Feed, attention, pool
from hogwild_agents.errors import UnsupportedModelError
from tests.engine.families import OTHERS, QUICK, SUPPORTED
from tests.engine.schedules import TeamSchedule, Tokens, run_chaos
from tests.engine.twin import TOLERANCE, Entry, Twin, Write, engine_of, oracle_of

every_family = pytest.mark.parametrize("family", SUPPORTED)
some_families = pytest.mark.parametrize("family", QUICK)

MODERATE = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SWEEP = settings(
    max_examples=250,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@every_family
@MODERATE
@given(data=st.data())
def test_teams_in_any_layout(family: str, data: st.DataObject) -> None:
    with Twin.of(family) as twin:
        TeamSchedule(twin, data.draw).run()


@every_family
@MODERATE
@given(data=st.data())
def test_any_views_and_calls(family: str, data: st.DataObject) -> None:
    with Twin.of(family) as twin:
        run_chaos(twin, data.draw)


@MODERATE
@given(data=st.data())
def test_a_cache_of_many_small_slabs(data: st.DataObject) -> None:
    """Blocks that lie in pieces, in slabs that were added one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "FIRST_SLAB", 3)
        with (
            Engine(fresh_llama(), verify=False) as engine,
            Twin(engine, oracle_of("llama")) as twin,
        ):
            TeamSchedule(twin, data.draw).run()
            run_chaos(twin, data.draw)


@MODERATE
@given(data=st.data())
def test_attention_as_other_devices_compute_it(data: st.DataObject) -> None:
    """The kernel for the CPU aside: plain matrix products, as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_has_flash", lambda queries, values: False)
        with Twin.of("llama") as twin:
            TeamSchedule(twin, data.draw).run()
            run_chaos(twin, data.draw)


@functools.cache
def fresh_llama() -> Any:
    """A model for engines that are made anew for each example."""
    return SUPPORTED["llama"].build()


@pytest.mark.sweep
@every_family
@SWEEP
@given(data=st.data())
def test_sweep_of_teams(family: str, data: st.DataObject) -> None:
    with Twin.of(family) as twin:
        TeamSchedule(twin, data.draw).run()


@pytest.mark.sweep
@every_family
@SWEEP
@given(data=st.data())
def test_sweep_of_any_views(family: str, data: st.DataObject) -> None:
    with Twin.of(family) as twin:
        run_chaos(twin, data.draw)


@every_family
def test_one_worker_equals_the_plain_forward(family: str) -> None:
    ids = Tokens(3)(50)
    with torch.no_grad():
        plain = SUPPORTED[family].build()(torch.tensor([ids])).logits[0]
    engine = engine_of(family)
    prompt, own = engine.block(), engine.block()
    rows = [engine.forward([Feed(prompt, [prompt], ids[:20])], logits="all")]
    rows += [
        engine.forward([Feed(own, [prompt, own], ids[at : at + 3])], logits="all")
        for at in range(20, 50, 3)
    ]
    engine.free(prompt)
    engine.free(own)
    assert (torch.cat(rows) - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_are_exact_or_refused(family: str) -> None:
    try:
        engine = Engine(OTHERS[family].build())
    except UnsupportedModelError:
        return
    with engine, Twin(engine, oracle_of(family)) as twin:
        grow_by_turns(twin, workers=3, ticks=12)


@every_family
def test_blocks_that_grow_by_turns(family: str) -> None:
    """Here a query rotated by one offset over keys at global positions goes wrong."""
    with Twin.of(family) as twin:
        grow_by_turns(twin, workers=4, ticks=40)


def grow_by_turns(twin: Twin, workers: int, ticks: int) -> None:
    """Workers of different speeds; one token a tick each, everybody sees everybody."""
    tokens = Tokens(11)
    prompt, *own = (twin.block() for _ in range(workers + 1))
    twin.tick(Write(prompt, [Entry(prompt)], tokens(9)))
    for tick in range(ticks):
        writing = [block for place, block in enumerate(own) if tick % (place + 1) == 0]
        views = {block: [Entry(b) for b in own if b != block] for block in writing}
        twin.tick(
            *(
                Write(block, [Entry(prompt), *view, Entry(block)], tokens(1))
                for block, view in views.items()
            ),
            logits="last",
        )


@some_families
def test_many_steps_move_to_the_history(family: str) -> None:
    """Every step is rotated once; a scale that compounds, as YaRN's would, shows by the end."""
    tokens = Tokens(5)
    with Twin.of(family) as twin:
        prompt, history, own, other = (twin.block() for _ in range(4))
        twin.tick(Write(prompt, [Entry(prompt)], tokens(5)))
        for _ in range(60):
            shared = [Entry(prompt), Entry(history)]
            twin.tick(
                Write(own, [*shared, Entry(other), Entry(own)], tokens(2)),
                Write(other, [*shared, Entry(own), Entry(other)], tokens(1)),
            )
            twin.move(own, history)
        twin.move(other, history)
        twin.tick(Write(own, [Entry(prompt), Entry(history), Entry(own)], tokens(3)))


@some_families
def test_one_block_moved_many_times_keeps_its_precision(family: str) -> None:
    tokens = Tokens(6)
    with Twin.of(family) as twin:
        step, reader = twin.block(), twin.block()
        twin.tick(Write(step, [Entry(step)], tokens(6)))
        for _ in range(30):
            holder = twin.block()
            twin.tick(Write(holder, [Entry(holder)], tokens(3)))
            twin.move(step, holder)
            step = holder
            twin.tick(Write(reader, [Entry(step), Entry(reader)], tokens(1)))


@every_family
def test_steps_that_end_in_the_same_tick(family: str) -> None:
    tokens = Tokens(8)
    with Twin.of(family) as twin:
        prompt, history, alice, bob = (twin.block() for _ in range(4))
        twin.tick(Write(prompt, [Entry(prompt)], tokens(6)))
        for _ in range(4):
            past = [Entry(prompt), Entry(history)]
            for size in (1, 3):
                twin.tick(
                    Write(alice, [*past, Entry(bob), Entry(alice)], tokens(size)),
                    Write(bob, [*past, Entry(alice), Entry(bob)], tokens(4 - size)),
                )
            old_alice, old_bob, alice, bob = alice, bob, twin.block(), twin.block()
            twin.tick(
                Write(old_alice, [*past, Entry(old_bob), Entry(old_alice)], tokens(1)),
                Write(old_bob, [*past, Entry(old_alice), Entry(old_bob)], tokens(1)),
                Write(alice, [*past, Entry(old_alice), Entry(old_bob), Entry(alice)], tokens(3)),
                Write(bob, [*past, Entry(old_alice), Entry(old_bob), Entry(bob)], tokens(2)),
            )
            twin.move(old_alice, history)
            twin.move(old_bob, history)


@some_families
def test_a_moved_step_reads_the_same_as_before(family: str) -> None:
    """Moving a block to the end of the one before it changes no view."""
    tokens = Tokens(9)
    engine = engine_of(family)
    history, step, own = engine.block(), engine.block(), engine.block()
    engine.forward([Feed(history, [history], tokens(7))])
    engine.forward([Feed(step, [history, step], tokens(5))])
    next_tokens = tokens(3)
    before = engine.forward([Feed(own, [history, step, own], next_tokens)], logits="all")
    engine.truncate(own, 0)
    engine.move(step, history)
    after = engine.forward([Feed(own, [history, own], next_tokens)], logits="all")
    for block in (history, step, own):
        engine.free(block)
    torch.testing.assert_close(after, before, atol=TOLERANCE, rtol=0)


@every_family
def test_every_order_of_the_feeds_gives_the_same(family: str) -> None:
    tokens = Tokens(4)
    prompt_ids, old, new = tokens(8), tokens(12), [tokens(size) for size in (2, 1, 4)]

    def run(order: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        engine = engine_of(family)
        prompt, *own = (engine.block() for _ in range(4))
        views = [[prompt, *(b for b in own if b is not block), block] for block in own]
        engine.forward([Feed(prompt, [prompt], prompt_ids)])
        for at in range(0, 12, 3):
            engine.forward([Feed(own[i], views[i], [old[at + i]]) for i in order])
        now = engine.forward([Feed(own[i], views[i], new[i]) for i in order])
        later = engine.forward([Feed(own[i], views[i], [1]) for i in order])
        for block in (prompt, *own):
            engine.free(block)
        back = [order.index(i) for i in range(3)]
        return now[back], later[back]

    now, later = run([0, 1, 2])
    for order in ([2, 1, 0], [1, 2, 0], [0, 2, 1]):
        for found, expected in zip(run(order), (now, later), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@some_families
def test_last_and_all_logits_agree(family: str) -> None:
    tokens = Tokens(2)
    with Twin.of(family) as twin:
        prompt, own = twin.block(), twin.block()
        writes = [
            Write(prompt, [Entry(prompt)], tokens(5)),
            Write(own, [Entry(prompt), Entry(own)], tokens(3)),
        ]
        every = twin.tick(*writes, logits="all")
        assert every.shape == (8, twin.engine.vocab_size)
        twin.truncate(prompt, 0)
        twin.truncate(own, 0)
        last = twin.tick(*writes, logits="last")
        torch.testing.assert_close(last, every[[4, 7]], atol=1e-5, rtol=1e-5)


@some_families
@pytest.mark.parametrize("chunk", [1, 4, 19])
def test_a_prompt_in_chunks_is_the_same_prompt(family: str, chunk: int) -> None:
    ids = Tokens(12)(19)
    engine = engine_of(family)
    whole, cut = engine.block(), engine.block()
    expected = engine.forward([Feed(whole, [whole], ids)], logits="all")
    found = [
        engine.forward([Feed(cut, [cut], ids[at : at + chunk])], logits="all")
        for at in range(0, 19, chunk)
    ]
    engine.free(whole)
    engine.free(cut)
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-5, rtol=1e-5)


@some_families
def test_what_is_not_in_the_view_does_not_matter(family: str) -> None:
    tokens = Tokens(13)
    prompt_ids, ids = tokens(4), tokens(3)

    def logits(hidden: int) -> torch.Tensor:
        engine = engine_of(family)
        prompt, private, own = engine.block(), engine.block(), engine.block()
        feeds = [Feed(prompt, [prompt], prompt_ids), Feed(own, [prompt, own], ids)]
        if hidden:
            feeds.insert(1, Feed(private, [prompt, own, private], Tokens(hidden)(hidden)))
        result = engine.forward(feeds)[[0, -1]]
        for block in (prompt, private, own):
            engine.free(block)
        return result

    for hidden in (1, 5):
        torch.testing.assert_close(logits(hidden), logits(0), atol=1e-5, rtol=1e-5)


@some_families
def test_a_full_slice_is_the_block(family: str) -> None:
    """``block[:]`` grows with its block; ``block[0:n]`` stays as it was taken."""
    with Twin.of(family) as twin:
        prompt, own = twin.block(), twin.block()
        twin.tick(Write(prompt, [Entry(prompt)], [5, 6, 7]))
        block, mine = twin.cache_block(prompt), twin.cache_block(own)
        grown, fixed = block[:], block[0:3]
        twin.tick(Write(prompt, [Entry(prompt)], [8, 9]))
        assert (len(grown), len(fixed)) == (5, 3)
        expected = twin.tick(Write(own, [Entry(prompt), Entry(own)], [11, 12]))
        twin.engine.truncate(mine, 0)
        found = twin.engine.forward([Feed(mine, [grown, mine[:]], [11, 12])], logits="all")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_several_engines_do_not_see_each_other() -> None:
    twins = [Twin.of(family) for family in QUICK]
    tokens = Tokens(14)
    with twins[0], twins[1], twins[2], twins[3]:
        blocks = [(twin.block(), twin.block()) for twin in twins]
        for twin, (prompt, _) in zip(twins, blocks, strict=True):
            twin.tick(Write(prompt, [Entry(prompt)], tokens(6)))
        for _ in range(4):
            for twin, (prompt, own) in zip(twins, blocks, strict=True):
                twin.tick(Write(own, [Entry(prompt), Entry(own)], tokens(2)))


def test_two_engines_of_one_class_in_one_process() -> None:
    family = SUPPORTED["llama"]
    ids = Tokens(15)(9)
    with Engine(family.build(seed=1)) as first, Engine(family.build(seed=2)) as second:
        a, b = first.block(), second.block()
        found = []
        for token in ids:
            found.append(first.forward([Feed(a, [a], [token])]))
            found.append(second.forward([Feed(b, [b], [token])]))
    for seed, rows in ((1, found[::2]), (2, found[1::2])):
        with torch.no_grad():
            plain = family.build(seed=seed)(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(torch.cat(rows), plain, atol=1e-5, rtol=1e-5)


BF16_BOUND = 2.0
"""In bf16 an engine may err at most so many times as much as the model's plain forward does."""


@every_family
def test_bf16_errs_no_more_than_the_plain_forward(family: str) -> None:
    ids = Tokens(16)(60)
    row = torch.tensor([ids])
    model = SUPPORTED[family].build().to(torch.bfloat16)
    exact = SUPPORTED[family].build()
    exact.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    with torch.no_grad():
        wanted, plain = exact(row).logits[0], model(row).logits[0].float()
    with Engine(model) as engine:
        assert engine.dtype == torch.bfloat16
        prompt, step, own = engine.block(), engine.block(), engine.block()
        rows = [engine.forward([Feed(prompt, [prompt], ids[:20])], logits="all")]
        for at in range(20, 36, 4):
            feed = Feed(step, [prompt, step], ids[at : at + 4])
            rows.append(engine.forward([feed], logits="all"))
        engine.move(step, prompt)
        for at in range(36, 60):
            rows.append(engine.forward([Feed(own, [prompt, own], ids[at : at + 1])]))
    assert rows[0].dtype == torch.float32
    error = (torch.cat(rows) - wanted).norm()
    assert error <= BF16_BOUND * (plain - wanted).norm()
