"""``hogwild bench`` from end to end, on the tiny preset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from hogwild_agents.bench import floors, presets, run as module
from hogwild_agents.bench.__main__ import main
from hogwild_agents.bench.report import (
    BATCH,
    CONCATENATING,
    ENGINE,
    OWN,
    PLAIN,
    PRODUCTS,
    SINGLE,
)
from hogwild_agents.cli.app import call
from hogwild_agents.engine import compiled_layers

QUICK = ["--preset", "tiny", "--rounds", "2", "--ticks", "1", "--threads", "1"]


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the bandwidth of a cache: it is quicker, and no figure counts here."""
    monkeypatch.setitem(floors.BUFFER, "cpu", 1 << 20)


def test_a_benchmark_prints_tables_and_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "b.json"), "--plot", str(tmp_path / "b.svg")]
    asked = [*QUICK, "--workers", "1,2", "--context", "64", "--no-compile", *files]
    threads = torch.get_num_threads()
    assert call(["bench", *asked]) == 0
    assert torch.get_num_threads() == threads
    said = capsys.readouterr()
    assert "Context 64, 1 worker ..." in said.err
    found = json.loads((tmp_path / "b.json").read_text())
    cells = found["cells"]
    assert [(one["context"], one["workers"]) for one in cells] == [(64, 1), (64, 2)]
    own = {OWN} if "products" in found["model"]["kernels"] else set()
    expected = {ENGINE, SINGLE, PLAIN, CONCATENATING, PRODUCTS} | own
    assert cells[0]["ms_per_tick"].keys() == expected
    assert cells[1]["ms_per_tick"].keys() == cells[0]["ms_per_tick"].keys() | {BATCH}
    keys_and_values = 64 * found["model"]["bytes_per_token"]
    assert [one["bytes_read"]["keys_and_values"] for one in cells] == [keys_and_values] * 2
    assert set(found["ways"]["64"]["tried_ms"]) == {
        "DynamicCache, sdpa",
        "DynamicCache, eager",
        "StaticCache, sdpa",
        "StaticCache, eager",
    }
    assert [one["workers"] for one in found["runtime"]] == [1, 2]
    machine = found["machine"]
    assert machine["versions"]["torch"] == metadata.version("torch")
    assert machine["threads"] == 1
    assert {"date", "device", "commit"} <= machine.keys()
    assert found["model"]["dtype"] == "bfloat16"
    assert said.out.startswith("tiny, bfloat16, on ")
    assert (tmp_path / "b.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ([], lambda model: model["graphs"] and not model["int8_bytes"]),
        (["--no-graphs"], lambda model: not model["graphs"]),
        (["--no-kernels"], lambda model: not model["kernels"]),
        (["--int8-weights"], lambda model: model["int8_bytes"]),
        (["--compile-layers"], lambda model: model["compiled_layers"]),
    ],
)
def test_what_is_asked_of_the_engine_reaches_it(
    asked: list[str],
    holds: Callable[[dict[str, Any]], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What torch.compile has traced is computed by torch: no compiler is needed, and no time.
    monkeypatch.setattr(compiled_layers, "BACKEND", lambda graph, inputs: graph.forward)
    file = tmp_path / "b.json"
    quick = [*QUICK, "--workers", "1", "--context", "64", "--no-compile", "--json", str(file)]
    assert main([*quick, *asked]) == 0
    assert holds(json.loads(file.read_text())["model"])


def test_a_path_is_measured_as_a_preset_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hogwild_agents.bench.presets import PRESETS, random_model

    random_model(PRESETS["tiny"].config(), torch.float32, torch.device("cpu")).save_pretrained(
        tmp_path
    )
    asked = ["--workers", "1", "--context", "32", "--rounds", "1", "--ticks", "1", "--no-compile"]
    assert main(["--model", str(tmp_path), *asked]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}, float32, on ")


def test_what_needs_more_memory_than_there_is_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "available", lambda device: 50_000)
    assert main([*QUICK, "--workers", "2", "--context", "64", "--no-compile"]) == 0
    said = capsys.readouterr().out
    assert "2 workers at context 64: batch is left out: it would take" in said
    assert "concatenating is left out" not in said


def test_an_interrupted_benchmark_shows_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_runtime", interrupted)
    file = tmp_path / "b.json"
    asked = [*QUICK, "--workers", "1", "--context", "64", "--no-compile", "--json", str(file)]
    assert main(asked) == 130
    found = json.loads(file.read_text())
    assert found["complete"] is False
    assert len(found["cells"]) == 1
    assert "Interrupted: this is what was measured until then." in capsys.readouterr().out


def test_a_benchmark_that_is_cut_short_leaves_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise SystemExit

    monkeypatch.setattr(module, "measure_runtime", killed)
    file = tmp_path / "b.json"
    asked = [*QUICK, "--workers", "1", "--context", "64", "--no-compile", "--json", str(file)]
    with pytest.raises(SystemExit):
        main(asked)
    found = json.loads(file.read_text())
    assert found["complete"] is False
    assert found["cells"][0]["ms_per_tick"][ENGINE]["median"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "qwen9"], "There is no preset 'qwen9'"),
        (["--preset", "qwen3-8b", "--dtype", "fp32"], "weights of qwen3-8b would take 30.5 GiB"),
        (["--preset", "tiny", "--model", "x"], "a preset or a model"),
        (["--context", "4m"], "--context cannot be '4m'"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--preset", "tiny", "--context", "200k", "--workers", "1"], "the model's context has"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presets, "available", lambda device: 2**33)
    assert call(["bench", *arguments]) == 2
    (line,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("hogwild: ")
    ]
    assert said in line


@pytest.mark.parametrize("command", [["hogwild_agents", "bench"], ["hogwild_agents.bench"]])
def test_a_hub_that_cannot_be_reached_is_asked_once(command: list[str], tmp_path: Path) -> None:
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    nobody = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *command, "--model", "nope"],
        env={**kept, **nobody},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    making, sentence = done.stderr.splitlines()
    assert making == "Making nope ..."
    assert sentence.startswith("hogwild: The model 'nope' is neither a folder here nor in the ")
