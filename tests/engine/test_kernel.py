"""The kernel for GPUs, interpreted on the CPU: equal to torch, and to the oracle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from hogwild_agents.bench.scene import Case
from tests.engine import kernel_checks
from tests.engine.interpreter import Interpreter
from tests.engine.twin import TOLERANCE

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

FAMILIES = (
    "llama", "mistral-window", "gpt-oss", "gemma2", "phi", "glm", "deepseek-v3", "llama4",
)  # fmt: skip


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Interpreter]:
    """Where Triton interprets."""
    with Interpreter() as interpreter:
        yield interpreter


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_gives_the_oracles_logits(interpreted: Interpreter, family: str) -> None:
    worst, kernels = interpreted(kernel_checks.follow_the_oracle, family)
    assert 0 < worst <= TOLERANCE
    assert "attention" in kernels
    assert ("norms" in kernels) == (family != "phi")
    assert ("gates" in kernels) == (family not in ("phi", "gpt-oss"))


def test_the_norms_are_those_of_models(interpreted: Interpreter) -> None:
    interpreted(kernel_checks.norm_as_models_do)


def test_the_gates_are_those_of_models(interpreted: Interpreter) -> None:
    interpreted(kernel_checks.gate_as_models_do)


def test_the_kernel_equals_torch_in_any_case(interpreted: Interpreter) -> None:
    interpreted(kernel_checks.equal_torch)


def test_the_same_launches_serve_growing_contexts(interpreted: Interpreter) -> None:
    assert interpreted(kernel_checks.serve_growing_contexts) >= 5


@pytest.mark.parametrize("family", ["llama", "llama4"])
def test_recorded_launches_give_the_oracles_logits(interpreted: Interpreter, family: str) -> None:
    assert interpreted(kernel_checks.replay_growing_contexts, family) >= 2


def test_what_fills_a_tick_up_changes_nothing(interpreted: Interpreter) -> None:
    assert interpreted(kernel_checks.replay_growing_contexts, "llama", 4) >= 2


@pytest.mark.sweep
def test_a_wrong_table_would_be_seen(interpreted: Interpreter) -> None:
    errors = interpreted(kernel_checks.spoil, Case(key_dim=16, value_dim=16, turning=16, shared=9))
    assert min(errors) > 1e-2


@pytest.mark.parametrize("name", ["sinks", "mla", "norms and gates"])
def test_the_command_runs_where_triton_interprets(interpreted: Interpreter, name: str) -> None:
    arguments = "--device", "cpu", "--tiny", "--only", name
    assert interpreted(kernel_checks.run_the_command, *arguments) == 0


def test_a_working_triton_is_relied_on(interpreted: Interpreter) -> None:
    interpreted(kernel_checks.try_the_device)


def test_interpreting_is_nothing_that_other_tests_see(interpreted: Interpreter) -> None:
    before = kernel_checks.setting()
    assert interpreted(kernel_checks.setting) == "1"
    assert kernel_checks.setting() == before


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What became of the kernels for GPUs that are not here."""
    command = [sys.executable, "-m", "tests.engine.compiled", "80", "86", "90"]
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(map(json.loads, done.stdout.splitlines()))


def test_the_kernels_compile_for_gpus_that_are_not_here(built: list[dict[str, Any]]) -> None:
    """What an interpreter lets pass, such as types, a compiler does not."""
    kernels = [(one["kernel"], one["instructions"]) for one in built if "kernel" in one]
    assert len(kernels) == 15
    for name, instructions in kernels:
        if name == "hogwild_attend":
            assert "cp.async.cg" in instructions  # keys are fetched ahead, 16 bytes at a time
            assert "mma" in instructions  # and multiplied by tensor cores


def test_programs_take_no_more_fast_memory_than_there_is(built: list[dict[str, Any]]) -> None:
    """Else it would not start, or be alone on its multiprocessor."""
    cuts = [one for one in built if "cut" in one]
    assert len(cuts) == 27
    for one in cuts:
        assert one["shared"] <= one["said"], one
        assert one["said"] <= one["most"] or one["stages"] == 1, one
        assert one["shared"] <= one["most"], one
        assert one["said"] <= 1.5 * one["shared"], one


def test_keys_and_values_come_while_others_are_multiplied(built: list[dict[str, Any]]) -> None:
    ahead = [one for one in built if one.get("stages", 0) > 2]
    assert len(ahead) > 20
    for one in ahead:
        assert one["under way"] == 2 * (one["stages"] - 2), one
