"""A forward that is replayed gives what the plain one gives, and is plain again when it must be."""

from __future__ import annotations

import functools
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from hogwild_agents.engine import CacheBlock, Engine, Feed, ParallelEngine, graphs, tape, threads
from hogwild_agents.engine.compiled import KernelWarning, works
from hogwild_agents.engine.plan import Plan
from hogwild_agents.errors import ConfigError, TickError
from tests.engine.families import EVERY, QUICK, SUPPORTED
from tests.engine.schedules import TeamSchedule, Tokens, run_chaos
from tests.engine.twin import Entry, Twin, Write, oracle_of

pytestmark = pytest.mark.skipif(not works(), reason="nothing can be compiled here")

LLAMA = SUPPORTED["llama"]
UNRECORDED = ("dbrx", "jetmoe", "longcat-flash", "phi3.5-moe")
"""Families whose code looks at numbers on the way."""


def drawn(examples: int, **more: Any) -> settings:
    """How many schedules hypothesis draws."""
    everything = list(HealthCheck)
    return settings(max_examples=examples, deadline=None, suppress_health_check=everything, **more)


FEW = drawn(4, derandomize=True, database=None)
SWEEP = drawn(10, database=None, print_blob=True)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Record at first sight; count what is replayed and what is not."""
    count: Counter[str] = Counter()
    replay = graphs.Graphs.replay

    def counting(self: graphs.Graphs, plan: Plan) -> Tensor | None:
        found = replay(self, plan)
        count["plain" if found is None else "replayed"] += 1
        return found

    monkeypatch.setattr(graphs, "AFTER", 1)
    monkeypatch.setattr(graphs.Graphs, "replay", counting)
    # Gemma3n has a distribution check its numbers, unless torch.compile was used in this process.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    return count


def test_a_family_that_checks_its_numbers_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    with Engine(EVERY["gemma3n"].build(), verify=False) as engine:
        think(engine, 8)
        assert not engine.graphs


@functools.cache
def recording(family: str) -> Engine:
    """One engine a family for all schedules, so that recordings serve many of them."""
    return Engine(EVERY[family].build(), **EVERY[family].engine)


def twin_of(family: str) -> Twin:
    """A twin that compares the logits after each feed, as recordings give them."""
    twin = Twin(recording(family), oracle_of(family))
    twin.logits = "last"
    return twin


# -- logits


@pytest.mark.parametrize("family", QUICK)
@FEW
@given(data=st.data())
def test_replayed_teams_have_the_oracles_logits(family: str, data: st.DataObject) -> None:
    with twin_of(family) as twin:
        TeamSchedule(twin, data.draw).run()


@pytest.mark.parametrize("family", QUICK)
@FEW
@given(data=st.data())
def test_any_replayed_views_have_the_oracles_logits(family: str, data: st.DataObject) -> None:
    with twin_of(family) as twin:
        run_chaos(twin, data.draw)


@pytest.mark.sweep
@pytest.mark.parametrize("family", SUPPORTED)
@SWEEP
@given(data=st.data())
def test_replayed_teams_of_every_family(family: str, data: st.DataObject) -> None:
    with twin_of(family) as twin:
        TeamSchedule(twin, data.draw).run()


@pytest.mark.parametrize("family", [*QUICK, "jetmoe"])
def test_ticks_are_replayed_while_blocks_grow(family: str, counted: Counter[str]) -> None:
    _is_replayed_while_blocks_grow(family, counted)


@pytest.mark.sweep
@pytest.mark.parametrize("family", SUPPORTED)
def test_every_family_is_replayed_while_blocks_grow(family: str, counted: Counter[str]) -> None:
    _is_replayed_while_blocks_grow(family, counted)


def _is_replayed_while_blocks_grow(family: str, counted: Counter[str]) -> None:
    """Two workers write for some time, then one of them two tokens a tick."""
    tokens = Tokens(3)
    with Engine(EVERY[family].build(), verify=False, **EVERY[family].engine) as engine:
        twin = Twin(engine, oracle_of(family))
        twin.logits = "last"
        with twin:
            prompt, one, two = (twin.block() for _ in range(3))
            twin.tick(Write(prompt, [Entry(prompt)], tokens(9)))
            for _ in range(6):
                twin.tick(
                    Write(one, [Entry(prompt), Entry(two), Entry(one)], tokens(1)),
                    Write(two, [Entry(prompt), Entry(one), Entry(two)], tokens(1)),
                )
            twin.move(one, prompt)
            for _ in range(4):
                twin.tick(
                    Write(one, [Entry(prompt, 2), Entry(two), Entry(one)], tokens(2)),
                    Write(two, [Entry(prompt), Entry(one), Entry(two)], tokens(1)),
                )
        if family in UNRECORDED:
            assert not counted["replayed"]
        else:
            assert counted["replayed"] >= 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", QUICK)
def test_half_precision_is_replayed_to_the_bit(family: str, dtype: torch.dtype) -> None:
    _is_replayed_to_the_bit(family, dtype)


@pytest.mark.sweep
@pytest.mark.parametrize("family", SUPPORTED)
def test_every_family_is_replayed_to_the_bit(family: str) -> None:
    _is_replayed_to_the_bit(family, torch.bfloat16)


def _is_replayed_to_the_bit(family: str, dtype: torch.dtype) -> None:
    results = []
    for wanted in (None, False):
        model, more = EVERY[family].build(), EVERY[family].engine
        for weight in model.parameters():  # tables of angles may be complex numbers
            weight.data = weight.data.to(dtype)
        with Engine(model, graphs=wanted, verify=False, **more) as engine:
            results.append(torch.stack(think(engine, 8)))
            assert bool(engine.graphs) == (wanted is None and family not in UNRECORDED)
    assert torch.equal(*results)


def test_int8_weights_are_replayed_to_the_bit() -> None:
    results = []
    for wanted in (None, False):
        with Engine(LLAMA.build(), graphs=wanted, int8_weights=True) as engine:
            results.append(torch.stack(think(engine, 8)))
            assert bool(engine.graphs) == (wanted is None)
    assert torch.equal(*results)


def start(engine: Engine) -> tuple[CacheBlock, CacheBlock]:
    """Two blocks with some tokens."""
    one, two = engine.block("one"), engine.block("two")
    engine.forward([Feed(one, [one], [5, 6, 7])])
    engine.forward([Feed(two, [one, two], [8, 9])])
    return one, two


def both(one: CacheBlock, two: CacheBlock, token: int) -> list[Feed]:
    """Feeds of one token for both blocks."""
    return [Feed(one, [two, one], [token]), Feed(two, [one, two], [token + 1])]


def think(engine: Engine, ticks: int) -> list[Tensor]:
    """Write tokens to two blocks, and return the logits of each tick."""
    one, two = start(engine)
    return [engine.forward(both(one, two, number)) for number in range(ticks)]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(LLAMA.build(), verify=False) as engine:
        yield engine
        engine.check_integrity()


def expected(ticks: int, model: Any = None) -> list[Tensor]:
    """What :func:`think` gives without recordings."""
    with Engine(model or LLAMA.build(), graphs=False, verify=False) as engine:
        return think(engine, ticks)


def test_logits_stay_what_they_were(engine: Engine, counted: Counter[str]) -> None:
    """They lie in memory of their own, which the next replay does not touch."""
    found = think(engine, 9)
    assert counted["replayed"] >= 6
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(9)), atol=1e-5, rtol=0)


def test_all_logits_of_single_tokens_are_replayed(engine: Engine, counted: Counter[str]) -> None:
    one, two = start(engine)
    for number in range(6):
        engine.forward(both(one, two, number), logits="all")
    assert counted["replayed"] >= 3


# -- ticks of many feeds


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill ticks up from the third token on, to multiples of four."""
    monkeypatch.setattr(graphs, "_EXACT", 2)
    monkeypatch.setattr(graphs, "_STEP", 4)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("family", QUICK)
