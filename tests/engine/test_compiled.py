"""What numba has compiled is used again only for as long as all that it was made of is the same."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from hogwild_agents.engine import compiled

ENGINE = Path(compiled.__file__).parent


@pytest.mark.parametrize("changed", compiled.KERNELS)
def test_another_text_of_any_kernel_has_another_number(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in compiled.KERNELS:
        (tmp_path / name).write_bytes((ENGINE / name).read_bytes())
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    before = compiled._sources()
    (tmp_path / changed).write_text((tmp_path / changed).read_text() + "\n")
    assert compiled._sources() not in (before, 0)


def test_all_modules_with_code_for_numba_are_known() -> None:
    found = [path.name for path in ENGINE.glob("*.py") if "@njit" in path.read_text()]
    assert sorted((*found, "forms.py")) == sorted(compiled.KERNELS)


CALLED = "from numba import njit\n\n@njit\ndef called():\n    return {}\n"
CALLING = """
from numba import cfunc, types
from called import called

def calling(sources):
    def run():
        if sources:
            return called()
        return 0
    return run

print(cfunc(types.int64(), cache=True)(calling(int(open('number').read()))).ctypes())
"""


@pytest.mark.skipif(not compiled.works(), reason="nothing can be compiled here")
def test_numba_keeps_a_function_by_the_number_that_it_closes_over(tmp_path: Path) -> None:
    """Of files it looks at the function's own alone."""
    found = []
    for result, number in ((1, 7), (2, 8)):
        (tmp_path / "called.py").write_text(CALLED.format(result))
        (tmp_path / "calling.py").write_text(CALLING)
        (tmp_path / "number").write_text(str(number))
        done = subprocess.run(
            [sys.executable, "-B", "calling.py"],
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        found.append(int(done.stdout))
    assert found == [1, 2]
