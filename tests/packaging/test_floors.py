"""Imports only go down: engine, runtime, plug-ins, faces."""

from __future__ import annotations

import sys

import pytest

import hogwild_agents
from tests.packaging.source_tree import (
    PACKAGE,
    Import,
    imports_of,
    imports_of_module,
    modules,
)

ERRORS = f"{PACKAGE}.errors"
ENGINE = f"{PACKAGE}.engine"
FACES = tuple(f"{PACKAGE}.{name}" for name in ("__main__", "bench", "cli", "testing"))
PLUGINS = (f"{PACKAGE}.policies", f"{PACKAGE}.prompts")
TENSORS = {"torch", "transformers"}
MAY_COMPILE = {
    library: tuple(f"{ENGINE}.{name}" for name in names.split())
    for library, names in (
        ("triton", "gpu_attention gpu_rows gpu_tick"),
        (
            "numba",
            "compiled vectors cpu_amx cpu_amx_attention cpu_attention cpu_tiles cpu_products "
            "cpu_norms cpu_gates cpu_elementwise cpu_blas cpu_jobs",
        ),
        (
            "llvmlite",
            "vectors cpu_amx cpu_amx_attention cpu_attention cpu_tiles cpu_products cpu_blas "
            "cpu_jobs",
        ),
    )
}
# The runtime's only doors to torch and transformers; the others see tensors at most as a type.
MAY_LOAD_TENSORS = tuple(
    f"{PACKAGE}.{name}"
    for name in (
        "bundled",
        "checkpoint",
        "model_class",
        "models",
        "quantization",
        "room",
        "rope_scaling",
        "shards",
        "weights",
    )
)


def floor(module: str) -> str:
    if module == ERRORS:
        return "errors"
    if Import(module=module).inside(ENGINE):
        return "engine"
    if Import(module=module).inside(*FACES):
        return "faces"
    for plugin in PLUGINS:
        if Import(module=module).inside(plugin):
            return plugin
    return "package" if module == PACKAGE else "runtime"


def allowed(module: str, found: Import) -> bool:
    """Whether the floor of ``module`` lets it make the import ``found``."""
    ours = found.top == PACKAGE
    match floor(module):
        case "errors":
            return found.top in sys.stdlib_module_names
        case "engine":
            if ours:
                return found.inside(ERRORS, ENGINE)
            if found.top in MAY_COMPILE:
                return module in MAY_COMPILE[found.top]
            return found.top in {*TENSORS, "numpy", *sys.stdlib_module_names}
        case "runtime":
            if found.top in TENSORS:
                return found.type_only or Import(module=module).inside(*MAY_LOAD_TENSORS)
            return not found.inside(*PLUGINS, *FACES)
        case "faces" | "package":
            return True
        case plugin:
            exported = found.module == PACKAGE and found.name in {None, *hogwild_agents.__all__}
            return not ours or exported or found.inside(plugin)


@pytest.mark.parametrize("module", modules())
def test_imports_only_go_down(module: str) -> None:
    wrong = [str(found) for found in imports_of_module(module) if not allowed(module, found)]
    assert not wrong, f"{module} ({floor(module)}) may not: {'; '.join(wrong)}"


def test_every_floor_has_modules() -> None:
    floors = {floor(module) for module in modules()}
    assert floors == {"errors", "engine", "runtime", "faces", "package", *PLUGINS}
    assert set(MAY_LOAD_TENSORS) <= set(modules())


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("hogwild_agents.errors", "from hogwild_agents import Engine"),
        ("hogwild_agents.engine.pool", "import anyio"),
        ("hogwild_agents.engine.pool", "import hogwild_agents.text"),
        ("hogwild_agents.engine.pool", "import triton"),
        ("hogwild_agents.engine.pool", "from .. import text"),
        ("hogwild_agents.engine.pool", "from ..text import TextStream"),
        ("hogwild_agents.engine.pool", "def f():\n    from hogwild_agents import Team"),
        ("hogwild_agents.team", "from hogwild_agents.policies import Finisher"),
        ("hogwild_agents.team", "from hogwild_agents import prompts"),
        ("hogwild_agents.team", "from .cli import app"),
        ("hogwild_agents.team", "from hogwild_agents.testing import Recorder"),
        ("hogwild_agents.team", "import torch"),
        ("hogwild_agents.team", "def f():\n    from transformers import AutoModel"),
        ("hogwild_agents.team", "if TYPE_CHECKING:\n    from hogwild_agents.cli import app"),
        ("hogwild_agents.policies.finisher", "from hogwild_agents.worker import Worker"),
        ("hogwild_agents.policies.finisher", "from ..worker import Worker"),
        ("hogwild_agents.policies.finisher", "from hogwild_agents import no_such_export"),
        ("hogwild_agents.policies.finisher", "import hogwild_agents.worker"),
        ("hogwild_agents.policies.finisher", "from hogwild_agents.prompts import read"),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, statement: str) -> None:
    assert not all(allowed(module, found) for found in imports_of(statement, module))


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("hogwild_agents.engine.pool", "from .block import CacheBlock\nimport math, torch.nn"),
        ("hogwild_agents.engine.pool", "from ..errors import CacheFullError"),
        ("hogwild_agents.team", "from .engine import Engine\nimport anyio, structlog"),
        ("hogwild_agents.team", "if TYPE_CHECKING:\n    from torch import Tensor"),
        ("hogwild_agents.models", "import torch\nfrom hogwild_agents import bundled"),
        ("hogwild_agents.policies.finisher", "from hogwild_agents import Engine\nimport re"),
        ("hogwild_agents.policies.finisher", "from .answer import find\nimport hogwild_agents"),
        ("hogwild_agents.cli.app", "from hogwild_agents.policies import Finisher"),
        ("hogwild_agents.testing.tiny", "import torch\nfrom ..models import load_model"),
    ],
)
def test_an_import_that_goes_down_is_allowed(module: str, statement: str) -> None:
    assert all(allowed(module, found) for found in imports_of(statement, module))