@FEW
@given(data=st.data())
def test_ticks_that_are_filled_up_have_the_oracles_logits(family: str, data: st.DataObject) -> None:
    with twin_of(family) as twin:
        TeamSchedule(twin, data.draw).run()
        run_chaos(twin, data.draw)


@pytest.mark.sweep
@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("family", SUPPORTED)
@SWEEP
@given(data=st.data())
def test_filled_ticks_of_every_family(family: str, data: st.DataObject) -> None:
    with twin_of(family) as twin:
        TeamSchedule(twin, data.draw).run()


def one_each(blocks: list[CacheBlock]) -> list[Feed]:
    """Feeds of one token for each block."""
    return [Feed(block, [block], [number % 50]) for number, block in enumerate(blocks)]


def test_a_recording_serves_ticks_of_a_few_feeds_more(
    engine: Engine, counted: Counter[str]
) -> None:
    blocks = [engine.block(str(number)) for number in range(80)]
    for _ in range(4):
        engine.forward(one_each(blocks[:70]))
    assert engine.graphs == 1
    counted.clear()
    found = [engine.forward(one_each(blocks[:count])) for count in range(66, 81)]
    assert counted == {"replayed": len(found)}
    assert [len(logits) for logits in found] == list(range(66, 81))
    with Engine(LLAMA.build(), graphs=False, verify=False) as plain:
        blocks = [plain.block(str(number)) for number in range(80)]
        for _ in range(4):
            plain.forward(one_each(blocks[:70]))
        wanted = [plain.forward(one_each(blocks[:count])) for count in range(66, 81)]
    torch.testing.assert_close(torch.cat(found), torch.cat(wanted), atol=1e-5, rtol=0)


