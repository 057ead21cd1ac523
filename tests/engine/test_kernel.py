"""The kernel for GPUs, interpreted on the CPU: equal to torch, and to the oracle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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
    worst = interpreted(kernel_checks.follow_the_oracle, family)
    assert 0 < worst <= TOLERANCE


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


@pytest.mark.parametrize("name", ["sinks", "mla"])
def test_the_command_runs_where_triton_interprets(interpreted: Interpreter, name: str) -> None:
    arguments = "--device", "cpu", "--tiny", "--only", name
    assert interpreted(kernel_checks.run_the_command, *arguments) == 0


def test_a_working_triton_is_relied_on(interpreted: Interpreter) -> None:
    interpreted(kernel_checks.try_the_device)


def test_interpreting_is_nothing_that_other_tests_see(interpreted: Interpreter) -> None:
    before = kernel_checks.setting()
    assert interpreted(kernel_checks.setting) == "1"
    assert kernel_checks.setting() == before


def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    """What an interpreter lets pass, such as types, a compiler does not."""
    command = [sys.executable, "-m", "tests.engine.compiled", "80", "90"]
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if "hogwild_attend" in line:
            assert "cp.async" in line  # keys are fetched ahead, 16 bytes at a time
            assert "mma" in line  # and multiplied by tensor cores
