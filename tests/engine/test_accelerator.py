"""On a device that is not the CPU an engine gives the same, mixes no devices and reads little."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from tests.engine.families import SUPPORTED

FAMILIES = ("qwen3", "llama", "gemma2", "gpt-oss", "mixtral", "deepseek-v3")
READ = {
    "dbrx", "jetmoe", "longcat-flash", "phi3-longrope", "phi3-longrope-long", "phi3.5-moe",
    "phi4-mini",
}  # fmt: skip
"""Families whose own forward looks at numbers on the way, with some of transformers' versions."""


def lines(*names: str, program: str = "accelerator") -> list[dict[str, Any]]:
    """Return what the device's own process found: once it is there, torch has it for good."""
    command = [sys.executable, "-m", f"tests.engine.{program}", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def are_right(families: list[str]) -> None:
    found = {line.pop("family"): line for line in lines(*families)}
    assert [*found] == families
    for family, line in found.items():
        assert line["error"] < 1e-4, family
        assert family in READ or line["read"] == [["item", []]], family


def test_an_engine_there_gives_the_cpus_logits_and_reads_one_number_a_tick() -> None:
    are_right([*FAMILIES])


@pytest.mark.sweep
def test_every_familys_engine_there_gives_the_cpus_logits() -> None:
    are_right([family for family in SUPPORTED if family not in FAMILIES])


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_kernels_there_are_given_what_lies_there_which_takes_two_transfers_a_tick() -> None:
    for line in lines("qwen3", "gpt-oss", program="far_kernels"):
        assert line["error"] < 1e-4
        assert {"attention", "norms"} <= {*line["kernels"]}
        assert line["read"] == [["item", []]]
        assert len(line["written"]) == 2  # ids and positions, and who reads what


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_what_is_recorded_there_neither_waits_nor_brings_anything() -> None:
    for line in lines("recorded", "qwen3", "deepseek-v3", program="far_kernels"):
        assert line["graphs"]
        assert line["error"] < 1e-4
        assert line["read"] == [["item", []]]
        assert len(line["written"]) == 2  # into the places of what was recorded


def test_nothing_is_brought_there_for_a_token_but_the_ids_that_a_penalty_counts() -> None:
    found = lines("scores")
    assert found
    for line in found:
        assert line["error"] < 1e-6, line["way"]
        penalty = "repetition_penalty=1.0" not in line["way"]
        assert line["written"] == [[1, 3]] * penalty, line["way"]


def test_without_float64_tokens_are_drawn_as_on_the_cpu_by_one_transfer() -> None:
    found = lines("tokens")
    assert found
    for line in found:
        assert line["there"] == line["here"], line["way"]
        assert line["read"] == [["to", [4, 300]]] * 3, line["way"]
