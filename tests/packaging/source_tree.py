"""The source tree as the tests of the package see it: its modules, and what each imports."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "hogwild_agents"
# Where each part of the package stands: policies and prompts are mapped into it when it is built.
PACKAGE_DIRS = {
    PACKAGE: ROOT / PACKAGE,
    f"{PACKAGE}.policies": ROOT / "policies",
    f"{PACKAGE}.prompts": ROOT / "prompts",
}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported name; ``name`` is None for a plain ``import module``.

    ``type_only``: it stands under ``if TYPE_CHECKING``, so that nothing is loaded by it.
    """

    module: str
    name: str | None = None
    type_only: bool = False

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def inside(self, *packages: str) -> bool:
        """Whether it reaches one of the packages, as a module or as a name of its parent."""
        targets = [self.module]
        if self.name is not None:
            targets.append(f"{self.module}.{self.name}")
        return any(
            target == package or target.startswith(f"{package}.")
            for package in packages
            for target in targets
        )

    def __str__(self) -> str:
        if self.name is None:
            return f"import {self.module}"
        return f"from {self.module} import {self.name}"


def modules() -> dict[str, Path]:
    """Every module of the package: its dotted name, as installed, to its file."""
    return {
        _dotted(package, directory, path): path
        for package, directory in PACKAGE_DIRS.items()
        for path in sorted(directory.rglob("*.py"))
    }


def _dotted(package: str, directory: Path, path: Path) -> str:
    parts = [package, *path.relative_to(directory).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Every import statement in ``source``, those inside functions and type checks included."""
    tree = ast.parse(source)
    type_only = {
        id(statement)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
    }
    found: list[Import] = []
    for node in ast.walk(tree):
        quiet = id(node) in type_only
        if isinstance(node, ast.Import):
            found += [Import(module=alias.name, type_only=quiet) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            found += [Import(module=base, name=alias.name, type_only=quiet) for alias in node.names]
    return found


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def imports_of_module(module: str) -> list[Import]:
    path = modules()[module]
    source = path.read_text(encoding="utf-8")
    return imports_of(source, module, is_package=path.name == "__init__.py")