def test_a_recording_serves_ticks_whose_blocks_are_read_by_more_or_fewer(
    engine: Engine, counted: Counter[str]
) -> None:
    """Eighty feeds that read two blocks each: one of another's, or one that nobody else reads."""
    own, private = (
        [engine.block(f"{kind}{number}") for number in range(80)] for kind in ("own", "private")
    )
    engine.forward(
        [Feed(block, [block], [5, number % 7 + 1]) for number, block in enumerate(private)]
    )
    engine.forward(one_each(own))

    def shared() -> list[Feed]:
        return [Feed(block, [own[place ^ 1], block], [3]) for place, block in enumerate(own)]

    def alone() -> list[Feed]:
        return [Feed(block, [private[place], block], [3]) for place, block in enumerate(own)]

    for _ in range(4):
        engine.forward(shared())
    assert engine.graphs == 1
    counted.clear()
    for feeds in (alone, shared, alone):
        engine.forward(feeds())
        engine.forward(
            [
                Feed(feed.block, feed.view, [1, 2, 3][: 1 + n // 78])
                for n, feed in enumerate(feeds()[:79])
            ]
        )
    assert counted == {"replayed": 6}


def test_a_replay_of_a_filled_tick_gives_the_plain_ticks_bits(counted: Counter[str]) -> None:
    results = []
    for after in (1, 99):
        with pytest.MonkeyPatch.context() as patch, Engine(LLAMA.build(), verify=False) as engine:
            patch.setattr(graphs, "AFTER", after)
            blocks = [engine.block(str(number)) for number in range(75)]
            results.append(torch.stack([engine.forward(one_each(blocks)) for _ in range(6)]))
            assert bool(engine.graphs) == (after == 1)
    assert torch.equal(*results)


def test_what_fills_a_tick_up_is_stored_nowhere(engine: Engine) -> None:
    blocks = [engine.block(str(number)) for number in range(70)]
    engine.forward(one_each(blocks))
    (slab,) = engine._cache.pool.slabs
    for states in (*slab.keys, *slab.values):
        states.fill_(77)
    for _ in range(6):
        engine.forward(one_each(blocks))
    assert engine.graphs
    for states in (*slab.keys, *slab.values):  # [kv_heads, slots, dim]
        written = (states != 77).any(-1).sum(1)
        assert written.tolist() == [6 * 70] * len(states)


def test_hooks_see_no_more_than_the_ticks_tokens(engine: Engine) -> None:
    blocks = [engine.block(str(number)) for number in range(70)]
    for _ in range(6):
        engine.forward(one_each(blocks))
    assert engine.graphs
    sizes: list[int] = []
    hook = engine.model.model.layers[0].mlp.register_forward_hook(
        lambda part, given, result: sizes.append(result.shape[-2])
    )
    for _ in range(3):
        engine.forward(one_each(blocks))
    assert sizes == [70, 70, 70]
    hook.remove()
    for _ in range(6):
        engine.forward(one_each(blocks))
    assert engine.graphs


def test_only_ticks_of_many_feeds_are_filled_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "AFTER", 99)
    forward, sizes = engine._loan.forward, []

    def seen(input_ids: Tensor, *given: Any) -> Tensor:
        sizes.append(input_ids.shape[-1])
        return forward(input_ids, *given)

    monkeypatch.setattr(engine._loan, "forward", seen)
    blocks = [engine.block(str(number)) for number in range(330)]
    for count in (64, 65, 80, 81, 320, 321):
        engine.forward(one_each(blocks[:count]))
    assert sizes == [64, 80, 80, 96, 320, 321]
    sizes.clear()
    engine.forward([Feed(blocks[0], [blocks[0]], [1] * 100)])
    engine.forward([Feed(block, [block], [1, 2]) for block in blocks[:35]])
    engine.forward([Feed(block, [block], [1, 2, 3]) for block in blocks[:25]])
    assert sizes == [100, 80, 75]


# -- what is no longer the same


def test_a_hook_is_called_in_every_tick(engine: Engine, counted: Counter[str]) -> None:
    one, two = start(engine)
    for number in range(5):
        engine.forward(both(one, two, number))
    assert engine.graphs
    calls = []
    part = engine.model.model.layers[0].mlp
    hook = part.register_forward_hook(lambda *args: calls.append(1))
    for number in range(5):
        engine.forward(both(one, two, number))
    assert len(calls) == 5
    assert not engine.graphs
    hook.remove()
    counted.clear()
    for number in range(6):
        engine.forward(both(one, two, number))
    assert len(calls) == 5
    assert counted["replayed"]


def test_a_hook_on_all_modules_is_called(engine: Engine) -> None:
    one, two = start(engine)
    for number in range(5):
        engine.forward(both(one, two, number))
    calls = []
    with nn.modules.module.register_module_forward_hook(lambda *args: calls.append(1)):
        engine.forward(both(one, two, 5))
    assert calls


def test_hooks_that_transformers_leaves_behind_do_not_count() -> None:
    model = LLAMA.build()
    model(torch.tensor([[1, 2, 3]]), output_hidden_states=True)
    assert any(part._forward_hooks for part in model.modules())
    with Engine(model) as engine:
        think(engine, 6)
        assert engine.graphs


def replace_parameter(model: Any) -> None:
    """Put another tensor in a weight's place."""
    layer = model.model.layers[1].mlp.up_proj
    layer.weight = nn.Parameter(layer.weight.detach() * 2)


def replace_data(model: Any) -> None:
    """Let a weight have other memory."""
    weight = model.model.layers[1].mlp.up_proj.weight
    weight.data = weight.data * 2


def change_in_place(model: Any) -> None:
    """Write other numbers into a weight."""
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(2)


def turn_over(model: Any) -> None:
    """Read a weight's numbers, where they are, in another order."""
    weight = model.model.layers[1].self_attn.o_proj.weight
    weight.data = weight.data.t()


def replace_module(model: Any) -> None:
    """Put another layer in a layer's place."""
    part = model.model.layers[1].mlp
    old = part.up_proj
    part.up_proj = nn.Linear(old.in_features, old.out_features, bias=False)
    with torch.no_grad():
        part.up_proj.weight.copy_(old.weight * 2)


def override_forward(model: Any) -> None:
    """Wrap a layer's forward."""
    part = model.model.layers[1].mlp.up_proj
    forward = part.forward
    part.forward = lambda states: forward(states) * 2


class Elsewhere:
    """A loan whose model seems to lie on a GPU."""

    device = torch.device("cuda", 0)

    def __init__(self, loan: Any) -> None:
        self._loan = loan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loan, name)


