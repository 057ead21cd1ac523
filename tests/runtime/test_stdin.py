"""Standard input: a worker types from it, nothing behind its lines is touched, nobody waits."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from hogwild_agents import TypingWorker
from hogwild_agents.stdin import read_line
from hogwild_agents.testing import scripted_model
from tests.runtime.rig import make_team, until

pytestmark = pytest.mark.anyio
each_kind = pytest.mark.parametrize("make", [pty.openpty, lambda: os.pipe()[::-1]], ids=["pty", ""])

PROGRAM = """
import sys, anyio
from hogwild_agents import Finish, StepEnded, Team, TypingWorker, controller
from hogwild_agents.testing import scripted_model

@controller
async def end(event: StepEnded) -> Finish | None:
    return Finish(answer=event.text.strip()) if "and out" in event.text else None

def answer(view):
    return "Over and out.\\n\\n" if "Hi" in view else "Er.\\n\\n"

async def main():
    model = scripted_model({"Bob": [answer] * 99})
    team = Team(model, workers=[TypingWorker("Ann"), "Bob"], policies=[end])
    print((await team.solve("Say hello.")).texts)

anyio.run(main, backend=sys.argv[1])
"""


@contextmanager
def standard_input(monkeypatch: pytest.MonkeyPatch, descriptor: int) -> Iterator[None]:
    """A descriptor as standard input."""
    with open(descriptor, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield


@each_kind
async def test_lines_are_read_as_they_come(
    make: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = make()
    found: list[str] = []

    async def read() -> None:
        for _ in range(3):
            found.append(await read_line())

    with standard_input(monkeypatch, reader), anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            assert found == []
            os.write(writer, "Grüße\n".encode())
            await until(lambda: found == ["Grüße\n"])
            os.write(writer, b"\nLast\nfor others\n")
        assert found == ["Grüße\n", "\n", "Last\n"]
        assert input() == "for others"  # noqa: ASYNC250 -- it is there
        with anyio.move_on_after(0.01) as scope:
            await read_line()
        assert scope.cancelled_caught
    os.close(writer)


async def test_the_end_of_the_input_is_an_empty_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "typed"
    path.write_bytes(b"One.\nTw\xff.")
    with standard_input(monkeypatch, os.open(path, os.O_RDONLY)):
        assert [await read_line() for _ in range(4)] == ["One.\n", "Tw\ufffd.", "", ""]
    assert await read_line() == ""
    monkeypatch.setattr(sys, "stdin", None)
    assert await read_line() == ""
    monkeypatch.setattr(sys, "stdin", io.StringIO("One.\nTwo."))
    assert [await read_line() for _ in range(3)] == ["One.\n", "Two.", ""]


async def test_two_readers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    workers = [TypingWorker("Ann"), TypingWorker("Eve"), "Bob"]
    team = make_team(scripted_model({"Bob": "It is 7.\n\n"}), workers=workers)
    with standard_input(monkeypatch, reader), anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            run = team.start("What?")
            group.start_soon(run.execute)
            await until(lambda: bool(run.result.failures))
            os.write(writer, b"\n")
    os.close(writer)
    assert run.result.failures == {
        "Eve": "UsageError: Two workers read standard input at once: let one TypingWorker do so, "
        "and give the others lines of their own."
    }


@each_kind
def test_a_process_ends_with_its_run(
    anyio_backend: str, make: Callable[[], tuple[int, int]]
) -> None:
    """Though nobody types another line, and the input stays open."""
    writer, reader = make()
    command = [sys.executable, "-c", PROGRAM, anyio_backend]
    with subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE, text=True) as process:
        os.close(reader)
        os.write(writer, b"Hi.\n")
        try:
            printed, _ = process.communicate(timeout=250)
        finally:
            process.kill()
    os.close(writer)
    assert process.returncode == 0
    assert "**Ann [1]:** Hi." in printed
    assert "Over and out." in printed
