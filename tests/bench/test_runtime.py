"""What a team adds is measured on a team, and leaves the engine as it was."""

from __future__ import annotations

import pytest
import torch

from hogwild_agents.bench import runtime as module
from hogwild_agents.bench.contestant import Ticks
from hogwild_agents.bench.runtime import measure_runtime
from hogwild_agents.bench.shares import BY_CALL, BY_CLOCK, measure_shares
from hogwild_agents.bench.words import word_tokenizer
from hogwild_agents.engine import CacheBlock
from hogwild_agents.engine.compiled import works
from hogwild_agents.engine.feed import entry_block, entry_range
from hogwild_agents.errors import ConfigError
from tests.bench.rig import CPU, rig


def test_a_team_s_ticks_are_measured_and_nothing_is_left() -> None:
    with rig(1) as made:
        used, forward = made.engine.used_tokens, made.engine.forward
        found = measure_runtime(made.engine, 2, CPU, rounds=2, ticks=8)
        assert made.engine.used_tokens == used
        assert made.engine.forward == forward
        made.engine.check_integrity()
    assert found.workers == 2
    for timing in (found.team, found.bare, found.sampling):
        assert len(timing.values) == 2
        assert all(value > 0 for value in timing.values)
    rounds = zip(found.team.values, found.bare.values, strict=True)
    assert found.added.values == tuple(team - bare for team, bare in rounds)
    assert len(found.between.values) == 2


def test_bare_ticks_have_the_views_of_the_team(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[list[tuple[int, int]]]] = []

    def outlines(ticks: Ticks) -> list[list[tuple[int, int]]]:
        return [[entry_range(entry, 0) for entry in view] for view in ticks._views]

    def bare_turn(ticks: Ticks, device: torch.device, count: int) -> float:
        seen.append(outlines(ticks))
        own = [entry_block(view[-1]) for view in ticks._views]
        blocks: set[CacheBlock] = {entry_block(entry) for view in ticks._views for entry in view}
        assert len(set(own)) == 3
        assert all(block in [entry_block(entry) for entry in ticks._views[0]] for block in own)
        assert len(blocks) > 4  # the prompt, headers and a history stand there as well
        return 1.0

    monkeypatch.setattr(module, "turn", bare_turn)
    with rig(1) as made:
        measure_runtime(made.engine, 3, CPU, rounds=1, ticks=10)
    ((first, *others),) = seen
    assert len(others) == 2
    assert sum(high - low for low, high in first) > 10


def test_the_words_of_the_benchmark_are_a_word_for_every_id() -> None:
    tokenizer = word_tokenizer(2048)
    assert len(tokenizer) == 2048
    texts = [tokenizer.decode([number]) for number in range(256, 2043)]
    assert len(set(texts)) == len(texts)
    assert tokenizer.decode(tokenizer.encode("Think, für 2!")) == "Think, für 2!"
    assert tokenizer.decode([512]).endswith(".\n\n")
    with pytest.raises(ConfigError, match="no room for the 256 bytes"):
        word_tokenizer(200)


@pytest.mark.parametrize("graphs", [True, False])
def test_shares_are_those_of_a_whole_tick_and_leave_the_model_as_it_was(graphs: bool) -> None:
    with rig(2) as made:
        if not graphs:
            made.engine._graphs = None
        ticks = Ticks(made.engine, made.contents.views)
        before = vars(made.engine.model).get("forward")
        found = measure_shares(made.engine, ticks, CPU, 3)
        assert found is not None
        parts = (found.model, found.attention, found.sampling, found.planning)
        assert sum(parts) == pytest.approx(1)
        assert all(0 < part < 1 for part in parts)
        assert found.how == (BY_CALL if graphs and works() else BY_CLOCK)
        assert vars(made.engine.model).get("forward") is before
        ticks.reset()
        spent = measure_shares(made.engine, ticks, CPU, 1)
        assert spent is not None