@pytest.fixture
def launched(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Have the engine's recordings looked after as on a GPU, and count their runs."""
    count: Counter[str] = Counter()
    replay = tape.Tape.replay

    def counting(self: tape.Tape) -> None:
        count["runs"] += 1
        replay(self)

    monkeypatch.setattr(tape.Tape, "replay", counting)
    monkeypatch.setattr(engine._graphs, "_loan", Elsewhere(engine._loan))
    return count


@pytest.mark.parametrize("where", ["cpu", "gpu"])
@pytest.mark.parametrize(
    "change",
    [replace_parameter, replace_data, change_in_place, turn_over, replace_module, override_forward],
)
def test_a_changed_model_gives_its_own_logits(
    engine: Engine, change: Any, where: str, request: pytest.FixtureRequest
) -> None:
    if where == "gpu":
        request.getfixturevalue("launched")
    think(engine, 6)
    assert engine.graphs
    change(engine.model)
    changed = LLAMA.build()
    (turn_over if change is turn_over else change_in_place)(changed)
    found = torch.stack(think(engine, 8))
    torch.testing.assert_close(found, torch.stack(expected(8, changed)), atol=1e-5, rtol=0)


def test_nothing_is_launched_on_a_gpu_that_reads_where_weights_no_longer_lie(
    engine: Engine, launched: Counter[str]
) -> None:
    one, two = start(engine)
    for number in range(6):
        engine.forward(both(one, two, number))
    before = launched["runs"]
    assert before >= 3
    replace_data(engine.model)
    engine.forward(both(one, two, 6))
    assert launched["runs"] == before
    assert not engine.graphs


def turn_otherwise(model: Any) -> None:
    """Change a number that a module keeps."""
    model.model.layers[1].self_attn.scaling *= 3


def change_an_epsilon(model: Any) -> None:
    """Change a number that a norm keeps."""
    model.model.norm.variance_epsilon = 0.5


class Doubled(nn.Linear):
    """Gives twice what a linear layer gives."""

    def forward(self, input: Tensor) -> Tensor:
        """See :class:`nn.Linear`."""
        return super().forward(input) * 2


def change_a_class(model: Any) -> None:
    """Let a layer be one of another kind."""
    model.model.layers[1].mlp.up_proj.__class__ = Doubled


class Switched(nn.Module):
    """A layer with switches, as those of adapters are."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.factors, self.active = layer, {"a": 1.0, "b": 3.0}, ["a"]

    def forward(self, states: Tensor) -> Tensor:
        """Compute with what is switched on."""
        result: Tensor = self.layer(states)
        for name in self.active:
            result = result * self.factors[name]
        return result


def switch(model: Any) -> None:
    """Switch to another adapter, in the list that holds its name."""
    model.model.layers[1].mlp.up_proj.active[0] = "b"


def scale(model: Any) -> None:
    """Give an adapter another factor."""
    model.model.layers[1].mlp.up_proj.factors["a"] = 2.0


def cap(model: Any) -> None:
    """Change a number of the config that a forward reads."""
    model.config.final_logit_softcapping = 0.5


def cast(model: Any) -> None:
    """Let all weights have another dtype, and other memory."""
    model.to(torch.bfloat16)


@pytest.mark.parametrize(
    ("change", "family"),
    [
        (turn_otherwise, "llama"),
        (change_an_epsilon, "llama"),
        (change_a_class, "llama"),
        (switch, "llama"),
        (scale, "llama"),
        (cap, "gemma2"),
        (cast, "llama"),
    ],
)
def test_what_is_changed_under_way_besides_weights_counts(
    change: Any, family: str, counted: Counter[str]
) -> None:
    results = []
    for wanted in (None, False):
        model = SUPPORTED[family].build()
        part = model.model.layers[1].mlp
        if change in (switch, scale):
            part.up_proj = Switched(part.up_proj)
        with Engine(model, graphs=wanted, verify=False) as engine:
            one, two = start(engine)
            for number in range(6):
                engine.forward(both(one, two, number))
            assert bool(engine.graphs) == (wanted is None)
            change(model)
            counted.clear()
            found = [engine.forward(both(one, two, number)) for number in range(8)]
            assert bool(counted["replayed"]) == (wanted is None)  # of what was recorded anew
            results.append(torch.stack(found))
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


def test_hooks_in_a_dictionary_of_somebodys_own_are_called(engine: Engine) -> None:
    one, two = start(engine)
    for number in range(5):
        engine.forward(both(one, two, number))
    calls = []
    part = engine.model.model.layers[0].mlp
    part._forward_hooks = OrderedDict()
    part.register_forward_hook(lambda *args: calls.append(1))
    engine.forward(both(one, two, 5))
    assert calls


def test_autocast_is_not_passed_over(engine: Engine, counted: Counter[str]) -> None:
    one, two = start(engine)
    for number in range(6):
        engine.forward(both(one, two, number))
    counted.clear()
    with torch.autocast("cpu", torch.bfloat16):
        engine.forward(both(one, two, 6))
    assert not counted["replayed"]


def test_inference_mode_changes_nothing(engine: Engine, counted: Counter[str]) -> None:
    one, two = start(engine)
    found = []
    for number in range(12):
        with torch.inference_mode(number % 3 == 1):
            found.append(engine.forward(both(one, two, number)))
    assert counted["replayed"] >= 4
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(12)), atol=1e-5, rtol=0)


def test_another_number_of_threads_is_another_tick(engine: Engine) -> None:
    found = []
    one, two = start(engine)
    for number in range(12):
        with threads.limited(1 + number // 4 % 2):
            found.append(engine.forward(both(one, two, number)))
    assert engine.graphs == 2
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(12)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 40])
def test_ticks_are_torchs_while_kernels_cannot_have_its_threads(
    count: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where torch is given a second thread, and its OpenMP cannot be asked for any."""
    blocks = [start(engine) for _ in range(count)]
    found, replayed = [], []
    for number in range(12):
        with monkeypatch.context() as patch:
            if 4 <= number < 8:
                patch.setattr(threads, "available", lambda: False)
            feeds = [feed for one, two in blocks for feed in both(one, two, number)]
            found.append(engine.forward(feeds)[-2:])
            replayed.append(engine.replayed is not None)
    assert replayed[3:9] == [True, False, False, False, False, True]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(12)), atol=1e-5, rtol=0)


