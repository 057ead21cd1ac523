"""A tick on trial: kept it is any tick, taken back it has never been, whatever comes between."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from hogwild_agents.engine import CacheBlock, Engine, Feed
from hogwild_agents.errors import CacheFullError, ClosedError, FeedError, TickError
from tests.engine.families import SUPPORTED, VOCAB

LLAMA = SUPPORTED["llama"]
BUDGET = 60


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(LLAMA.build(), max_tokens=BUDGET) as engine:
        yield engine
        engine.check_integrity()


def start(engine: Engine) -> tuple[CacheBlock, CacheBlock]:
    """Two blocks with some tokens, and memory for more."""
    one, two = engine.block("one"), engine.block("two")
    engine.forward([Feed(one, [one], [5, 6, 7])])
    engine.forward([Feed(two, [one, two], [8, 9])])
    return one, two


def both(one: CacheBlock, two: CacheBlock, *tokens: int) -> list[Feed]:
    """Feeds for both blocks."""
    return [Feed(one, [two, one], tokens), Feed(two, [one, two], tokens)]


def state(engine: Engine) -> Any:
    """All that a tick may change."""
    blocks = [
        (block.name, block.tokens, [(run.start, run.stop) for run in block._runs])
        for block in engine._cache.blocks.values()
    ]
    pool = engine._cache.pool
    slabs = [[list(gap) for gap in slab.gaps] for slab in pool.slabs]
    return blocks, slabs, pool.used, engine.used_tokens, engine.free_tokens


# -- any number of them, between anything else


@dataclass(frozen=True)
class Step:
    """What is done next: a change of the cache, on trial or not, or a guess before it."""

    kind: str
    block: int
    other: int
    amount: int
    how: str


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(["feed", "feed", "feed", "move", "truncate", "fork", "free", "make"]),
        block=st.integers(0, 3),
        other=st.integers(0, 3),
        amount=st.integers(0, 3),
        how=st.sampled_from(["plain", "kept", "wrong", "wrong and taken back", "not run"]),
    ),
    max_size=20,
)


@functools.cache
def pair() -> tuple[Engine, Engine]:
    """Two engines of equal weights, with a small budget."""
    one, other = (Engine(LLAMA.build(), max_tokens=BUDGET, verify=False) for _ in range(2))
    return one, other


def play(engine: Engine, steps: list[Step], *, trials: bool) -> Iterator[tuple[Any, Tensor | None]]:
    """Take some steps; yield what is there after each, and what came of it."""
    blocks = list(start(engine))
    for step in steps:
        if trials and step.how in ("wrong", "wrong and taken back", "not run"):
            guess(engine, blocks, step)
        logits = None
        with suppress(CacheFullError, FeedError):
            logits = take(engine, blocks, step, kept=trials and step.how == "kept")
        engine.check_integrity()
        if engine._trial is not None:  # nothing was changed
            engine._trial.withdraw()
        yield state(engine), logits
    for block in list(engine._cache.blocks.values()):
        engine.free(block)


def guess(engine: Engine, blocks: list[CacheBlock], step: Step) -> None:
    """Try what nobody asks for."""
    before = state(engine)
    own = blocks[step.other % len(blocks)]
    try:
        trial = engine.trial([Feed(own, [own], [1] * (step.amount + 1))])
    except CacheFullError:
        return
    if step.how != "not run":
        trial.run()
    if step.how == "wrong and taken back":
        trial.withdraw()
        assert state(engine) == before


def take(engine: Engine, blocks: list[CacheBlock], step: Step, *, kept: bool) -> Tensor | None:
    """Take one step."""
    own, other = (blocks[number % len(blocks)] for number in (step.block, step.other))
    match step.kind:
        case "feed":
            view = [block for block in blocks if block is not own]
            feeds = [Feed(own, [*view, own], range(step.amount + 1))]
            if not kept:
                return engine.forward(feeds)
            trial = engine.trial(feeds)
            trial.run()
            return trial.keep()
        case "move":
            engine.move(own, other)
        case "truncate":
            engine.truncate(own, len(own) - min(len(own), step.amount))
        case "fork":
            blocks.append(engine.fork(own))
        case "free" if len(blocks) > 2:
            blocks.remove(own)
            engine.free(own)
        case "make":
            blocks.append(engine.block("new"))
    return None


@settings(max_examples=60)
@given(steps=STEPS)
def test_a_schedule_with_trials_leaves_what_it_leaves_without(steps: list[Step]) -> None:
    tried, plain = pair()
    runs = play(tried, steps, trials=True), play(plain, steps, trials=False)
    for (found, logits), (expected, wanted) in zip(*runs, strict=True):
        assert found == expected
        assert (logits is None) == (wanted is None)
        if logits is not None:
            assert wanted is not None
            torch.testing.assert_close(logits, wanted, rtol=0, atol=0)
    assert not tried.used_tokens


# -- one by one


def test_nothing_of_it_is_seen_until_it_is_kept(engine: Engine) -> None:
    one, two = start(engine)
    trial = engine.trial(both(one, two, 3))
    for _ in range(2):
        assert trial.pending
        assert (one.tokens, two.tokens) == ((5, 6, 7), (8, 9))
        assert (engine.used_tokens, engine.free_tokens) == (5, BUDGET - 5)
        engine.check(Feed(one, [one], [4]))
        engine.check_integrity()
        trial.run()
    logits = trial.keep()
    assert logits is not None
    assert logits.shape == (2, VOCAB)
    assert not trial.pending
    assert (one.tokens, two.tokens) == ((5, 6, 7, 3), (8, 9, 3))
    assert engine.used_tokens == 7


def test_a_view_that_is_changed_later_changes_nothing(engine: Engine) -> None:
    one, two = start(engine)
    views = [two, one], [one, two]
    trial = engine.trial([Feed(one, views[0], [3]), Feed(two, views[1], [3])])
    for view in views:
        del view[0]
    trial.run()
    logits = trial.keep()
    assert logits is not None
    for block, length in ((one, 3), (two, 2)):
        engine.truncate(block, length)
    torch.testing.assert_close(logits, engine.forward(both(one, two, 3)), rtol=0, atol=0)


CHANGES: dict[str, Callable[[Engine, CacheBlock, CacheBlock], object]] = {
    "forward": lambda engine, one, two: engine.forward([Feed(one, [one], [4])]),
    "trial": lambda engine, one, two: engine.trial([Feed(one, [one], [4])]).withdraw(),
    "move": lambda engine, one, two: engine.move(two, one),
    "truncate": lambda engine, one, two: engine.truncate(one, 1),
    "fork": lambda engine, one, two: engine.fork(one),
    "free": lambda engine, one, two: engine.free(two),
    "close": lambda engine, one, two: engine.close(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("ran", [False, True])
def test_whatever_else_is_changed_takes_it_back(engine: Engine, change: str, ran: bool) -> None:
    one, two = start(engine)
    trial = engine.trial(both(one, two, 3))
    if ran:
        trial.run()
    CHANGES[change](engine, one, two)
    assert not trial.pending
    engine.check_integrity()
    kept = (one.tokens, two.tokens)
    trial.run()
    assert trial.keep() is None
    trial.withdraw()
    assert (one.tokens, two.tokens) == kept


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_else_is_changed_waits_for_it(
    engine: Engine, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = start(engine)
    inside, goes_on, done = threading.Event(), threading.Event(), threading.Event()
    norm = engine.model.model.norm
    plain, errors = norm.forward, list[BaseException]()

    def held(states: Tensor) -> Tensor:
        inside.set()
        assert goes_on.wait(10)
        result: Tensor = plain(states)
        return result

    def alter() -> None:
        try:
            CHANGES[change](engine, one, two)
        except BaseException as error:
            errors.append(error)
        done.set()

    trial = engine.trial(both(one, two, 3))
    running, changing = threading.Thread(target=trial.run), threading.Thread(target=alter)
    with monkeypatch.context() as patch:
        patch.setattr(norm, "forward", held)
        running.start()
        assert inside.wait(10)
        changing.start()
        assert not done.wait(0.05)
        goes_on.set()
        running.join(10)
        changing.join(10)
    assert done.is_set()
    assert not errors
    assert not trial.pending
    engine.check_integrity()


def test_what_fails_on_trial_is_taken_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = start(engine)
    before = state(engine)
    with monkeypatch.context() as patch:
        norm = engine.model.model.norm
        plain = norm.forward
        patch.setattr(norm, "forward", lambda states: plain(states) * float("nan"))
        trial = engine.trial(both(one, two, 3))
        with pytest.raises(TickError, match="NaN"):
            trial.run()
    assert not trial.pending
    assert state(engine) == before
    engine.check_integrity()


def test_it_takes_no_new_memory(engine: Engine) -> None:
    block = engine.block()
    with pytest.raises(CacheFullError, match="no new memory"):
        engine.trial([Feed(block, [block], [5])])
    engine.forward([Feed(block, [block], [5] * (BUDGET - 1))])
    with pytest.raises(CacheFullError, match="has room for 1 more"):
        engine.trial([Feed(block, [block], [5, 6])])
    trial = engine.trial([Feed(block, [block], [5])])
    trial.run()
    assert trial.keep() is not None
    assert engine.free_tokens == 0


def test_what_cannot_be_run_cannot_be_tried(engine: Engine) -> None:
    one, two = start(engine)
    dead = engine.block()
    engine.free(dead)
    for feeds, error in (
        ([], FeedError),
        (both(one, one, 3), FeedError),
        ([Feed(one, [one], [VOCAB])], FeedError),
        ([Feed(dead, [dead], [3])], ClosedError),
    ):
        with pytest.raises(error):
            engine.trial(feeds)
    engine.check_integrity()
    engine.close()
    with pytest.raises(ClosedError):
        engine.trial(both(one, two, 3))
