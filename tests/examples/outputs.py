"""What an example prints, and the comment at its end that says so.

``python -m tests.examples.outputs [NAME ...]`` writes these comments anew, for all examples or for
some, when what they print has changed on purpose.
"""

from __future__ import annotations

import io
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATHS = sorted(EXAMPLES.glob("*.py"))
MARK = "\n# It prints:\n"

_TYPED = {"keyboard.py": "I have 7.\nNow 30.\n"}
_NUMBER = re.compile(r"\d+")
_TIME = re.compile(r"\d+(\.\d+)?(?= (ms|s|seconds|tokens per second)\b)")


def run(path: Path) -> str:
    """Run an example and return what it prints.

    In this process, where torch is loaded already; what reads standard input, as a program of its
    own, which has to come to its end.
    """
    if (typed := _TYPED.get(path.name)) is not None:
        command = [sys.executable, str(path)]
        done = subprocess.run(
            command, input=typed, stdout=subprocess.PIPE, text=True, timeout=120, check=True
        )
        return done.stdout
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()


def read(path: Path) -> str:
    """Return what an example says that it prints."""
    comment = path.read_text(encoding="utf-8").partition(MARK)[2]
    return "".join(line[2:] or "\n" for line in comment.splitlines(keepends=True))


def write(path: Path, printed: str) -> None:
    """Let an example say that it prints this."""
    code = path.read_text(encoding="utf-8").partition(MARK)[0].rstrip("\n")
    comment = "".join(f"# {line}".rstrip() + "\n" for line in printed.splitlines())
    path.write_text(f"{code}\n{MARK}{comment}", encoding="utf-8")


def mask(printed: str) -> str:
    """Return what is the same on every machine.

    Times are left out, and so are the numbers of a line behind the word "about", which it is for
    the example to write where tokens are drawn; and blanks at the ends of lines.
    """
    return "\n".join(_mask(line).rstrip() for line in printed.splitlines())


def _mask(line: str) -> str:
    exact, about, rest = _TIME.sub("_", line).partition(" about ")
    return exact + about + _NUMBER.sub("_", rest)


if __name__ == "__main__":
    for example in PATHS:
        if not sys.argv[1:] or example.stem in {Path(name).stem for name in sys.argv[1:]}:
            write(example, run(example))
            print(example.name)
