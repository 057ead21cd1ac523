"""Command: measures, shows the tables, and writes what was asked for."""

from __future__ import annotations

import sys
from functools import partial

from hogwild_agents.bench.plot import as_svg
from hogwild_agents.bench.report import Report, as_json
from hogwild_agents.bench.run import bench
from hogwild_agents.bench.settings import Settings
from hogwild_agents.bench.table import show

INTERRUPTED = 130


def run(settings: Settings) -> int:
    """Run a benchmark; return 0, or 130 if it was interrupted.

    Raises:
        ConfigError, ModelError: see :func:`hogwild_agents.bench.run.bench`.
    """
    report = bench(settings, _say, partial(_write, settings))
    if not report.complete:
        _leave_the_line()
    show(report)
    _write(settings, report)
    return 0 if report.complete else INTERRUPTED


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _leave_the_line() -> None:
    """Begin a new line on a terminal, where ``^C`` stands on this one."""
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            print(file=stream, flush=True)
            return


def _write(settings: Settings, report: Report) -> None:
    """Write the files that were asked for."""
    if settings.json is not None:
        settings.json.write_text(as_json(report), encoding="utf-8")
    if settings.plot is not None:
        settings.plot.write_text(as_svg(report), encoding="utf-8")
