"""Random contents lie where computed ones would, and are read back as one text."""

from __future__ import annotations

import torch

from hogwild_agents import Feed
from hogwild_agents.bench.contents import fill_cache, free_cache, read_view
from tests.bench.rig import CPU, OWN, SHARED, rig


def test_a_view_is_read_as_transformers_would_have_cached_it() -> None:
    ids = [(17 * place + 5) % 2000 for place in range(20)]
    with rig(1) as made, torch.no_grad():
        first, second = made.engine.block(), made.engine.block()
        made.engine.forward([Feed(first, [first], ids[:12])])
        made.engine.forward([Feed(second, [first, second], ids[12:])])
        found = read_view(made.engine, [first, second])
        cache = made.plain(torch.tensor([ids]), use_cache=True).past_key_values
        for (keys, values), layer in zip(found, cache.layers, strict=True):
            torch.testing.assert_close(keys, layer.keys[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(values, layer.values[0], atol=1e-5, rtol=0)


def test_contents_have_the_lengths_that_were_asked_for() -> None:
    with rig(3) as made:
        assert [len(block) for block in made.contents.blocks] == [SHARED, OWN, OWN, OWN]
        for worker, view in enumerate(made.contents.views):
            assert view[0] is made.contents.shared
            assert view[-1] is made.contents.own[worker]
            assert set(view) == set(made.contents.blocks)


def test_every_entry_is_random() -> None:
    with rig(2) as made:
        entries = [
            states for layer in read_view(made.engine, made.contents.views[0]) for states in layer
        ]
    for states in entries:
        assert states.isfinite().all()
        rows = {tuple(row) for row in states.flatten(0, 1).tolist()}
        assert len(rows) == states.shape[0] * states.shape[1]
        assert 0.7 < float(states.std()) < 1.3


def test_freed_contents_leave_nothing() -> None:
    with rig(1) as made:
        used = made.engine.used_tokens
        free_cache(made.engine, fill_cache(made.engine, 4, 20, 5))
        assert made.engine.used_tokens == used
        made.engine.check_integrity()


def test_equal_seeds_give_equal_contents() -> None:
    with rig(1) as made:
        one, other, third = (fill_cache(made.engine, 1, 20, 5, seed) for seed in (3, 3, 4))
        keys = [read_view(made.engine, each.views[0])[0][0] for each in (one, other, third)]
    assert torch.equal(keys[0], keys[1])
    assert not torch.equal(keys[0], keys[2])
    assert keys[0].device == CPU
