"""What README and docs/ show works as it stands there."""

import json
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
BLOCKS = {
    str(page.relative_to(ROOT)): [
        (page.read_text()[: found.start()].count("\n") + 1, found[1], found[2])
        for found in BLOCK.finditer(page.read_text())
    ]
    for page in PAGES
    if BLOCK.search(page.read_text())
}
"""The Python of each page: the line above it, the code, and what it is said to print."""
MARK = "---- the next block ----"
RUN = f"""
import json, sys

for page, line, code in json.load(sys.stdin):
    program = compile("\\n" * line + code, page, "exec")
    exec(program, {{"__name__": "__main__"}})
    print("{MARK}", flush=True)
"""
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


def test_every_python_block_runs_and_prints_what_stands_below(tmp_path: Path) -> None:
    """All in one process, each with names of its own: to start one takes the longest."""
    blocks = [(page, line, code) for page in BLOCKS for line, code, _ in BLOCKS[page]]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(blocks),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split(f"{MARK}\n")
    assert len(printed) == len(blocks) + 1
    said = [(f"{page}:{line}", output) for page in BLOCKS for line, _, output in BLOCKS[page]]
    for (where, output), found in zip(said, printed[:-1], strict=True):
        assert output is None or found.strip() == output.strip(), where


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


def test_examples_with_scripted_text_are_named() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    intro = page.partition("| example |")[0]
    scripted = [
        path.name
        for path in (ROOT / "examples").glob("*.py")
        if "scripted_model(" in path.read_text(encoding="utf-8")
    ]
    named = set(re.findall(r"`(\w+\.py)`", intro))
    assert named == set(scripted) != set()
