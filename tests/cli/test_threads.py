"""The command leaves the cores to other programs while torch's threads wait."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import hogwild_agents
from hogwild_agents.cli import build, processes
from hogwild_agents.cli.app import call
from hogwild_agents.cli.build import loaded
from hogwild_agents.config import RunConfig
from hogwild_agents.engine import Engine

SHOW = """
import os, sys
from hogwild_agents.cli.app import main
sys.argv = ["hogwild", "--help"]
try:
    main()
finally:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "3000 False"),  # before torch is there, which looks but once
        ({"GOMP_SPINCOUNT": "7"}, "7 False"),
        ({"OMP_WAIT_POLICY": "active"}, "None False"),
    ],
)
def test_threads_sleep_soon_unless_the_environment_says_how_they_wait(
    given: dict[str, str], expected: str
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=environment | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == expected


def test_what_was_loaded_is_left_out_of_collections_until_it_is_closed() -> None:
    before = gc.get_freeze_count()
    with loaded(RunConfig(), quiet=True):
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0


PLAN = """
[task]
kind = "bundled"
problems = 1

[run]
budget = 3
"""


@pytest.mark.parametrize(
    "command",
    [
        "run --budget 3 --quiet",
        "run --config team.toml --quiet",
        "eval --problems 1 --workers 1 --no-isolated --budget 3",
        "model check",
        "model check --from-config",
        "experiment plan.toml",
    ],
)
def test_a_command_computes_with_as_many_threads_as_it_is_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    Path("team.toml").write_text("threads = 3\nbudget = 3")
    before, found, forward = torch.get_num_threads(), set[int](), Engine.forward

    def watched(*arguments: Any, **options: Any) -> Any:
        found.add(torch.get_num_threads())  # in the thread that computes
        return forward(*arguments, **options)

    monkeypatch.setattr(Engine, "forward", watched)
    given = [] if "team.toml" in command else ["--threads", "3"]
    assert call([*command.split(), *given]) in (0, 1)
    assert found == {3}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("tiny", [True, False])
def test_one_thread_computes_for_a_tiny_model_unless_told_otherwise(
    tiny: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tiny:
        monkeypatch.setattr(build, "TINY", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with loaded(RunConfig(), quiet=True):
            assert torch.get_num_threads() == (1 if tiny else 3)
        with loaded(RunConfig(threads=2), quiet=True):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_other_processes_of_a_model_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    messages, found, before = list[str](), list[object](), torch.get_num_threads()

    @contextmanager
    def load_model(**options: object) -> Iterator[SimpleNamespace]:
        found.extend([options["name"], torch.get_num_threads()])
        yield SimpleNamespace(follow=lambda: found.append(torch.get_num_threads()))

    monkeypatch.setattr(hogwild_agents, "load_model", load_model)
    monkeypatch.setattr(processes, "_send", messages.append)
    monkeypatch.setattr(processes, "_receive", lambda: messages.pop(0))
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    processes.tell({"name": "x"}, 3)
    processes.dismiss()
    with warnings.catch_warnings():
        assert processes.follow() == 0
    assert found == ["x", 3, 3]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("command", ["run", "eval", "model check", "experiment plan.toml", "bench"])
def test_no_threads_at_all_are_refused(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    assert call([*command.split(), "--threads", "0"]) == 2
    expected = "hogwild: --threads cannot be 0: it should be at least 1.\n"
    assert capsys.readouterr() == ("", expected)
