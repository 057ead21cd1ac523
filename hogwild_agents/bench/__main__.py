"""``python -m hogwild_agents.bench``: the command without typer, for bare environments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hogwild_agents.bench.command import INTERRUPTED, run
from hogwild_agents.bench.presets import PRESETS
from hogwild_agents.bench.settings import CONTEXTS, WORKERS, Settings, parse_numbers
from hogwild_agents.errors import HogwildError

FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say, and return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        settings = Settings(
            preset=None if given.model else given.preset,
            model=given.model,
            workers=parse_numbers(given.workers, "--workers"),
            contexts=parse_numbers(given.context, "--context"),
            dtype=given.dtype,
            device=given.device,
            threads=given.threads,
            rounds=given.rounds,
            ticks=given.ticks,
            kernels=given.kernels,
            int8_weights=given.int8_weights,
            graphs=given.graphs,
            compile_layers=given.compile_layers,
            compiling=given.compile,
            json=given.json,
            plot=given.plot,
        )
        return run(settings)
    except HogwildError as error:
        print(f"hogwild: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("hogwild: interrupted before there was anything to keep.", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hogwild_agents.bench",
        description="Measure ticks against transformers and against the hardware.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--preset", default="qwen2.5-0.5b", help=", ".join(PRESETS))
    what.add_argument("--model", help="bundled, a folder or a Hugging Face id")
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)))
    parser.add_argument("--context", default=",".join(map(str, CONTEXTS)), help="such as 1k,4k,32k")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ticks", type=int, default=4)
    parser.add_argument("--kernels", action=argparse.BooleanOptionalAction)
    parser.add_argument("--int8-weights", action="store_true")
    parser.add_argument("--graphs", action=argparse.BooleanOptionalAction)
    parser.add_argument("--compile-layers", action="store_true")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    return parser


if __name__ == "__main__":
    sys.exit(main())
