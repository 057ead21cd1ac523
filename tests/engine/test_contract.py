"""What the engine promises besides numbers: failures change nothing, budgets, errors, the end."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from hogwild_agents.engine import BlockSlice, CacheBlock, Engine, Feed, cache, pool
from hogwild_agents.engine.rope import Rope
from hogwild_agents.errors import (
    CacheFullError,
    ClosedError,
    ConfigError,
    ContextLengthError,
    FeedError,
    HogwildError,
    ModelError,
    TickError,
)
from tests.engine.families import QUICK, SUPPORTED, VOCAB
from tests.engine.schedules import Tokens
from tests.engine.twin import Entry, Twin, Write, engine_of, oracle_of

LLAMA = SUPPORTED["llama"]
some_families = pytest.mark.parametrize("family", QUICK)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(LLAMA.build()) as engine:
        yield engine


@pytest.fixture
def budgeted() -> Iterator[Engine]:
    with Engine(LLAMA.build(), max_tokens=10) as engine:
        yield engine


# -- a tick that fails changes nothing


class _Breakage(Exception):
    """What the broken module raises."""


def _raise_in_a_middle_layer(model: Any, patch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise _Breakage("out of memory")

    patch.setattr(model.model.layers[1].mlp, "forward", broken)


def _interrupt_in_the_last_layer(model: Any, patch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    patch.setattr(model.model.norm, "forward", broken)


def _nan_in_a_middle_layer(model: Any, patch: pytest.MonkeyPatch) -> None:
    sound = model.model.layers[1].mlp.forward
    patch.setattr(model.model.layers[1].mlp, "forward", lambda x: sound(x) * float("nan"))


def _nan_weights(model: Any, patch: pytest.MonkeyPatch) -> None:
    weight = model.model.layers[0].self_attn.v_proj.weight
    patch.setattr(weight, "data", torch.full_like(weight, float("nan")))


FAILURES: dict[str, tuple[Callable[[Any, pytest.MonkeyPatch], None], type[BaseException]]] = {
    "raises": (_raise_in_a_middle_layer, _Breakage),
    "interrupted": (_interrupt_in_the_last_layer, KeyboardInterrupt),
    "nan": (_nan_in_a_middle_layer, TickError),
    "nan weights": (_nan_weights, TickError),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_failed_tick_changes_nothing(
    family: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking, error = FAILURES[failure]
    tokens = Tokens(1)
    with Twin.of(family) as twin:
        prompt, alice, bob = (twin.block() for _ in range(3))
        writes = _first_ticks(twin, tokens, prompt, alice, bob)
        feeds = twin.feeds(writes)
        before = (twin.engine.used_tokens, [len(feed.block) for feed in feeds])
        with monkeypatch.context() as patch:
            breaking(twin.engine.model, patch)
            for _ in range(2):
                with pytest.raises(error):
                    twin.engine.forward(feeds)
        assert (twin.engine.used_tokens, [len(feed.block) for feed in feeds]) == before
        twin.compare_blocks()
        twin.tick(*writes)
        twin.move(alice, prompt)
        twin.tick(Write(bob, [Entry(prompt), Entry(bob)], tokens(2)))


def _first_ticks(twin: Twin, tokens: Tokens, prompt: int, alice: int, bob: int) -> list[Write]:
    """Fill the blocks; return the feeds of a next tick."""
    twin.tick(Write(prompt, [Entry(prompt)], tokens(6)))
    views = {
        alice: [Entry(prompt), Entry(bob), Entry(alice)],
        bob: [Entry(prompt), Entry(alice), Entry(bob)],
    }
    for _ in range(2):
        twin.tick(*(Write(block, view, tokens(2)) for block, view in views.items()))
    return [Write(block, view, tokens(3)) for block, view in views.items()]


def test_a_tick_that_fails_the_first_time_leaves_an_empty_cache(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = engine.block()
    with monkeypatch.context() as patch:
        _raise_in_a_middle_layer(engine.model, patch)
        with pytest.raises(_Breakage):
            engine.forward([Feed(block, [block], [5, 6, 7])])
    assert (len(block), block.tokens, engine.used_tokens) == (0, (), 0)


def test_a_rejected_tick_changes_nothing(budgeted: Engine) -> None:
    good, bad = budgeted.block("good"), budgeted.block("bad")
    budgeted.forward([Feed(good, [good], [5, 6]), Feed(bad, [bad], [7])])
    rejected = [
        [Feed(good, [good], [1]), Feed(bad, [bad], [])],
        [Feed(good, [good], [1]), Feed(bad, [bad], [VOCAB])],
        [Feed(good, [good], [1] * 4), Feed(bad, [bad], [1] * 4)],
    ]
    for feeds in rejected:
        with pytest.raises(HogwildError):
            budgeted.forward(feeds)
        assert (good.tokens, bad.tokens, budgeted.used_tokens) == ((5, 6), (7,), 3)


# -- budgets


def test_a_budget_in_tokens_is_exact(budgeted: Engine) -> None:
    assert (budgeted.max_tokens, budgeted.used_tokens, budgeted.free_tokens) == (10, 0, 10)
    block, other = budgeted.block(), budgeted.block()
    budgeted.forward([Feed(block, [block], [1] * 6)])
    assert (budgeted.used_tokens, budgeted.free_tokens) == (6, 4)
    with pytest.raises(CacheFullError, match=r"10.*4.*5") as error:
        budgeted.forward([Feed(block, [block], [1] * 3), Feed(other, [other], [1] * 2)])
    assert "max_tokens" in str(error.value)
    budgeted.forward([Feed(block, [block], [1] * 3), Feed(other, [other], [1])])
    assert (budgeted.used_tokens, budgeted.free_tokens) == (10, 0)
    with pytest.raises(CacheFullError):
        budgeted.forward([Feed(other, [other], [1])])
    with pytest.raises(CacheFullError):
        budgeted.fork(block)
    budgeted.truncate(block, 8)
    budgeted.forward([Feed(other, [other], [1])])
    assert budgeted.free_tokens == 0


def test_a_budget_in_bytes_is_exact() -> None:
    with Engine(LLAMA.build()) as engine:
        per_token = engine.bytes_per_token
        assert engine.max_tokens is None
        assert engine.free_tokens is None
    assert per_token == 2 * 2 * 2 * 12 * 4  # keys and values, layers, heads, dimensions, fp32
    for spare in (0, per_token - 1):
        with Engine(LLAMA.build(), max_bytes=7 * per_token + spare) as engine:
            assert engine.max_tokens == 7
    with Engine(LLAMA.build(), max_bytes=7 * per_token, max_tokens=5) as engine:
        assert engine.max_tokens == 5
    with Engine(LLAMA.build(), max_bytes=7 * per_token, max_tokens=9) as engine:
        assert engine.max_tokens == 7
        block = engine.block()
        engine.forward([Feed(block, [block], [1] * 7)])
        with pytest.raises(CacheFullError):
            engine.forward([Feed(block, [block], [1])])


def test_half_precision_takes_half_the_bytes() -> None:
    model = LLAMA.build()
    with Engine(model.to(torch.bfloat16)) as engine:
        assert engine.bytes_per_token == 2 * 2 * 2 * 12 * 2


@pytest.mark.parametrize("budget", [{"max_tokens": 0}, {"max_tokens": -3}, {"max_bytes": 10}])
def test_a_budget_below_one_token_is_refused(budget: dict[str, Any]) -> None:
    model = LLAMA.build()
    with pytest.raises(ConfigError, match=next(iter(budget))):
        Engine(model, **budget)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["max_tokens", "max_bytes", "max_context"])
@pytest.mark.parametrize("value", [1.5, True, "3", math.nan, 0])
def test_a_bound_that_is_no_whole_number_is_refused_before_anything_is_made(
    name: str, value: Any
) -> None:
    model = LLAMA.build()
    model.forward = None  # nobody calls it
    with pytest.raises(ConfigError, match=rf"^{name} is {value!r}, but must be a whole number"):
        Engine(model, **{name: value})


def test_a_full_cache_can_still_move(budgeted: Engine) -> None:
    twin = Twin(budgeted, oracle_of("llama"))
    step, history = twin.block(), twin.block()
    twin.tick(Write(history, [Entry(history)], [5, 6]))
    twin.tick(Write(step, [Entry(history), Entry(step)], [7, 8, 9, 10, 11, 12, 13]))
    twin.move(step, history)
    twin.tick(Write(step, [Entry(history), Entry(step)], [14]))
    assert budgeted.free_tokens == 0
    twin.move(step, history)
    twin.truncate(history, 8)
    twin.tick(Write(step, [Entry(history), Entry(step)], [15, 16]))


@some_families
def test_slots_are_reused_in_a_full_and_scattered_cache(family: str) -> None:
    """A budget that is always nearly spent, so that blocks break into many runs."""
    tokens = Tokens(2)
    with Engine(SUPPORTED[family].build(), max_tokens=24) as engine:
        twin = Twin(engine, oracle_of(family))
        blocks = [twin.block() for _ in range(4)]
        for turn in range(40):
            if engine.free_tokens == 0:
                longest = max(blocks, key=twin.length)
                twin.truncate(longest, twin.length(longest) // 2)
                if turn % 3 == 0:
                    twin.move(blocks[turn % 4], blocks[(turn + 1) % 4])
            writing = [blocks[(turn + i) % 4] for i in range(min(3, engine.free_tokens or 0))]
            views = {block: [b for b in blocks if b != block] for block in writing}
            twin.tick(
                *(
                    Write(block, [*map(Entry, view), Entry(block)], tokens(1))
                    for block, view in views.items()
                )
            )
        twin.close()
        assert engine.used_tokens == 0


def test_memory_grows_with_tokens_not_with_workers(engine: Engine) -> None:
    prompt, *own = (engine.block() for _ in range(9))
    engine.forward([Feed(prompt, [prompt], [3] * 40)])
    for _ in range(5):
        engine.forward([Feed(block, [prompt, block], [4]) for block in own])
    assert engine.used_tokens == 40 + 8 * 5


# -- feeds that cannot be run


def test_every_malformed_feed_is_named(engine: Engine) -> None:
    prompt, own, empty = engine.block("prompt"), engine.block("own"), engine.block("empty")
    engine.forward([Feed(prompt, [prompt], [5, 6, 7])])
    cases: list[tuple[Feed, str]] = [
        (Feed(own, [prompt, own], []), "no tokens"),
        (Feed(own, [prompt, own], [5, VOCAB]), f"{VOCAB}.*0 to {VOCAB - 1}"),
        (Feed(own, [prompt, own], [-1]), "-1"),
        (Feed(own, [prompt], [5]), "'own'.*put the written block last"),
        (Feed(own, [own, prompt], [5]), "'own'.*put the written block last"),
        (Feed(own, [], [5]), "put the written block last"),
        (Feed(own, 5, [5]), "'own'.* is 5: give a sequence"),  # type: ignore[arg-type]
        (Feed(own, own, [5]), "is CacheBlock.*: give a sequence"),  # type: ignore[arg-type]
        (Feed(own, [prompt, own[0:0]], [5]), "put the written block last"),
        (Feed(own, [own, prompt, own], [5]), "twice"),
        (Feed(own, [own[0:], own], [5]), "twice"),
        (Feed(own, [BlockSlice(prompt, 0, 4), own], [5]), "0 to 4 of .*'prompt'"),
        (Feed(own, [BlockSlice(prompt, -1, 2), own], [5]), "-1 to 2"),
        (Feed(own, [BlockSlice(prompt, 2, 1), own], [5]), "2 to 1"),
        (Feed(own, [BlockSlice(prompt, 4), own], [5]), "4 to 3"),
        (Feed(own, [prompt, BlockSlice(own, 1)], [5]), "1 to 0"),
    ]
    for feed, pattern in cases:
        for call in (engine.check, lambda feed: engine.forward([feed])):
            with pytest.raises(FeedError, match=pattern):
                call(feed)
    with pytest.raises(FeedError, match=r"Two feeds.*'own'"):
        engine.forward([Feed(own, [own], [5]), Feed(own, [prompt, own], [6])])
    with pytest.raises(FeedError, match="at least one"):
        engine.forward([])
    with pytest.raises(FeedError, match="'first'"):
        engine.forward([Feed(own, [own], [5])], logits="first")  # type: ignore[arg-type]
    assert (len(own), len(empty), engine.used_tokens) == (0, 0, 3)
    engine.check(Feed(own, [empty, prompt, prompt, own], [5]))


def test_a_slice_that_outlived_a_truncation_is_refused(engine: Engine) -> None:
    prompt, own = engine.block("prompt"), engine.block("own")
    engine.forward([Feed(prompt, [prompt], [5, 6, 7, 8])])
    closed, opened = prompt[1:4], prompt[3:]
    engine.truncate(prompt, 2)
    for entry in (closed, opened):
        with pytest.raises(FeedError, match="'prompt'"):
            engine.forward([Feed(own, [entry, own], [5])])
    assert engine.forward([Feed(own, [prompt[2:], own], [5])]).shape == (1, VOCAB)


def test_blocks_that_are_freed_or_foreign_are_refused(engine: Engine) -> None:
    dead, own = engine.block("dead"), engine.block("own")
    foreign = engine_of("llama").block("foreign")
    engine.free(dead)
    calls: list[Callable[[CacheBlock], object]] = [
        lambda block: engine.forward([Feed(own, [block, own], [5])]),
        lambda block: engine.forward([Feed(own, [block[0:0], own], [5])]),
        lambda block: engine.forward([Feed(block, [block], [5])]),
        lambda block: engine.check(Feed(own, [block, own], [5])),
        lambda block: engine.move(block, own),
        lambda block: engine.move(own, block),
        lambda block: engine.truncate(block, 0),
        lambda block: engine.fork(block),
        lambda block: engine.free(block),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match=r"'dead'.*freed"):
            call(dead)
        with pytest.raises(FeedError, match=r"'foreign'.*another engine"):
            call(foreign)
    assert "freed" in repr(dead)
    engine_of("llama").free(foreign)


def test_wrong_moves_truncations_and_slices_are_refused(engine: Engine) -> None:
    block = engine.block("block")
    engine.forward([Feed(block, [block], [5, 6, 7])])
    with pytest.raises(FeedError, match="into itself"):
        engine.move(block, block)
    lengths: tuple[Any, ...] = (-1, 4, 1.5, 2.0, True, "2", None)
    for length in lengths:
        with pytest.raises(FeedError, match=rf"{length} tokens.*0 to 3"):
            engine.truncate(block, length)
        engine.check_integrity()
    own = engine.block("own")
    stops: tuple[Any, ...] = (1.5, True, "2")
    for stop in stops:
        with pytest.raises(FeedError, match=rf"the entries 0 to {stop!r} of .* no such ones"):
            engine.forward([Feed(own, [BlockSlice(block, 0, stop), own], [5])])
    with pytest.raises(FeedError, match=r"'block' is no block: name one that engine\.block"):
        engine.forward([Feed(own, ["block", own], [5])])  # type: ignore[list-item]
    with pytest.raises(FeedError, match="start:stop"):
        block[1]  # type: ignore[index]
    with pytest.raises(FeedError, match="start:stop"):
        block[::2]
    assert block.tokens == (5, 6, 7)


def test_a_view_longer_than_the_context_is_refused() -> None:
    with Engine(LLAMA.build(max_position_embeddings=32)) as engine:
        assert engine.context_length == 32
        prompt, own, other = engine.block("prompt"), engine.block("own"), engine.block("other")
        engine.forward([Feed(prompt, [prompt], [1] * 20)])
        engine.forward([Feed(own, [prompt, own], [1] * 12)])
        with pytest.raises(ContextLengthError, match=r"'own'.*33.*32"):
            engine.forward([Feed(own, [prompt, own], [1])])
        with pytest.raises(ContextLengthError, match=r"'other'.*40"):
            engine.check(Feed(other, [prompt, prompt[1:], other], [1]))
        with pytest.raises(ContextLengthError):  # what the others write in this tick counts
            engine.forward([Feed(prompt, [prompt], [1] * 2), Feed(own, [prompt[9:], own], [1] * 8)])
        assert (len(prompt), len(own)) == (20, 12)
        engine.forward([Feed(own, [prompt[8:], own[4:]], [1] * 12)])


def test_a_prompt_longer_than_the_context_is_refused_before_it_is_run() -> None:
    with Engine(LLAMA.build(max_position_embeddings=32)) as engine:
        block = engine.block()
        with pytest.raises(ContextLengthError, match="33"):
            engine.forward([Feed(block, [block], [1] * 33)])
        assert engine.used_tokens == 0


@pytest.mark.parametrize(
    "tokens",
    [(5, 6), range(5, 7), torch.tensor([5, 6]), np.array([5, 6]), np.array([5, 6], dtype=np.int32)],
    ids=["tuple", "range", "tensor", "array", "int32"],
)
def test_tokens_may_be_any_integers(engine: Engine, tokens: Any) -> None:
    """They are kept as plain integers: transcripts and samplers read them."""
    block, plain = engine.block(), engine.block()
    found = [engine.forward([Feed(block, [block], tokens)]) for _ in range(2)]
    wanted = [engine.forward([Feed(plain, [plain], [5, 6])]) for _ in range(2)]
    assert torch.equal(torch.cat(found), torch.cat(wanted))
    assert block.tokens == (5, 6, 5, 6)
    assert {type(token) for token in block.tokens} == {int}


@pytest.mark.parametrize("tokens", [[5.0], [5, 6.5], ["5"], [None]])
def test_tokens_that_are_no_integers_are_refused(engine: Engine, tokens: Any) -> None:
    block = engine.block("Alice")
    with pytest.raises(FeedError, match="'Alice'"):
        engine.forward([Feed(block, [block], tokens)])
    assert (len(block), engine.used_tokens) == (0, 0)


# -- blocks


def test_a_move_that_fails_half_way_keeps_the_books(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last layer's keys run out of memory; a run must be able to end in order after that."""
    source, target = engine.block(), engine.block()
    engine.forward([Feed(source, [source], [5, 6]), Feed(target, [target], [7])])
    turn, calls = Rope.turn, 0

    def broken(*args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise MemoryError
        return turn(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Rope, "turn", broken)
        patch.setattr(cache, "_TOGETHER", 1)  # layer by layer, as of long blocks
        with pytest.raises(MemoryError):
            engine.move(source, target)
    engine.check_integrity()
    assert (source.tokens, target.tokens, engine.used_tokens) == ((5, 6), (7,), 3)
    expected = Twin(engine, oracle_of("llama"))
    step, history = expected.block(), expected.block()
    expected.tick(Write(step, [Entry(step)], [5, 6]), Write(history, [Entry(history)], [7]))
    expected.move(step, history)
    expected.tick(Write(step, [Entry(history), Entry(step)], [8]))


def test_layers_that_turn_together_turn_as_they_do_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for most in (cache._TOGETHER, 1):
        monkeypatch.setattr(cache, "_TOGETHER", most)
        source, target = engine.block(), engine.block()
        engine.forward([Feed(source, [source], [5, 6]), Feed(target, [target], [7, 8, 9])])
        engine.move(source, target)
        slab, start, stop = pool.pieces(target._runs, 3, 5)[0]
        keys.append(torch.stack([states[:, start:stop] for states in slab.keys]))
    assert torch.equal(*keys)


def test_calls_may_be_made_in_inference_mode(engine: Engine) -> None:
    """And others outside of it: the cache belongs to no mode."""
    twin = Twin(engine, oracle_of("llama"))
    prompt, own = twin.block(), twin.block()
    with torch.inference_mode():
        twin.tick(Write(prompt, [Entry(prompt)], [5, 6, 7]))
    twin.tick(Write(own, [Entry(prompt), Entry(own)], [8]))
    with torch.inference_mode():
        twin.move(own, prompt)
    with torch.enable_grad():
        twin.tick(Write(own, [Entry(prompt), Entry(own)], [9, 10]))
    twin.move(own, prompt)
    twin.tick(Write(own, [Entry(prompt), Entry(own)], [11]))


def test_a_fork_goes_its_own_way(engine: Engine) -> None:
    twin = Twin(engine, oracle_of("llama"))
    block = twin.block()
    twin.tick(Write(block, [Entry(block)], [5, 6, 7]))
    fork = twin.fork(block)
    assert engine.used_tokens == 6
    twin.tick(Write(block, [Entry(block)], [8]), Write(fork, [Entry(fork)], [9, 10]))
    twin.truncate(block, 0)
    twin.tick(Write(fork, [Entry(fork)], [11]))
    named = engine.fork(twin.cache_block(fork), "copy")
    assert (named.name, named.tokens) == ("copy", (5, 6, 7, 9, 10, 11))


def test_blocks_know_their_name_length_and_tokens(engine: Engine) -> None:
    block = engine.block("Alice")
    assert (block.name, len(block), block.tokens, bool(block), block.alive) == (
        "Alice",
        0,
        (),
        True,
        True,
    )
    engine.forward([Feed(block, [block], [5, 6])])
    engine.forward([Feed(block, (block,), (7,))])
    assert (len(block), block.tokens) == (3, (5, 6, 7))
    assert "Alice" in repr(block)
    assert [len(part) for part in (block[1:], block[:2], block[:9], block[-2:], block[2:1])] == [
        2,
        2,
        3,
        2,
        0,
    ]


# -- the end


def test_close_gives_the_model_back() -> None:
    model = LLAMA.build()
    ids = torch.tensor([Tokens(3)(12)])
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    before, plain = model.generate(ids, **options), model(ids).logits
    engine = Engine(model)
    assert engine.model is model
    block = engine.block()
    engine.forward([Feed(block, [block], ids[0].tolist())])
    with pytest.raises(ModelError, match="lent"):
        model(ids)
    engine.close()
    engine.close()
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model.generate(ids, **options), before)
    assert torch.equal(model(ids).logits, plain)


