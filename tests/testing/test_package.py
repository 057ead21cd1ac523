"""The package: its names, and what importing it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hogwild_agents.testing
from hogwild_agents.testing import Line, Reply, Script, scripted_model

PUBLIC = {
    "ByteTokenizer",
    "Line",
    "Recorder",
    "Reply",
    "Script",
    "assert_integrity",
    "assert_order",
    "assert_replays",
    "assert_said",
    "scripted_model",
    "tiny_model",
}


def run(code: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names_are_these() -> None:
    assert set(hogwild_agents.testing.__all__) == PUBLIC
    for name in PUBLIC:
        found = getattr(hogwild_agents.testing, name)
        assert getattr(found, "__name__", name) == name


def test_scripts_can_be_annotated() -> None:
    line: Line = lambda view: view[-1]  # noqa: E731
    script: Script = ["One.\n\n", line]
    reply: Reply = {"yes": 0.75}
    model = scripted_model({"Ada": script}, answers={"Ada": {"Sure?": reply}})
    assert model.name == "scripted"


def test_a_bare_import_loads_no_dependency(tmp_path: Path) -> None:
    code = (
        "import sys, hogwild_agents.testing\n"
        "print([n for n in ('torch', 'transformers', 'anyio', 'pydantic') if n in sys.modules])"
    )
    assert run(code, tmp_path) == "[]"


def test_no_test_framework_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('pytest', 'hypothesis', 'trio'):\n    sys.modules[name] = None\n"
        "from hogwild_agents.testing import *\nprint(scripted_model({}).name)"
    )
    assert run(code, tmp_path) == "scripted"
