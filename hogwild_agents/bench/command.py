"""Command: measures, shows the tables, and writes what was asked for."""

from __future__ import annotations

import sys

from hogwild_agents.bench.plot import as_svg
from hogwild_agents.bench.report import as_json
from hogwild_agents.bench.run import bench
from hogwild_agents.bench.settings import Settings
from hogwild_agents.bench.table import show

INTERRUPTED = 130


def run(settings: Settings) -> int:
    """Run a benchmark; return 0, or 130 if it was interrupted.

    Raises:
        ConfigError, ModelError: see :func:`hogwild_agents.bench.run.bench`.
    """
    report = bench(settings, lambda line: print(line, file=sys.stderr, flush=True))
    show(report)
    if settings.json is not None:
        settings.json.write_text(as_json(report), encoding="utf-8")
    if settings.plot is not None:
        settings.plot.write_text(as_svg(report), encoding="utf-8")
    return 0 if report.complete else INTERRUPTED
