"""What README and docs/ show works as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs.markdown import slugs
from hogwild_agents.cli.app import call
from hogwild_agents.config import RunConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)[^)]*\)|src=\"([^\"]+)\"")
BLOCKS = [
    pytest.param(
        found[1],
        found[2],
        id=f"{page.relative_to(ROOT)}:{page.read_text()[: found.start()].count(chr(10)) + 1}",
    )
    for page in PAGES
    for found in BLOCK.finditer(page.read_text())
]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    {
        line[line.index("hogwild ") :]
        for page in PAGES
        for block in SHELL.findall(page.read_text())
        for line in block.splitlines()
        if "hogwild " in line
    }
)


def test_there_are_blocks_to_run() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_every_python_block_runs_and_prints_what_stands_below(
    code: str, output: str | None, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert done.stdout.strip() == output.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for found in LINK.finditer(page.read_text()):
        target = page.parent / (found[1] or found[2])
        assert target.exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    for file, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text()):
        target = page.parent / file if file else page
        if target.suffix == ".md":
            assert anchor in slugs(target.read_text()).values(), f"{page.name}: {file}#{anchor}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_options_that_there_are(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = shlex.split(command, comments=True)[1:]
    assert call([*arguments, "--help"]) == 0
    assert call([*arguments, "--no-such-option", "--help"]) == 2
    capsys.readouterr()


def test_files_of_options_can_be_loaded(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    blocks = [part.partition("```")[0] for part in page.split("```toml\n")[1:]]
    assert blocks
    for block in blocks:
        (tmp_path / "team.toml").write_text(block)
        assert RunConfig.load(tmp_path / "team.toml").model_fields_set


def test_examples_are_all_listed() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    listed = re.findall(r"\(\.\./examples/(\w+\.py)\)", page)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))
