"""The command line: what cannot be done is one sentence on stderr and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from hogwild_agents.cli import app
from hogwild_agents.cli.app import call
from hogwild_agents.errors import ModelError
from hogwild_agents.layouts import LAYOUTS
from tests.cli.first_run import unprompted

swept = partial(pytest.param, marks=pytest.mark.sweep)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence that a call ends with."""
    assert call(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error = unprompted(captured.err)
    assert error.startswith("hogwild: ")
    assert error.count("\n") == 1
    return error.removeprefix("hogwild: ").rstrip()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nope"], "No such command 'nope': see `hogwild --help`."),
        (["mode"], "No such command 'mode'. Did you mean 'model'? See `hogwild --help`."),
        (["run", "--nope"], "No such option: --nope"),
        (["run", "a", "b"], "Got unexpected extra argument"),
        (["run", "--budget", "0", "x"], "--budget cannot be 0: it should be at least 1."),
        (
            ["run", "--budget", "many", "x"],
            "--budget cannot be 'many': it should be a whole number; ",
        ),
        (["run", "--workers", "0", "x"], "--workers cannot be 0: it should be at least 1."),
        (["run", "--seed", "-1", "x"], "--seed cannot be -1: it should be at least 0."),
        (["run", "--temperature", "-1", "x"], "--temperature cannot be -1.0: "),
        (
            ["run", "--temperature", "inf", "x"],
            "--temperature cannot be inf: it should be a finite",
        ),
        (
            ["run", "--workers", "9" * 20, "x"],
            f"--workers cannot be {'9' * 20}: it should be at mo",
        ),
        (
            ["run", "--threads", "100000", "x"],
            "--threads cannot be 100000: it should be at most 10",
        ),
        (["run", "a\udcff"], "The problem's text is no UTF-8 text: convert it first."),
        (["run", "--layout", "mesh", "x"], "--layout cannot be 'mesh': it should be 'combined'"),
        (
            ["run", "--layout", "combind", "x"],
            "--layout cannot be 'combind': did you mean 'combined'? It should be 'combined', ",
        ),
        (["run", "-n", "2", "-w", "Alice", "x"], "--workers and --worker exclude each other: "),
        (["run", "-w", "Al", "-w", "Al:x", "x"], "Two workers are called 'Al': give each a name"),
        (["run", "-w", ": x", "x"], "--worker ': x' has no name: write NAME or NAME:ROLE."),
        (["run", "--policy", "nope", "x"], "There is no policy 'nope': `hogwild policies` lists"),
        (["run", "--policy", "Finishr", "x"], "There is no policy 'Finishr': did you mean 'finish"),
        (["run", "--policy", "no_such_module:X", "x"], "The policy 'no_such_module:X' cannot be"),
        (
            ["run", "--policy", "./mine.py:X", "x"],
            "The policy './mine.py:X' names a file: give the ",
        ),
        (["run", "--revision", "v2", "x"], "The model 'bundled' is on this machine, and has no "),
        (
            ["run", "--model-option", "zzz=1", "x"],
            "The weights of ",
        ),
        (["run", "--no-policies", "--policy", "finisher", "x"], "--policy and --no-policies "),
        (["run", "--no-policies", "--check-every", "9", "x"], "check_every is 9, but the policy "),
        (["run", "--quiet", "--json", "x"], "--quiet and --json exclude each other: "),
        (["run", "--quiet", "--pace", "8", "x"], "--pace is for the live view, which --quiet, "),
        (
            ["run", "--pace", "0", "x"],
            "--pace cannot be '0': it should be at least 0.1; see `hogwild ",
        ),
        (["run", "--config", "no.toml", "x"], "The config no.toml cannot be read (No such file"),
        (["run", "--file", "no.txt"], "The problem's file 'no.txt' cannot be read (No such file"),
        (["run", "--file", "no.txt", "x"], "There are two problems, an argument and --file: "),
        (["run", "--save", "no/where.jsonl", "x"], "The transcript's file 'no/where.jsonl' is in"),
        (["run", "--save", ".", "x"], "The transcript's file '.' is a folder: name another one."),
        (["run", " \n "], "The problem is empty: give the team something to solve."),
        (["run", "--model", "./no-such-folder"], "There is no model folder './no-such-folder'"),
        (["run", "--model", "bundle"], "There is no model 'bundle': did you mean 'bundled'?"),
        (["run", "--model", "Qwen/Qwen3-8B"], "There is no problem for 'Qwen/Qwen3-8B': give one"),
        (["run", "--model", "nope.gguf"], "There is no file 'nope.gguf': give the path of a .ggu"),
        (["run", "--model", "nope.gguf", "x"], "There is no file 'nope.gguf': give the path of a "),
        (["eval", "--model", "a/nope.gguf"], "There is no file 'a/nope.gguf': give the path of a"),
        (["model", "check", "nope.gguf"], "There is no file 'nope.gguf': give the path of a .ggu"),
        (
            ["run", "--model", "./no-such-folder", "x"],
            "There is no model folder './no-such-folder'",
        ),
        (["run", "--device", "abacus", "x"], "There is no device 'abacus': give 'auto', "),
        (["run", "--dtype", "int3", "x"], "The dtype 'int3' cannot be used: give 'auto', "),
        (["run", "--prompt", "nothing", "x"], "There is no prompt 'nothing' in the package: `hog"),
        (
            ["run", "--prompt", "colaborate", "x"],
            "There is no prompt 'colaborate' in the package: did you mean 'collaborate'",
        ),
        (["run", "--prompt", "no.md", "x"], "There is no prompt file 'no.md': give the path of a "),
        (["prompts", "no-folder"], "There is no folder 'no-folder': give the path of a folder"),
        (["run", "--cache-tokens", "0", "x"], "--cache-tokens cannot be 0: it should be at least"),
        (["replay", "no.jsonl"], "There is no transcript 'no.jsonl'"),
        (
            ["replay", "--speed", "0", "no.jsonl"],
            "--speed cannot be '0': it should be at least 0.01",
        ),
        (["run", "-w", "Al\nBo", "x"], "--workers cannot be 'Al\\nBo': it should be one line of t"),
        (["replay"], "Missing argument 'TRANSCRIPT'"),
        (["model", "info", "./no-such-folder"], "There is no model folder './no-such-folder'"),
        (["eval", "--workers", "1,1"], "--workers cannot be '1,1': write different numbers from"),
        (["eval", "--workers", "two"], "--workers cannot be 'two': write different numbers from"),
        (["eval", "--seeds", "-1"], "--seeds cannot be '-1': write different numbers from 0 on"),
        (["eval", "--seeds", ""], "--seeds cannot be '': write different numbers from 0 on, such"),
        (["eval", "--workers", "1,5000"], "--workers cannot be 5000: it should be at most 1000."),
        (
            ["eval", "--problems", "9" * 12],
            f"--problems cannot be {'9' * 12}: at most 10000 are drawn for each seed.",
        ),
        (["eval", "--layout", "mesh"], "--layout cannot be 'mesh': it should be 'combined'"),
        (["eval", "--model", "./no-such-folder"], "There is no model folder './no-such-folder'"),
        (["eval", "--model", "Qwen/Qwen3-8B"], "There are no problems for 'Qwen/Qwen3-8B'"),
        (["eval", "--file", "no.jsonl"], "The problems in 'no.jsonl' cannot be read (No such f"),
    ],
)
def test_what_cannot_be_done(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(arguments, capsys).startswith(sentence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "eval", "run x"])
def test_a_model_that_is_none_is_told_before_a_lacking_problem(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refused([*command.split(), "--model", str(tmp_path)], capsys)
    assert sentence.startswith(f"The folder '{tmp_path}' has no config.json, so it is no ")


@pytest.mark.parametrize("text", ["no json", '{"problem": "x"}', '{"problem": 1, "answer": "2"}'])
def test_broken_file_of_problems(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1 + 1", "answer": "2"}\n' + text + "\n")
    assert refused(["eval", "--file", str(path)], capsys).startswith("Line 2 of ")


def test_problem_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "problem.txt"
    path.write_bytes(b"\xff\xfe\x00")
    assert "is no UTF-8 text" in refused(["run", "--file", str(path)], capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize(
    "arguments",
    [["policies"], swept(["run", "--quiet", "Tasks: a) 3 + 5 b) 2 + 2"]), ["run", "--plain"]],
)
def test_output_that_cannot_be_written_is_one_sentence(arguments: list[str]) -> None:
    code, err = ended(arguments, "/dev/full")
    assert code == 2
    assert err == (
        "hogwild: The output cannot be written (No space left on device): make room, or write it "
        "elsewhere.\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [["policies"], swept(["model", "check"]), swept(["run", "--json"]), ["run", "--plain"]],
)
def test_a_pipe_that_nobody_reads_is_no_fault(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert ended(arguments, writer) == (141, "")


def ended(arguments: list[str], out: str | int) -> tuple[int, str]:
    """Run a command that writes to a file; return its exit code and what it says on stderr."""
    with open(out, "w") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "hogwild_agents.cli", *arguments],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    return done.returncode, unprompted(done.stderr)


@pytest.mark.parametrize("kind", [ImportError, ModelError])
def test_what_an_import_makes_of_ctrl_c_is_an_interruption(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def invoke(arguments: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise kind("initialization failed") from error

    monkeypatch.setattr(app, "_invoke", invoke)
    assert call(["run"]) == 130
    assert capsys.readouterr().err.startswith("hogwild: interrupted")


def test_help_names_all_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in LAYOUTS)


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call([]) == 2
    captured = capsys.readouterr()
    assert "Usage: hogwild" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("command", ["", "run", "replay", "model", "model check", "bench"])
def test_help_is_a_flag_of_two_names(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*command.split(), "--help"]) == 0
    long = capsys.readouterr().out
    assert "bool" not in long
    assert call([*command.split(), "-h"]) == 0
    assert capsys.readouterr().out == long


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hogwild-agents ")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["run", "--budget", "0"], ["policies"], ["prompts"]],
)
def test_help_lists_and_wrong_options_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from hogwild_agents.cli.app import call\n"
        f"call({arguments!r})\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'numpy'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
