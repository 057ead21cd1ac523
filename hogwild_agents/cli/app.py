"""The console entry: options and exit codes. What is heavy is imported inside the commands.

Exit codes: 0 for an answer, 1 for a run that ended in order without one, 2 for what cannot be
done (one sentence on stderr), 130 or 143 after a signal, 141 if nobody reads what is written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hogwild_agents.cli import options as opt, processes
from hogwild_agents.cli.bench import bench
from hogwild_agents.cli.cores import fewer
from hogwild_agents.cli.interrupts import INTERRUPTED, SENTENCE
from hogwild_agents.errors import ConfigError, HogwildError, ProblemError

FAILED = 2
NOBODY_READS = 141
EVAL_BUDGET = 512
HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="hogwild",
    help="Teams of language-model workers that think in parallel in one shared attention cache.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)
model_app = typer.Typer(help="Facts about models.", no_args_is_help=True)
app.add_typer(model_app, name="model")


def main() -> None:
    """Run the command line and exit with its code."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # torch's threads spin while they wait; where other programs run they had better sleep.
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    cores = fewer()
    if cores is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    code = call(sys.argv[1:]) if processes.leads() else processes.follow()
    if code != FAILED and processes.are_several() and processes.leads():
        processes.dismiss()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a late Ctrl-C ends it without a traceback
    sys.exit(code)


