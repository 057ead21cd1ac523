"""Layers that run through torch.compile give the same logits, and are nobody's afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn

from hogwild_agents.engine import Engine, Feed, ParallelEngine, compiled_layers
from hogwild_agents.errors import ConfigError
from tests.engine.families import EVERY, SUPPORTED
from tests.engine.schedules import TeamSchedule, Tokens
from tests.engine.twin import Entry, Twin, Write, oracle_of

FEW = settings(
    max_examples=2,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Builds:
    """A backend of torch.compile that builds nothing, and counts what it is asked to build."""

    count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


@pytest.fixture(autouse=True)
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    """Trace the layers as always, and compute what was traced by torch, which needs no compiler."""
    torch._dynamo.reset()
    found = Builds()
    monkeypatch.setattr(compiled_layers, "BACKEND", found)
    yield found
    torch._dynamo.reset()


def compiling(family: str) -> Engine:
    return Engine(EVERY[family].build(), compile_layers=True, **EVERY[family].engine)


# -- logits


@pytest.mark.parametrize("family", ["llama", "deepseek-v3", "gpt-oss"])
def test_compiled_teams_have_the_oracles_logits(family: str) -> None:
    _teams_have_the_oracles_logits(family)


@pytest.mark.sweep
@pytest.mark.parametrize("family", ["llama-yarn", "glm4", "llama4", "stablelm", "gemma4-shared"])
def test_compiled_teams_of_more_kinds_have_the_oracles_logits(family: str) -> None:
    _teams_have_the_oracles_logits(family)


def _teams_have_the_oracles_logits(family: str) -> None:
    with compiling(family) as engine:

        @FEW
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            with Twin(engine, oracle_of(family)) as twin:
                TeamSchedule(twin, data.draw).run()

        check()


@pytest.mark.sweep
@pytest.mark.parametrize("family", SUPPORTED)
def test_every_family_has_the_oracles_logits_compiled(family: str) -> None:
    _has_the_oracles_logits(family)


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what it imports
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("family", ["qwen3", "gpt-oss"])
def test_what_inductor_builds_has_the_oracles_logits(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_layers, "BACKEND", "inductor")
    _has_the_oracles_logits(family)


def _has_the_oracles_logits(family: str) -> None:
    """A prompt, two workers who write a token or two, and a step that moves."""
    tokens = Tokens(5)
    with compiling(family) as engine, Twin(engine, oracle_of(family)) as twin:
        prompt, alice, bob, step = (twin.block() for _ in range(4))
        twin.tick(Write(prompt, [Entry(prompt)], tokens(11)))
        twin.tick(Write(step, [Entry(prompt), Entry(step)], tokens(5)))
        twin.move(step, prompt)
        for count in (1, 2, 1, 1):
            twin.tick(
                Write(alice, [Entry(prompt), Entry(bob), Entry(alice)], tokens(count)),
                Write(bob, [Entry(prompt), Entry(alice), Entry(bob)], tokens(1)),
            )
        twin.tick(Write(bob, [Entry(prompt), Entry(bob)], tokens(1)))


@pytest.mark.parametrize("family", ["llama", "stablelm", "gemma3"])
def test_all_is_built_when_the_engine_is_made(family: str, builds: Builds) -> None:
    with Engine(EVERY[family].build(), compile_layers=True, verify=False) as engine:
        count = builds.count
        assert count > 0
        prompt, alice, bob = (engine.block() for _ in range(3))
        engine.forward([Feed(prompt, [prompt], range(1, 20))])
        for token in range(1, 7):
            engine.forward([Feed(alice, [prompt, alice], [token])])
            engine.forward([Feed(one, [prompt, one], [token]) for one in (alice, bob)])
        assert builds.count == count


# -- the model afterwards


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_layers_run_as_they_are_when_the_model_is_given_back(how: str, builds: Builds) -> None:
    model = EVERY["llama"].build()
    engine = Engine(model, compile_layers=True)
    assert engine.compiled_layers == model.config.num_hidden_layers
    if how == "closed":
        engine.close()
        assert engine.compiled_layers == 0
    del engine
    assert all(part._compiled_call_impl is None for part in model.modules())
    count = builds.count
    model(torch.tensor([[1, 2, 3]]), use_cache=False)
    assert builds.count == count


@pytest.mark.sweep
def test_layers_that_somebody_has_compiled_stay_so() -> None:
    model = EVERY["llama"].build()
    model.model.layers[0].compile(backend=Builds())
    theirs = model.model.layers[0]._compiled_call_impl
    with Engine(model, compile_layers=True) as engine:
        assert engine.compiled_layers == model.config.num_hidden_layers - 1
    assert model.model.layers[0]._compiled_call_impl is theirs
    for layer in model.model.layers[1:]:
        layer.compile(backend=Builds())
    with pytest.raises(ConfigError, match=r"compile_layers is on, but .* not compiled already"):
        Engine(model, compile_layers=True)


def test_what_cannot_be_compiled_is_told_and_the_model_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(graph: nn.Module, inputs: list[Any]) -> Callable[..., Any]:
        raise RuntimeError("there is no compiler.\nAnd more.")

    monkeypatch.setattr(compiled_layers, "BACKEND", failing)
    model = EVERY["llama"].build()
    implementation = model.config._attn_implementation
    said = r"compile_layers is on, but torch.compile fails on LlamaForCausalLM here \(.*no compiler"
    with pytest.raises(ConfigError, match=said) as caught:
        Engine(model, compile_layers=True)
    assert "\n" not in str(caught.value)
    assert model.config._attn_implementation == implementation
    assert all(part._compiled_call_impl is None for part in model.modules())


# -- what does not go with it


def test_compiled_layers_are_not_recorded_on_a_cpu() -> None:
    model = EVERY["llama"].build()
    with pytest.raises(ConfigError, match=r"graphs is on, but .* torch.compile .* leave it out"):
        Engine(model, compile_layers=True, graphs=True)
    with Engine(model, compile_layers=True) as engine:
        block = engine.block()
        for token in range(1, 12):
            engine.forward([Feed(block, [block], [token])])
        assert engine.graphs == 0


def test_a_model_in_several_processes_is_not_compiled() -> None:
    with pytest.raises(ConfigError, match=r"compile_layers is on, but .* several processes"):
        ParallelEngine(EVERY["llama"].build(), compile_layers=True)
