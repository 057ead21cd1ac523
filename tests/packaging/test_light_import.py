"""The engine is usable with torch and transformers alone, and a bare import loads neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME_ONLY = ("anyio", "click", "jinja2", "pydantic", "rich", "structlog", "typer")

# A None in sys.modules reads as "not installed", to an import and to find_spec alike: transformers
# asks by find_spec what is there, and a finder that raises would break that question.
REFUSE = f"import sys\nfor name in {RUNTIME_ONLY}:\n    sys.modules[name] = None\n"


def run(code: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_engine_needs_torch_and_transformers_only(tmp_path: Path) -> None:
    code = (
        "sys.modules['triton'] = None\n"
        "from hogwild_agents import Engine, Feed\nprint(Engine.__name__, Feed.__name__)"
    )
    assert run(REFUSE + code, tmp_path) == "Engine Feed"


@pytest.mark.sweep
def test_the_benchmark_needs_torch_and_transformers_only(tmp_path: Path) -> None:
    code = (
        "from hogwild_agents.bench.__main__ import main\n"
        "print(main('--preset tiny --workers 1 --context 16 --rounds 1 --ticks 1 --no-compile'"
        ".split()))"
    )
    said = run(REFUSE + code, tmp_path)
    assert said.endswith("\n0")
    assert "What a team adds was not measured" in said


def test_bare_import_loads_no_dependency(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", *RUNTIME_ONLY)
    code = f"import sys, hogwild_agents\nprint([n for n in {heavy} if n in sys.modules])"
    assert run(code, tmp_path) == "[]"


def test_plugins_are_imported_under_their_installed_names(tmp_path: Path) -> None:
    code = (
        "import hogwild_agents.policies, hogwild_agents.prompts, importlib.resources as resources\n"
        "files = resources.files('hogwild_agents.prompts').iterdir()\n"
        "print(any(file.name.endswith('.md') for file in files))"
    )
    assert run(code, tmp_path) == "True"