def test_close_restores_the_mode_of_every_module() -> None:
    model = LLAMA.build()
    model.train()
    model.model.layers[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    with Engine(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_close_restores_another_attention() -> None:
    model = LLAMA.build()
    model.set_attn_implementation("eager")
    with Engine(model):
        pass
    assert model.config._attn_implementation == "eager"


def test_a_closed_engine_says_so() -> None:
    model = LLAMA.build()
    with Engine(model) as engine:
        block = engine.block()
        engine.forward([Feed(block, [block], [5, 6])])
    assert engine.closed
    assert not block.alive
    calls: list[Callable[[], object]] = [
        engine.block,
        lambda: engine.forward([Feed(block, [block], [5])]),
        lambda: engine.check(Feed(block, [block], [5])),
        lambda: engine.move(block, block),
        lambda: engine.truncate(block, 0),
        lambda: engine.fork(block),
        lambda: engine.free(block),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()
    engine.check_integrity()
    assert engine.used_tokens == 0


def test_close_gives_the_memory_back() -> None:
    model = LLAMA.build()
    others = {id(tensor) for tensor in _large_tensors()}
    engine = Engine(model)
    block = engine.block()
    engine.forward([Feed(block, [block], [5, 6])])
    cache = [weakref.ref(tensor) for tensor in _large_tensors() if id(tensor) not in others]
    assert cache
    engine.close()
    gc.collect()
    assert not any(reference() is not None for reference in cache)


def _large_tensors() -> list[torch.Tensor]:
    objects = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return [tensor for tensor in objects if tensor.numel() > 10_000]


def test_a_model_is_lent_to_one_engine_at_a_time() -> None:
    model = LLAMA.build()
    with Engine(model) as engine:
        with pytest.raises(ModelError, match="lent to another"):
            Engine(model)
        block = engine.block()
        assert engine.forward([Feed(block, [block], [5])]).shape == (1, VOCAB)
    with Engine(model) as second:
        block = second.block()
        assert second.forward([Feed(block, [block], [5])]).shape == (1, VOCAB)


def test_weights_that_change_are_used(engine: Engine) -> None:
    """The engine keeps no copy of the weights."""
    block, again = engine.block(), engine.block()
    before = engine.forward([Feed(block, [block], [5, 6])])
    with torch.no_grad():
        engine.model.lm_head.weight.mul_(2)
    torch.testing.assert_close(engine.forward([Feed(again, [again], [5, 6])]), before * 2)


def test_engines_in_two_threads_do_not_collide() -> None:
    models = {seed: LLAMA.build(seed=seed) for seed in (1, 2, 3)}
    results: dict[int, torch.Tensor] = {}

    def think(seed: int) -> None:
        ids = Tokens(seed)(40)
        with Engine(models[seed]) as engine:
            block = engine.block()
            rows = [engine.forward([Feed(block, [block], [token])]) for token in ids]
        results[seed] = torch.cat(rows)

    threads = [threading.Thread(target=think, args=(seed,)) for seed in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, model in models.items():
        with torch.no_grad():
            plain = model(torch.tensor([Tokens(seed)(40)])).logits[0]
        torch.testing.assert_close(results[seed], plain, atol=2e-5, rtol=1e-5)


def test_logits_carry_no_gradient_and_stand_alone(engine: Engine) -> None:
    block = engine.block()
    first = engine.forward([Feed(block, [block], [5, 6])])
    kept = first.clone()
    engine.forward([Feed(block, [block], [7])])
    assert not first.requires_grad
    assert torch.equal(first, kept)


def test_an_engine_describes_its_model(engine: Engine) -> None:
    assert engine.vocab_size == VOCAB
    assert engine.context_length == 1024
    assert engine.dtype == torch.float32
    assert engine.device.type == "cpu"
    assert "LlamaForCausalLM" in repr(engine)


def test_a_part_of_a_part_is_a_part_of_the_block() -> None:
    block = CacheBlock("text")
    block._tokens = list(range(10))
    assert block[2:8][1:3] == block[3:5]
    assert block[2:8][4:] == block[6:8]
    assert block[2:][3:] == block[5:]
    assert len(block[2:8][5:1]) == 0
    with pytest.raises(FeedError, match="is sliced as"):
        block[2:8][::2]
