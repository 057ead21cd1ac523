"""The live view on a terminal, and Ctrl-C."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from hogwild_agents import read_transcript
from hogwild_agents.bundled.task import Distribution, held_out_problems

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from tests.cli.terminal import ENTER, HOME, LEAVE, Terminal, without_escapes

PROBLEM = held_out_problems(1, 1, Distribution(tasks=(5, 5), terms=(3, 4)))[0]
ENDLESS = ("run", PROBLEM.text, "--no-policies", "--save", "run.jsonl")
THINKING = rb"tick [1-9]"


def test_live_view_of_a_run(tmp_path: Path) -> None:
    with Terminal("run", PROBLEM.text, cwd=tmp_path, width=100, height=30) as terminal:
        terminal.read_until(re.escape(ENTER))
        began = time.monotonic()
        terminal.read_until(re.escape(LEAVE))
        seconds = time.monotonic() - began
        assert terminal.finish() == 0
    live, _, after = terminal.written.partition(LEAVE)
    assert terminal.written.count(ENTER) == 1
    assert terminal.is_given_back
    assert live.count(HOME) <= 15 * (seconds + 1), "more than 15 frames a second"
    assert "Loading bundled" in terminal.text
    shown = without_escapes(after)
    assert all(name in shown for name in ("Alice", "Bob", "Carol", "Past steps"))
    assert "─  Answer  ─" in shown
    assert PROBLEM.answer in shown
    assert "Boxed by " in shown
    assert re.search(r"Steps finished: Alice \d+, Bob \d+, Carol \d+", shown)


@pytest.mark.sweep
def test_a_paced_run_says_so(tmp_path: Path) -> None:
    with Terminal("run", PROBLEM.text, "--pace", "500", cwd=tmp_path) as terminal:
        assert terminal.finish() == 0
    live, _, after = terminal.written.partition(LEAVE)
    assert "at most 500 ticks/s" in without_escapes(live)
    assert "at most 500 ticks/s" in without_escapes(after)


def test_ctrl_c_ends_in_order(tmp_path: Path) -> None:
    with Terminal(*ENDLESS, cwd=tmp_path) as terminal:
        terminal.read_until(THINKING)
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    live, _, after = terminal.written.partition(LEAVE)
    assert terminal.is_given_back
    assert b"^C" not in live, "it would shift the frame by a line"
    assert "Interrupted" in after.decode()
    assert "Transcript: run.jsonl" in after.decode()
    assert "Traceback" not in terminal.text
    result = read_transcript(tmp_path / "run.jsonl").result
    assert result is not None
    assert result.reason == "interrupted"
    assert result.texts["Alice"].startswith("**Alice [1]:** a)")


@pytest.mark.sweep
def test_keys_are_shown_again_afterwards(tmp_path: Path) -> None:
    with Terminal(*ENDLESS, cwd=tmp_path) as terminal:
        assert terminal.echoes
        terminal.read_until(THINKING)
        assert not terminal.echoes
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
        assert terminal.echoes


def test_second_ctrl_c_is_immediate(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import anyio\n"
        "from hogwild_agents import Policy\n"
        "class Stubborn(Policy):\n"
        "    async def on_tick_ended(self, event):\n"
        "        if event.tick == 3:\n"
        "            with anyio.CancelScope(shield=True):\n"
        "                await anyio.sleep(600)\n"
        "        return ()\n"
    )
    arguments = ("run", PROBLEM.text, "--policy", "mine:Stubborn")
    with Terminal(*arguments, cwd=tmp_path) as terminal:
        terminal.read_until(rb"tick 3 ")
        terminal.press_ctrl_c()
        with pytest.raises(AssertionError, match="goes on"):
            terminal.finish(1)
        terminal.press_ctrl_c()
        assert terminal.finish(10) == 130
    assert terminal.is_given_back


def test_second_ctrl_c_ends_a_run_whose_event_loop_is_busy(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from hogwild_agents import controller, StepEnded, TickEnded\n"
        "@controller\n"
        "async def spin(event: TickEnded):\n"
        "    while event.tick == 3:\n"
        "        pass\n"
    )
    with Terminal("run", PROBLEM.text, "--policy", "mine:spin", cwd=tmp_path) as terminal:
        terminal.read_until(rb"Reading the prompt")
        for _ in range(2):
            with pytest.raises(AssertionError, match="goes on"):
                terminal.finish(2)
            terminal.press_ctrl_c()
        assert terminal.finish(10) == 130
    assert terminal.is_given_back


def test_second_ctrl_c_ends_an_evaluation_and_gives_the_terminal_back(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import anyio\n"
        "from hogwild_agents import Policy\n"
        "class Stubborn(Policy):\n"
        "    async def on_tick_ended(self, event):\n"
        "        with anyio.CancelScope(shield=event.tick == 3):\n"
        "            await anyio.sleep(600 if event.tick == 3 else 0)\n"
    )
    (tmp_path / "mine.toml").write_text("policies = ['mine:Stubborn']\n")
    with Terminal("eval", "--config", "mine.toml", cwd=tmp_path) as terminal:
        terminal.read_until(rb"Runs .* 0/2500")
        with pytest.raises(AssertionError, match="goes on"):
            terminal.finish(2)  # until the third tick
        terminal.press_ctrl_c()
        with pytest.raises(AssertionError, match="goes on"):
            terminal.finish(1)
        terminal.press_ctrl_c()
        assert terminal.finish(10) == 130
    assert terminal.is_given_back


def test_an_evaluation_that_is_broken_off_says_so(tmp_path: Path) -> None:
    with Terminal("eval", "--problems", "500", cwd=tmp_path) as terminal:
        terminal.read_until(rb"combined .* [1-9]\d*/2500")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert "Interrupted: this is what was measured until then." in terminal.text
    assert terminal.is_given_back


def test_a_benchmark_that_is_broken_off_reports_on_a_line_of_its_own(tmp_path: Path) -> None:
    quick = ("--preset", "tiny", "--context", "64", "--workers", "1", "--threads", "1")
    with Terminal("bench", *quick, "--rounds", "999", "--no-compile", cwd=tmp_path) as terminal:
        terminal.read_until(rb"Context 64, 1 worker \.\.\.")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert re.search(r"\^C\ntiny, bfloat16, on ", terminal.text)
    assert "Interrupted: this is what was measured until then." in terminal.text


def test_ctrl_c_while_loading(tmp_path: Path) -> None:
    with Terminal(*ENDLESS, cwd=tmp_path) as terminal:
        terminal.read_until(rb"Loading")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert "Traceback" not in terminal.text
    assert "hogwild: interrupted before there was anything to keep.\n" in terminal.text
    assert terminal.is_given_back
    assert not (tmp_path / "run.jsonl").exists()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("torch", ("run", PROBLEM.text)),
        ("torch", ("bench", "--preset", "tiny")),
        ("mine", ("run", PROBLEM.text, "--policy", "mine:Policy")),
    ],
)
@pytest.mark.parametrize("then", ["pass", "raise ImportError('no') from None"])
def test_ctrl_c_ends_an_import_that_takes_no_notice(
    arguments: tuple[str, ...], module: str, then: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(
        "import time\n"
        "print('under way', flush=True)\n"
        "try:\n"
        "    time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        f"    {then}\n"
    )
    with Terminal(*arguments, cwd=tmp_path) as terminal:
        terminal.read_until(rb"under way")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert terminal.text.endswith("hogwild: interrupted before there was anything to keep.\n")
    assert terminal.is_given_back


def test_ctrl_c_in_the_midst_of_a_line_gives_the_cursor_back(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, signal, sys, time\n"
        "with sys.stdout._FileProxy__console:  # rich's, that now keeps what is written\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(600)\n"
    )
    with Terminal("run", PROBLEM.text, cwd=tmp_path) as terminal:
        assert terminal.finish() == 130
    assert terminal.text.endswith("hogwild: interrupted before there was anything to keep.\n")
    assert terminal.is_given_back


@pytest.mark.sweep
def test_terminal_may_change_its_size(tmp_path: Path) -> None:
    with Terminal(*ENDLESS, cwd=tmp_path, width=140, height=40) as terminal:
        terminal.read_until(THINKING)
        terminal.resize(50, 16)
        terminal.written = b""
        terminal.read_until(rb"(?s)(" + re.escape(HOME) + rb".*){3}")
        frame = terminal.written.split(HOME)[-2]
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert frame.count(b"\n") == 15


def test_replay_looks_as_the_run_did(tmp_path: Path) -> None:
    with Terminal("run", PROBLEM.text, "--save", "run.jsonl", cwd=tmp_path) as terminal:
        assert terminal.finish() == 0
    with Terminal("replay", "run.jsonl", "--speed", "50", cwd=tmp_path) as again:
        assert again.finish() == 0
    after, shown = (one.written.partition(LEAVE)[2].decode() for one in (terminal, again))
    assert shown.splitlines()[1:] == after.splitlines()[1:-1]  # but title and transcript
    assert again.written.count(HOME) > 1


@pytest.mark.sweep
def test_a_look_at_a_config_shows_no_bars(tmp_path: Path) -> None:
    with Terminal("model", "check", "bundled", "--from-config", cwd=tmp_path) as terminal:
        assert terminal.finish() == 0
    assert "Looking at the config of bundled" in terminal.text
    assert "Loading weights" not in terminal.text
    assert "Runs " in terminal.text


def test_quiet_is_quiet_on_a_terminal_too(tmp_path: Path) -> None:
    with Terminal("run", PROBLEM.text, "--quiet", cwd=tmp_path) as terminal:
        assert terminal.finish() == 0
    assert terminal.written == PROBLEM.answer.encode() + b"\r\n"