# -- what goes wrong


def test_nan_is_found_in_a_replayed_tick(engine: Engine, counted: Counter[str]) -> None:
    one, two = start(engine)
    for number in range(6):
        engine.forward(both(one, two, number))
    counted.clear()
    with torch.no_grad():
        engine.model.lm_head.weight[3] = float("nan")
    lengths = len(one), len(two)
    with pytest.raises(TickError, match="NaN instead of logits"):
        engine.forward(both(one, two, 1))
    assert counted["replayed"] == 1
    assert (len(one), len(two)) == lengths


def test_a_wrong_recording_is_not_relied_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, counted: Counter[str]
) -> None:
    replay = tape.Tape.replay

    def spoiled(self: tape.Tape) -> None:
        replay(self)
        self.result[0, 0] += 1

    monkeypatch.setattr(tape.Tape, "replay", spoiled)
    with pytest.warns(KernelWarning, match="differ from the plain one's by .* graphs=False"):
        found = think(engine, 6)
    assert not counted["replayed"]
    assert not engine.graphs
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(6)), atol=1e-5, rtol=0)


def test_what_is_only_right_for_one_tick_is_not_relied_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if something of the recorded tick were part of the recording."""
    monkeypatch.setattr(Plan, "refill", lambda self, other: None)
    with pytest.warns(KernelWarning):
        found = think(engine, 6)
    assert not engine.graphs
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(6)), atol=1e-5, rtol=0)


def test_a_failed_recording_is_silent_and_the_tick_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(tape, "_arrange", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = think(engine, 6)
    assert engine._graphs is not None
    assert engine._graphs.failure == "no memory"
    torch.testing.assert_close(torch.stack(found), torch.stack(expected(6)), atol=1e-5, rtol=0)


def test_graphs_can_be_switched_off(counted: Counter[str]) -> None:
    with Engine(LLAMA.build(), graphs=False) as engine:
        think(engine, 6)
        assert not engine.graphs
    assert not counted


def test_graphs_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"graphs is on, .* not all computed by .* leave it out"):
        Engine(LLAMA.build(), graphs=True, kernels=False, verify=False)
    model = LLAMA.build()
    with Engine(model, graphs=True, verify=False):  # the model was given back
        pass


def test_several_processes_record_nothing() -> None:
    with pytest.raises(ConfigError, match=r"graphs is on, but .* several processes"):
        ParallelEngine(LLAMA.build(), graphs=True)


# -- how many there are


def test_few_recordings_are_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_KEPT", 3)
    blocks = [engine.block(str(number)) for number in range(6)]
    for block in blocks:
        engine.forward([Feed(block, [block], [1, 2])])
    for count in (1, 2, 3, 4, 5, 6):
        for token in range(4):
            engine.forward([Feed(block, [block], [token]) for block in blocks[:count]])
        assert 1 <= engine.graphs <= 3
    assert engine.graphs == 3


def test_ticks_that_are_never_alike_are_not_recorded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where many problems are at work, whose ticks differ in the number of their tokens."""
    monkeypatch.setattr(graphs, "AFTER", 2)
    block = engine.block()
    for _ in range(3):
        for count in range(1, graphs._RECENT + 2):
            engine.forward([Feed(block, [block], [1] * count)])
            engine.truncate(block, 0)
    assert engine._graphs is not None
    assert not engine._graphs._kept


def test_large_ticks_are_not_recorded(engine: Engine, counted: Counter[str]) -> None:
    for _ in range(6):
        block = engine.block()
        engine.forward([Feed(block, [block], list(range(65)))])
        engine.free(block)
    assert not engine.graphs


def test_a_trial_is_replayed_kept_and_taken_back(engine: Engine, counted: Counter[str]) -> None:
    one, two = start(engine)
    found = []
    for number in range(12):
        trial = engine.trial(both(one, two, number))
        trial.run()
        if number % 3 == 2:
            trial.withdraw()
        else:
            logits = trial.keep()
            assert logits is not None
            found.append((number, logits))
    assert counted["replayed"] >= 8
    with Engine(LLAMA.build(), graphs=False, verify=False) as plain:
        one, two = start(plain)
        for number, logits in found:
            wanted = plain.forward(both(one, two, number))
            torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=0)