def call(arguments: list[str]) -> int:
    """Run the command line with these arguments and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = _invoke(arguments)
        if sys.stdout is not None:  # as where a shell has closed it
            sys.stdout.flush()
        return code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except Exception as error:
        if _comes_of_interrupt(error):
            return _interrupted()
        if isinstance(error, HogwildError):
            return _fail(str(error))
        unwritten = _unwritten(error)
        if unwritten is not None:
            return _forsake(unwritten)
        # What is wrong with an option is told by click, or by typer's copy of it.
        if not hasattr(error, "format_message"):
            raise
        message = str(error.format_message()).strip()
        return _fail(_usage_error(error, message)) if message else FAILED


def _interrupted() -> int:
    print(SENTENCE, file=sys.stderr)
    return INTERRUPTED


def _comes_of_interrupt(error: BaseException | None) -> bool:
    """Whether an error was raised because of Ctrl-C, as modules do that are being imported."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _invoke(arguments: list[str]) -> int:
    """Run the command without typer's own answers to Ctrl-C and to a pipe that nobody reads."""
    command: Any = typer.main.get_command(app)
    _say_nothing_of_types(command)
    try:
        with command.make_context("hogwild", list(arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:
        return end.exit_code


def _say_nothing_of_types(command: Any) -> None:
    """Keep typer from calling --help a <bool>: it takes no value."""
    option = command.get_help_option(command.context_class(command, **HELP))
    if option is not None:
        option.metavar = opt.FLAG
    for one in getattr(command, "commands", {}).values():
        _say_nothing_of_types(one)


def _unwritten(error: Exception) -> OSError | None:
    """Return the error of a stream that takes no more; unlike a file's, it names nothing."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, OSError) and error.filename is None else None


def _forsake(error: OSError) -> int:
    """Give up the standard output, on which nothing can be written; return the exit code."""
    with suppress(OSError, ValueError):  # what is still in its buffer would raise once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return NOBODY_READS
    return _fail(
        f"The output cannot be written ({error.strerror or error}): make room, or write it "
        "elsewhere."
    )


def _fail(sentence: str) -> int:
    print(f"hogwild: {' '.join(sentence.split())}", file=sys.stderr)
    return FAILED


def _usage_error(error: Any, message: str) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "hogwild"
    where = f"`{path} --help`."
    if message.endswith("?"):
        return f"{message} See {where}"
    from pydantic import ValidationError

    from hogwild_agents.complaints import allowed, plain, to_the_point

    found, option = error.__cause__, getattr(error, "param", None)
    if isinstance(found, ValidationError) and option is not None:
        name, value = max(option.opts, key=len), to_the_point(found)["input"]
        return f"{name} cannot be {value!r}: {allowed(found)}; see {where}"
    return f"{plain(message).rstrip('.')}: see {where}"


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        print(f"hogwild-agents {metadata.version('hogwild-agents')}")
        raise typer.Exit


@app.callback()
def _hogwild(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, metavar="", help="Show the version."
        ),
    ] = False,
) -> None:
    del version


@app.command("run")
def _run(
    problem: opt.Problem = None,
    file: opt.File = None,
    config: opt.Config = None,
    workers: opt.Workers = None,
    worker: opt.Worker = None,
    layout: opt.Layout = None,
    budget: opt.Budget = None,
    prompt: opt.Prompt = None,
    policy: opt.Policy = None,
    no_policies: opt.NoPolicies = False,
    check_every: opt.CheckEvery = None,
    max_answer_tokens: opt.MaxAnswerTokens = None,
    seed: opt.Seed = None,
    temperature: opt.Temperature = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    min_p: opt.MinP = None,
    repetition_penalty: opt.RepetitionPenalty = None,
    model: opt.Model = None,
    revision: opt.Revision = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    threads: opt.Threads = None,
    cache_tokens: opt.CacheTokens = None,
    max_context: opt.MaxContext = None,
    rope_scaling: opt.RopeScaling = None,
    quantization: opt.Quantization = None,
    kernels: opt.Kernels = None,
    int8_weights: opt.Int8Weights = None,
    graphs: opt.Graphs = None,
    compile_layers: opt.CompileLayers = None,
    model_option: opt.ModelOption = None,
    save: opt.Save = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
    plain: opt.Plain = False,
    pace: opt.Pace = None,
) -> int:
    """Let a team solve a problem.

    Exits with 0 for an answer, 1 without one, 2 if it cannot be done, 130 or 143 if stopped.
    """
    given: dict[str, object] = {
        "problem": _read_problem(problem, file),
        "workers": _workers(workers, worker),
        "layout": layout,
        "budget": budget,
        "prompt": prompt,
        "policies": _policies(policy, no_policies),
        "check_every": check_every,
        "max_answer_tokens": max_answer_tokens,
        "seed": seed,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "model": model,
        "revision": revision,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "cache_tokens": cache_tokens,
        "max_context": max_context,
        "rope_scaling": rope_scaling,
        "quantization": quantization,
        "kernels": kernels,
        "int8_weights": int8_weights,
        "graphs": graphs,
        "compile_layers": compile_layers,
        "model_options": _model_options(model_option),
        "save": save,
    }
    from hogwild_agents.config import RunConfig

    base = RunConfig() if config is None else RunConfig.load(config)
    settings = base.override(_only_given(given))

    from hogwild_agents.cli import run

    output = run.Output(quiet=quiet, as_json=as_json, plain=plain, pace=pace)
    return run.run(settings, output)


def _read_problem(problem: str | None, file: Path | None) -> str | None:
    if file is None and problem != "-":
        return None if problem is None else _utf8(problem, "text")
    if file is not None and problem is not None:
        raise ConfigError("There are two problems, an argument and --file: leave one of them out.")
    if file is None and sys.stdin is None:
        raise ProblemError(
            "There is no standard input to read the problem from: give it otherwise."
        )
    try:
        if file is None:
            return _utf8(sys.stdin.read(), "standard input")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ProblemError(
            f"The problem's file {str(file)!r} cannot be read ({error.strerror}): name a text file."
        ) from error
    except UnicodeDecodeError as error:
        name = "standard input" if file is None else f"file {str(file)!r}"
        raise ProblemError(f"The problem's {name} is no UTF-8 text: convert it first.") from error


def _utf8(text: str, name: str) -> str:
    """Return a text that has an encoding: Python takes other bytes for halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProblemError(f"The problem's {name} is no UTF-8 text: convert it first.") from error
    return text


def _workers(number: int | None, each: list[str] | None) -> object:
    if not each:
        return number
    if number is not None:
        raise ConfigError("--workers and --worker exclude each other: leave one of them out.")
    nameless = next((text for text in each if not text.partition(":")[0].strip()), None)
    if nameless is not None:
        raise ConfigError(f"--worker {nameless!r} has no name: write NAME or NAME:ROLE.")
    parts = (text.partition(":") for text in each)
    return tuple({"name": name.strip(), "role": role.strip()} for name, _, role in parts)


def _policies(each: list[str] | None, none: bool) -> tuple[str, ...] | None:
    if none and each:
        raise ConfigError("--policy and --no-policies exclude each other: leave one of them out.")
    return () if none else tuple(each) if each else None


def _model_options(each: list[str] | None) -> dict[str, object] | None:
    """Return the options by name; their values are JSON, or else plain text."""
    if not each:
        return None
    options: dict[str, object] = {}
    for text in each:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--model-option {text!r} has no value: write NAME=VALUE.")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value
    return options


@app.command("replay")
def _replay(
    transcript: opt.Transcript,
    speed: opt.Speed = 1.0,
    no_delay: opt.NoDelay = False,
    partial: opt.Partial = False,
    plain: opt.Plain = False,
) -> int:
    """Show a run again, from its transcript; no model is needed."""
    from hogwild_agents.cli import replay

    return replay.replay(
        transcript, speed=None if no_delay else speed, partial=partial, plain=plain
    )


@app.command("eval")
def _eval(
    problems: opt.Problems = None,
    file: opt.ProblemFile = None,
    seeds: opt.Seeds = None,
    workers: opt.Teams = "1,2,3,4",
    layout: opt.Layouts = None,
    no_isolated: opt.NoIsolated = False,
    concurrency: opt.Concurrency = 16,
    config: opt.Config = None,
    budget: opt.EvalBudget = None,
    check_every: opt.CheckEvery = None,
    temperature: opt.Temperature = None,
    model: opt.Model = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
) -> int:
    """Measure teams on many problems: accuracy, ticks, and the ratio to one worker.

    Without --file these are held-out problems of the bundled model's little language.
    """
    from hogwild_agents.config import RunConfig

    given: dict[str, object] = {
        "budget": budget,
        "check_every": check_every,
        "temperature": temperature,
        "model": model,
        "device": device,
        "dtype": dtype,
        "threads": threads,
    }
    base = RunConfig() if config is None else RunConfig.load(config)
    if "budget" not in base.model_fields_set:
        base = base.override({"budget": EVAL_BUDGET})
    settings = base.override(_only_given(given))

    from hogwild_agents.cli import evaluate

    drawn = str(settings.seed) if seeds is None else seeds
    teams = evaluate.parse_numbers(workers, "--workers", least=1)
    for name in layout or ():
        settings.override({"layout": name})  # raises if there is none
    settings.override({"workers": max(teams)})  # ... or if there cannot be so many

    plan = evaluate.Plan(
        problems=problems,
        file=file,
        seeds=evaluate.parse_numbers(drawn, "--seeds", least=0),
        teams=teams,
        layouts=tuple(dict.fromkeys(layout or [settings.layout])),
        isolated=not no_isolated,
        concurrency=concurrency,
    )
    return evaluate.evaluate(settings, plan, as_json=as_json)


@app.command("experiment")
def _experiment(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A TOML file; see docs/experiments.md.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where results, tables and the plot go. Default: named after the FILE, here.",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="table, markdown, csv or json."),
    ] = "table",
    report: Annotated[
        bool,
        typer.Option("--report", metavar="", help="Run nothing; tell what is done so far."),
    ] = False,
    threads: opt.Threads = None,
) -> int:
    """Compare teams over a grid of layouts, policies, workers and what else the FILE says.

    What was broken off goes on with the same command. Exits with 130 or 143 if runs are left to do.
    """
    from hogwild_agents.cli import experiment

    return experiment.experiment(file, out, form=form, report_only=report, threads=threads)


app.command("bench")(bench)


@app.command("prompts")
def _prompts(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="One with prompts of your own. Default: the package's.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """List the prompts that --prompt takes by name, each with what it is for."""
    from hogwild_agents.cli import catalogue

    return catalogue.prompts(folder)


@app.command("policies")
def _list_policies() -> int:
    """List the policies that --policy takes by name, each with what it does."""
    from hogwild_agents.cli import catalogue

    return catalogue.policies()


@model_app.command("check")
@model_app.command("info", hidden=True)
def _model_check(
    name: opt.ModelName = "bundled",
    from_config: opt.FromConfig = False,
    revision: opt.Revision = None,
    device: opt.Device = None,
    dtype: opt.Dtype = None,
    threads: opt.Threads = None,
    max_context: opt.MaxContext = None,
    rope_scaling: opt.RopeScaling = None,
    quantization: opt.Quantization = None,
    kernels: opt.Kernels = None,
    int8_weights: opt.Int8Weights = None,
    graphs: opt.Graphs = None,
    compile_layers: opt.CompileLayers = None,
    model_option: opt.ModelOption = None,
    as_json: opt.AsJson = False,
) -> int:
    """Load a model, measure it, and say what it is and whether it runs.

    Exits with 0 if it runs, 2 if it is refused or cannot be loaded.
    """
    from hogwild_agents.config import RunConfig

    given: dict[str, object] = {
        "model": name,
        "revision": revision,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "max_context": max_context,
        "rope_scaling": rope_scaling,
        "quantization": quantization,
        "kernels": kernels,
        "int8_weights": int8_weights,
        "graphs": graphs,
        "compile_layers": compile_layers,
        "model_options": _model_options(model_option),
    }
    config = RunConfig().override(_only_given(given))

    from hogwild_agents.cli import model

    return model.check(config, from_config=from_config, as_json=as_json)


def _only_given(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
