"""What can be split over processes, and what is said of the rest, before any weights are read."""

from __future__ import annotations

from typing import Any

import pytest

from hogwild_agents import load_model, shards
from hogwild_agents.errors import ModelError, UnsupportedModelError
from hogwild_agents.shards import Launch, find_launch, split_options
from tests.engine.families import EVERY
from tests.parallel.processes import SHARES_EXPERTS

shares_experts = pytest.mark.skipif(
    not SHARES_EXPERTS, reason="this transformers cannot share out the experts of gpt-oss"
)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment as torchrun makes it for the second of two processes."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    return monkeypatch


def options(family: str, **changes: Any) -> dict[str, Any]:
    return split_options(EVERY[family].configuration(**changes), family)


def test_a_process_alone_is_not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert find_launch() is None
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert find_launch() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert find_launch() == Launch(0, 2)


@pytest.mark.parametrize("family", ["llama", "qwen3-moe", "gemma3", "phi3", "deepseek-v3"])
def test_transformers_plan_is_taken(family: str, processes: pytest.MonkeyPatch) -> None:
    config = options(family)["distributed_config"]
    assert (config.tp_size, config.tp_plan) == (2, "auto")


@shares_experts
def test_gpt_oss_is_split_by_heads_and_experts(processes: pytest.MonkeyPatch) -> None:
    config = options("gpt-oss")["distributed_config"]
    assert (config.tp_size, config.ep_size) == (2, 2)
    assert config.tp_plan["model.layers.*.self_attn.sinks"] == "colwise"


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("llama", {"num_key_value_heads": 1}, "its 1 key-value heads cannot be shared out evenly"),
        ("llama", {"num_attention_heads": 3, "num_key_value_heads": 3}, "its 3 attention heads"),
        ("gemma4", {}, "its 1 key-value heads"),
        pytest.param("gpt-oss", {"num_local_experts": 3}, "its 3 experts", marks=shares_experts),
        ("gemma3n", {}, "its MLPs pick the largest of all their activations"),
        ("stablelm", {}, "no tensor-parallel plan for its layers"),
    ],
)
def test_what_cannot_be_split_exactly_is_refused(
    family: str, changes: dict[str, Any], reason: str, processes: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        options(family, **changes)


def test_heads_that_are_not_split_need_not_come_out_even(processes: pytest.MonkeyPatch) -> None:
    assert options("phi3", num_key_value_heads=1)


def test_one_process_cannot_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ModelError, match="torchrun --nproc-per-node"):
        load_model(tensor_parallel=True)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"device": "cpu"}, "the device 'cpu'"),
        ({"model_options": {"device_map": "auto"}}, "'device_map' in model_options"),
    ],
)
def test_a_model_goes_to_one_place_only(
    more: dict[str, Any], named: str, processes: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=named):
        load_model(tensor_parallel=True, **more)


def test_accelerate_is_asked_for_by_name(processes: pytest.MonkeyPatch) -> None:
    processes.setattr(shards, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install -e "\.\[large\]"'):
        options("llama")
