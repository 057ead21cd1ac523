"""``hogwild bench``: how fast ticks are here, against transformers and against the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hogwild_agents.cli.interrupts import ends_at_once
from hogwild_agents.cli.options import Threads

MODEL, WHAT, HOW, OUTPUT = "Model", "What is measured", "How", "Output"


def bench(
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The shape of a known model, with random weights: qwen2.5-0.5b (default), "
            "qwen3-1.7b, qwen3-8b, qwen3-32b, qwq-32b, qwen3-30b-a3b, or tiny, to try the "
            "command out: its ticks are overhead alone.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="bundled, a folder or a Hugging Face id, instead of a preset.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto (bfloat16, or the checkpoint's), float32, bfloat16 or float16.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="auto (a GPU if there is one), cpu, cuda...", rich_help_panel=MODEL
        ),
    ] = "auto",
    workers: Annotated[
        str,
        typer.Option(metavar="N,N,...", help="Numbers of workers.", rich_help_panel=WHAT),
    ] = "1,2,4,8,16",
    context: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="How many tokens each worker sees; k is 1024.",
            rich_help_panel=WHAT,
        ),
    ] = "1k,4k,8k",
    threads: Threads = None,
    rounds: Annotated[
        int,
        typer.Option(metavar="N", help="How often all take their turn.", rich_help_panel=HOW),
    ] = 7,
    ticks: Annotated[
        int, typer.Option(metavar="N", help="Timed ticks of one turn.", rich_help_panel=HOW)
    ] = 4,
    kernels: Annotated[
        bool | None,
        typer.Option(
            "--kernels/--no-kernels",
            metavar="",
            help="Whether the engine's own kernels compute. Default: where they help.",
            rich_help_panel=HOW,
        ),
    ] = None,
    int8_weights: Annotated[
        bool,
        typer.Option(
            "--int8-weights",
            metavar="",
            help="Let the engine compute with weights rounded to 8 bits, on a CPU.",
            rich_help_panel=HOW,
        ),
    ] = False,
    graphs: Annotated[
        bool | None,
        typer.Option(
            "--graphs/--no-graphs",
            metavar="",
            help="Whether the engine records forwards and replays them. Default: where it helps.",
            rich_help_panel=HOW,
        ),
    ] = None,
    compile_layers: Annotated[
        bool,
        typer.Option(
            "--compile-layers",
            metavar="",
            help="Let the engine run the model's layers through torch.compile, on a GPU.",
            rich_help_panel=HOW,
        ),
    ] = False,
    no_compile: Annotated[
        bool,
        typer.Option(
            "--no-compile",
            metavar="",
            help="Do not try transformers' model compiled, which takes a while for each context.",
            rich_help_panel=HOW,
        ),
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all numbers as JSON.", rich_help_panel=OUTPUT),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw the ratios.", rich_help_panel=OUTPUT),
    ] = None,
) -> int:
    """Measure ticks against transformers and against what the hardware allows.

    All take turns in one run; docs/performance.md tells how.

    Exits with 0, or with 130 after Ctrl-C, with what was measured until then.
    """
    with ends_at_once():
        from hogwild_agents.bench.command import run
        from hogwild_agents.bench.settings import Settings, parse_numbers

    if preset is None and model is None:
        preset = Settings.preset
    settings = Settings(
        preset=preset,
        model=model,
        workers=parse_numbers(workers, "--workers"),
        contexts=parse_numbers(context, "--context"),
        dtype=dtype,
        device=device,
        threads=threads,
        rounds=rounds,
        ticks=ticks,
        kernels=kernels,
        int8_weights=int8_weights,
        graphs=graphs,
        compile_layers=compile_layers,
        compiling=not no_compile,
        json=json,
        plot=plot,
    )
    return run(settings)
