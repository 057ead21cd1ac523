"""The options of ``hogwild run``, as types that say how they are spelt and what they mean.

All are None where nothing was given: the defaults stand in :class:`RunConfig` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

TEAM, SAMPLING, MODEL, OUTPUT = "Team", "Sampling (by default the model's own)", "Model", "Output"
FLAG = ""
"""The metavar of an option that takes no value."""


def _option(panel: str | None, help_: str, metavar: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help_, rich_help_panel=panel)


Problem = Annotated[
    str | None,
    typer.Argument(
        metavar="PROBLEM",
        help="What to solve; - reads it from standard input. Without one, the bundled model gets a "
        "sample of its little language.",
        show_default=False,
    ),
]
File = Annotated[
    Path | None, _option(None, "Read the problem from a file.", "FILE", "--file", "-f")
]
Config = Annotated[
    Path | None,
    _option(None, "A TOML file of options; what is given here wins.", "FILE", "--config", "-c"),
]

Workers = Annotated[
    int | None, _option(TEAM, "How many workers. Default: 3.", "N", "--workers", "-n")
]
Worker = Annotated[
    list[str] | None,
    _option(
        TEAM,
        "One worker, with what it alone is told; once for each.",
        "NAME:ROLE",
        "--worker",
        "-w",
    ),
]
Layout = Annotated[
    str | None,
    _option(
        TEAM,
        "What a worker sees of the others: combined (default), contiguous, interleaved, isolated.",
        "NAME",
    ),
]
Budget = Annotated[
    int | None, _option(TEAM, "How long the team may think. Default: 4096.", "TICKS")
]
Prompt = Annotated[
    str | None,
    _option(
        TEAM,
        "The rules of the game: a prompt's name (see hogwild prompts), or a file. Default: "
        "collaborate.",
        "NAME",
    ),
]
Policy = Annotated[
    list[str] | None,
    _option(
        TEAM,
        "A policy (see hogwild policies); once for each. Where none is named: redundancy-check, "
        "stop-on-answer and finisher. Your own are given as module:Class.",
        "NAME",
    ),
]
NoPolicies = Annotated[bool, _option(TEAM, "No policy at all.", FLAG, "--no-policies")]
CheckEvery = Annotated[
    int | None,
    _option(TEAM, "Tokens of a worker between two redundancy checks. Default: 1024.", "TOKENS"),
]
MaxAnswerTokens = Annotated[
    int | None, _option(TEAM, "How long the finisher's answer may be. Default: 16.", "TOKENS")
]

Seed = Annotated[int | None, _option(SAMPLING, "Of all random states. Default: 0.", "N")]
Temperature = Annotated[float | None, _option(SAMPLING, "0 is greedy.", "X")]
TopK = Annotated[int | None, _option(SAMPLING, "0 keeps all tokens.", "N")]
TopP = Annotated[float | None, _option(SAMPLING, "1 keeps all tokens.", "X")]
MinP = Annotated[float | None, _option(SAMPLING, "0 keeps all tokens.", "X")]
RepetitionPenalty = Annotated[float | None, _option(SAMPLING, "1 is none.", "X")]

Model = Annotated[
    str | None,
    _option(
        MODEL,
        "bundled (default), a Hugging Face id, a folder, or a .gguf file.",
        "NAME",
        "--model",
        "-m",
    ),
]
Revision = Annotated[
    str | None, _option(MODEL, "Of a Hugging Face id: a branch, tag or commit.", "NAME")
]
Device = Annotated[str | None, _option(MODEL, "auto (default), cpu, cuda, cuda:1 ...", "NAME")]
Dtype = Annotated[
    str | None, _option(MODEL, "auto (default), float32, bfloat16 or float16.", "NAME")
]
Threads = Annotated[
    int | None,
    _option(
        MODEL,
        "How many threads compute on the CPU. Default: torch's own number, 1 for a tiny model.",
        "N",
        "--threads",
    ),
]
CacheTokens = Annotated[int | None, _option(MODEL, "The most that the cache may hold.", "TOKENS")]
MaxContext = Annotated[
    int | None,
    _option(MODEL, "The longest view. Default: what the model was made for.", "TOKENS"),
]
RopeScaling = Annotated[
    str | None,
    _option(
        MODEL,
        "For longer contexts: yarn:4, linear:2, or a JSON object of rope parameters.",
        "KIND:FACTOR",
    ),
]
Quantization = Annotated[
    str | None,
    _option(
        MODEL,
        "Quantize the weights on loading: bnb-4bit, bnb-8bit, torchao-int8, or a JSON object with "
        "a quant_method.",
        "NAME",
    ),
]
Kernels = Annotated[
    bool | None,
    _option(
        MODEL,
        "Compute by the engine's own kernels. Default: where they help.",
        FLAG,
        "--kernels/--no-kernels",
    ),
]
Int8Weights = Annotated[
    bool | None,
    _option(
        MODEL,
        "Compute with weights rounded to 8 bits, on a CPU: faster, and a little less exact.",
        FLAG,
        "--int8-weights",
    ),
]
Graphs = Annotated[
    bool | None,
    _option(
        MODEL,
        "Record forwards that come again and again, and replay them. Default: where it helps.",
        FLAG,
        "--graphs/--no-graphs",
    ),
]
CompileLayers = Annotated[
    bool | None,
    _option(
        MODEL,
        "Run the model's layers through torch.compile, on a GPU; loading takes longer.",
        FLAG,
        "--compile-layers",
    ),
]
ModelOption = Annotated[
    list[str] | None,
    _option(
        MODEL,
        "More for from_pretrained of transformers, such as device_map=auto; once for each.",
        "NAME=VALUE",
    ),
]

Save = Annotated[
    Path | None, _option(OUTPUT, "Write the transcript to this file.", "FILE", "--save", "-s")
]
Quiet = Annotated[bool, _option(OUTPUT, "Only the answer.", FLAG, "--quiet", "-q")]
AsJson = Annotated[bool, _option(OUTPUT, "The result as one JSON object.", FLAG, "--json")]
Plain = Annotated[bool, _option(OUTPUT, "Lines instead of the live view.", FLAG, "--plain")]
Pace = Annotated[
    float | None,
    typer.Option(
        "--pace",
        metavar="TICKS",
        min=0.1,
        help="In the live view, at most so many a second. Default: as fast as it goes.",
        rich_help_panel=OUTPUT,
    ),
]

Transcript = Annotated[
    Path, typer.Argument(metavar="TRANSCRIPT", help="What hogwild run --save has written.")
]
Speed = Annotated[
    float,
    typer.Option(metavar="X", help="How many times as fast as it was.", min=0.01, max=1000),
]
NoDelay = Annotated[bool, _option(None, "Show the end at once.", FLAG, "--no-delay")]
Partial = Annotated[bool, _option(None, "Take a transcript that is cut short.", FLAG, "--partial")]

FromConfig = Annotated[
    bool,
    _option(None, "Read no weights: only the config, and try a small copy.", FLAG, "--from-config"),
]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="bundled, a Hugging Face id, a folder, or a .gguf file.",
        show_default=False,
    ),
]

Problems = Annotated[
    int | None,
    typer.Option(
        "--problems",
        metavar="N",
        min=1,
        help="How many for each seed. Default: 500 (at most 10,000 are drawn), or all of a file.",
    ),
]
ProblemFile = Annotated[
    Path | None,
    _option(
        None,
        'Problems of your own: JSON lines such as {"problem": "...", "answer": "..."}.',
        "FILE",
        "--file",
        "-f",
    ),
]
Seeds = Annotated[
    str | None,
    _option(
        None,
        "Each draws its own problems and seeds its own runs. Default: the config's, or 0.",
        "N,N...",
        "--seeds",
    ),
]
Teams = Annotated[str, _option(None, "The sizes of the teams.", "N,N...", "--workers", "-n")]
Layouts = Annotated[
    list[str] | None,
    _option(
        None, "A layout; once for each. Default: the config's, or combined.", "NAME", "--layout"
    ),
]
NoIsolated = Annotated[
    bool,
    _option(
        None,
        "Leave out the largest team with workers that do not see each other.",
        FLAG,
        "--no-isolated",
    ),
]
Concurrency = Annotated[
    int, typer.Option(metavar="N", min=1, help="How many runs share the coordinator at a time.")
]
EvalBudget = Annotated[
    int | None,
    _option(
        TEAM,
        "How long a team may think. Default: the config's, or 512.",
        "TICKS",
        "--budget",
    ),
]
