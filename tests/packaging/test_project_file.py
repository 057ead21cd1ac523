"""pyproject.toml says what is in the tree: packages, data, dependencies, version."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.source_tree import PACKAGE, PACKAGE_DIRS, ROOT, imports_of_module, modules

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL = {"triton"}  # imported only where it is found
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def directory_of(package: str) -> Path:
    """Where setuptools takes a package from, by its longest mapped parent."""
    mapped = SETUPTOOLS["package-dir"]
    parent = max((p for p in mapped if f"{package}.".startswith(f"{p}.")), key=len)
    rest = package.removeprefix(parent).strip(".").split(".")
    return Path(ROOT, mapped[parent], *rest)


def test_every_package_of_the_tree_is_listed() -> None:
    packages = {
        name if path.name == "__init__.py" else name.rpartition(".")[0]
        for name, path in modules().items()
    }
    assert set(SETUPTOOLS["packages"]) == packages
    assert {name: ROOT / where for name, where in SETUPTOOLS["package-dir"].items()} == PACKAGE_DIRS


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_listed_package_has_an_init(package: str) -> None:
    assert (directory_of(package) / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("package", "pattern"),
    [
        (package, pattern)
        for package, found in SETUPTOOLS["package-data"].items()
        for pattern in found
    ],
)
def test_every_data_pattern_finds_files(package: str, pattern: str) -> None:
    assert any(path.is_file() for path in directory_of(package).glob(pattern))


@pytest.mark.parametrize("package", [package for package in PACKAGE_DIRS if package != PACKAGE])
def test_type_checker_sees_mapped_packages_under_their_installed_names(package: str) -> None:
    link = ROOT / ".typing" / Path(*package.split("."))
    assert link.resolve() == directory_of(package).resolve()


def test_dependencies_are_what_is_imported() -> None:
    declared = {
        canonical(re.split(r"[^\w.-]", requirement)[0])
        for requirement in PROJECT["project"]["dependencies"]
    }
    tops = {found.top for module in modules() for found in imports_of_module(module)}
    distributions = metadata.packages_distributions()
    imported = {
        canonical(distributions.get(top, [top])[0])
        for top in tops - sys.stdlib_module_names - {PACKAGE} - OPTIONAL
    }
    assert imported == declared


def test_torch_stays_below_2_14() -> None:
    (torch,) = [r for r in PROJECT["project"]["dependencies"] if r.startswith("torch")]
    assert torch.endswith("<2.14")


def test_changelog_speaks_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(
        r"^## \[(\d+\.\d+\.\d+)\] - (?:\d{4}-\d\d-\d\d|unreleased)$", changelog, re.M
    )
    assert heading is not None
    assert heading[1] == PROJECT["project"]["version"]
