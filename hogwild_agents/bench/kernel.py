"""``python -m hogwild_agents.bench.kernel``: check the kernels against torch, and time them.

Needs torch, transformers and triton. For every case it prints how far the results are from torch's
in float32, the time of one layer, how fast keys and values were read, and the share of the copy
bandwidth that this is. Where they are too far, the exit code is 1. On a GPU launches are recorded
as a CUDA graph; then blocks grow, new tables are laid out, and what the same graph gives is checked
too. Norms and gates are compared with torch's operators. At last an engine writes with and without
replaying its forwards, and with compiled layers, and its logits are compared.
On a CPU triton has to interpret (``TRITON_INTERPRET=1``), and times mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from hogwild_agents.bench.floors import measure_bandwidth
from hogwild_agents.bench.machine import device_name, versions
from hogwild_agents.bench.presets import PRESETS, random_model
from hogwild_agents.bench.replays import measure_replays
from hogwild_agents.bench.rows import measure_rows
from hogwild_agents.bench.scene import Case, Scene
from hogwild_agents.bench.settings import find_device
from hogwild_agents.bench.timing import synchronize, timed
from hogwild_agents.bench.ways import reason
from hogwild_agents.engine.reach import Reach
from hogwild_agents.engine.schedule import Schedule, Tuning, tuning_of
from hogwild_agents.errors import ConfigError, HogwildError

BOUNDS = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""The largest error, as a share of the largest result."""
FRESH_BYTES = 256 << 20
"""So much is read by one replay at least, so that no cache of a GPU holds it from the last one."""
REPLAYS, BURST = 9, 10
INTERPRETED = Tuning(programs=4, grain=16, rows=16)

QWEN3_32B = Case(heads=64, kv_heads=8, key_dim=128, value_dim=128, turning=128)
KINDS = {
    "qwen3-32b": QWEN3_32B,
    "qwen3-8b": replace(QWEN3_32B, heads=32),
    "qwen2.5-0.5b": replace(QWEN3_32B, heads=14, kv_heads=2, key_dim=64, value_dim=64, turning=64),
    "qwen3-30b-a3b": replace(QWEN3_32B, heads=32, kv_heads=4),
    "no groups": replace(QWEN3_32B, heads=16, kv_heads=16),
    "one kv head, group 71": replace(
        QWEN3_32B, heads=71, kv_heads=1, key_dim=64, value_dim=64, turning=0
    ),
    "sinks, window 128": replace(
        QWEN3_32B, key_dim=64, value_dim=64, turning=64, sinks=True, reach=Reach("sliding", 128)
    ),
    "softcap, head 256": replace(
        QWEN3_32B, heads=16, key_dim=256, value_dim=256, turning=256, softcap=50.0
    ),
    "chunks of 512": replace(QWEN3_32B, heads=40, reach=Reach("chunked", 512), turning=0),
    "half, interleaved": replace(QWEN3_32B, heads=32, kv_heads=2, turning=64, pairing="neighbours"),
    "head 80, part": replace(
        QWEN3_32B, heads=32, kv_heads=32, key_dim=80, value_dim=80, turning=32
    ),
    "mla": replace(
        QWEN3_32B, heads=16, kv_heads=16, key_dim=192, turning=64, start=128, pairing="neighbours"
    ),
}
"""Shapes of layers, all in float32 here; the first three are timed in many sizes."""
ROWS = "norms and gates"
TIMED = tuple(KINDS)[:3]


@dataclass(frozen=True)
class Found:
    """What one case gave.

    Attributes:
        error: the largest difference from torch in float32, as a share of the largest result.
        grown: the same after the blocks had grown, by the same launches; None if the tables did
            not fit into the places of the old ones.
        ms: of one layer.
        bytes: of keys and values that one layer reads, each once.
    """

    error: float
    grown: float | None
    ms: float
    bytes: int

    def right(self, dtype: torch.dtype) -> bool:
        """Whether the results are as near as they have to be."""
        errors = (self.error, 0.0 if self.grown is None else self.grown)
        return all(error <= BOUNDS[dtype] for error in errors)  # not so for a NaN


class Launches:
    """One tick of a scene by the kernel, again and again, with the arguments of the first time."""

    def __init__(self, scene: Scene, tuning: Tuning) -> None:
        from hogwild_agents.engine.gpu_tick import GpuTick  # imports triton

        schedule = scene.plan(tuning).schedule
        assert schedule is not None
        self.schedule, self._scene = schedule, scene
        self._tick = GpuTick(schedule, scene.adapter, scene.device, scene.device)
        self._begin, self._attend = self._tick.compute_angles, self._launch
        self._attend()
        if scene.device.type == "cuda":
            synchronize(scene.device)
            self._begin, self._attend = _recorded(self._begin), _recorded(self._attend)
            self._begin()  # what is recorded does not run

    def run(self) -> Tensor:
        """Launch all layers once more; return the results of the first one."""
        self._attend()
        return self._result

    def refill(self, schedule: Schedule) -> bool:
        """Take over the tables of another tick, if they fit."""
        fits = self._tick.refill(schedule)
        self._begin()
        return fits

    def _launch(self) -> None:
        scene = self._scene
        query, key, value = (states[0] for states in (scene.query, scene.key, scene.value))
        results = [
            self._tick.attend(
                layer, query, key, value, scene.scale, scene.adapter.layers[layer].sinks
            )
            for layer in range(scene.case.layers)
        ]
        self._result = results[0]


def _recorded(work: Callable[[], None]) -> Callable[[], None]:
    """Return what launches again all that is launched by some work."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    replay: Callable[[], None] = graph.replay
    return replay


def measure(case: Case, tuning: Tuning, device: torch.device, replays: int) -> Found:
    """Check and time one case."""
    if device.type == "cuda":  # more layers than caches hold
        tokens = case.shared + case.workers * case.own
        layers = -(-FRESH_BYTES // (tokens * case.layer_bytes))
        case = replace(case, layers=max(1, min(512, layers)))
    scene = Scene(case, device)
    launches = Launches(scene, tuning)
    error = _error(launches.run(), scene)
    burst = BURST if device.type == "cuda" else 1  # so that the host is ahead of the GPU
    spent = median(timed(partial(_repeat, launches.run, burst), device) for _ in range(replays))
    size = _slots_read(launches.schedule) * case.layer_bytes
    scene.next_tick()
    schedule = scene.plan(tuning).schedule
    assert schedule is not None
    grown = _error(launches.run(), scene) if launches.refill(schedule) else None
    return Found(error, grown, spent / burst / case.layers, size)


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def _error(found: Tensor, scene: Scene) -> float:
    expected = scene.precise().by_torch()
    return float((found.float() - expected).abs().max() / expected.abs().max())


def _slots_read(schedule: Schedule) -> int:
    """Return how many slots a layer reads, each counted once."""
    (layout,) = schedule.layouts.values()
    items = schedule.table[slice(*layout.items)].view(-1, 8)
    spans = {(slab, start, stop) for slab, _, start, stop, rows, *_ in items.tolist() if stop}
    read, at = 0, (-1, 0)
    for slab, start, stop in sorted(spans):
        low = max(start, at[1]) if slab == at[0] else start
        read += max(0, stop - low)
        at = (slab, max(stop, low))
    return read


def cases(tiny: bool) -> Iterator[tuple[str, Case]]:
    """Yield what is measured, with its name."""
    half = torch.bfloat16
    if tiny:
        for name, kind in KINDS.items():
            group, reach = (
                kind.heads // kind.kv_heads,
                Reach(kind.reach.kind, kind.reach.size // 16),
            )
            yield (
                name,
                replace(kind, heads=group, kv_heads=1, reach=reach, shared=40, own=5, fed=(1, 3)),
            )
        return
    for name in TIMED:
        for shared in (1024, 4096, 16384):
            for workers in (1, 2, 4, 8, 16):
                case = replace(KINDS[name], dtype=half, workers=workers)
                yield name, replace(case, shared=shared - 50 * workers, own=50)
    for name, kind in KINDS.items():
        for dtype in (torch.float32, torch.float16, half):
            yield name, replace(kind, dtype=dtype, workers=3, shared=1000, own=77)
        yield name, replace(kind, dtype=half, workers=5, shared=777, own=130, fed=(1, 3, 1, 40))
    for fed in (512, 2048):
        yield (
            "qwen3-32b",
            replace(QWEN3_32B, dtype=half, workers=4, shared=4096, fed=(fed, 1, 1, 1)),
        )


HEADS = ("what", "dtype", "workers", "shared", "fed", "error", "grown", "ms", "GB/s", "of copy")
_LINE = "{:22} {:>9} {:>7} {:>7} {:>12} {:>9} {:>9} {:>9} {:>8} {:>8}"


def line(name: str, case: Case, found: Found, bandwidth: float) -> str:
    """Return one line of the table."""
    speed = found.bytes / found.ms * 1e3
    return _LINE.format(
        name,
        str(case.dtype).removeprefix("torch."),
        case.workers,
        case.shared,
        ",".join(map(str, case.fed)),
        f"{found.error:.1e}",
        "-" if found.grown is None else f"{found.grown:.1e}",
        f"{found.ms:.4f}",
        f"{speed / 1e9:.1f}",
        f"{speed / bandwidth:.2f}",
    ) + ("" if found.right(case.dtype) else "  TOO FAR")


def tune(case: Case, start: Tuning, device: torch.device, say: Callable[[str], None]) -> Tuning:
    """Change one thing at a time as long as it helps; return the fastest tuning."""
    best, fastest = start, measure(case, start, device, REPLAYS).ms
    options: dict[str, Sequence[Any]] = {
        "programs": [start.programs * times // 2 for times in (1, 3, 4, 6)],
        "stages": (2, 3, 5),
        "fast_bytes": (start.fast_bytes // 2, start.fast_bytes * 3 // 2),
        "warps": (4, 8),
        "grain": (32, 128, 256),
        "rows": (64,),
    }
    for name, values in options.items():
        for value in values:
            tried = replace(best, **{name: value})
            try:
                spent = measure(case, tried, device, REPLAYS).ms
            except Exception as error:  # too large for this device, most often
                say(f"  {name}={value}: {reason(error)}")
                continue
            say(f"  {name}={value}: {spent:.4f} ms, {fastest / spent:.2f} times as fast")
            if spent < fastest:
                best, fastest = tried, spent
    return best


def run(device: torch.device, *, tiny: bool, tuned: bool, only: str) -> int:
    """Measure all cases and print a table; return 1 if a result was too far, else 0.

    Raises:
        ConfigError: the kernel does not run here, or nothing is called so.
    """
    tuning = _tuning(device)
    chosen = [(name, case) for name, case in cases(tiny) if only in name]
    if not chosen and only not in ROWS:
        raise ConfigError(f"No case is called {only!r}: take a part of {', '.join(KINDS)}, {ROWS}.")
    bandwidth = measure_bandwidth(device).copy
    print(f"{device_name(device)}, copies {bandwidth / 1e9:.0f} GB/s, {versions()}")
    print(f"{tuning}\n")
    print(_LINE.format(*HEADS))
    right = True
    for name, case in chosen:
        try:
            found = measure(case, tuning, device, 1 if tiny else REPLAYS)
        except Exception as error:  # the others are worth knowing
            right = False
            print(f"{name}, {case}: {reason(error)}", flush=True)
            continue
        right = right and found.right(case.dtype)
        print(line(name, case, found, bandwidth), flush=True)
    for workers, shared in ((1, 1024), (2, 4096), (8, 1024), (8, 16384)) if tuned else ():
        case = replace(QWEN3_32B, dtype=torch.bfloat16, workers=workers, shared=shared, own=50)
        print(f"\nqwen3-32b, {workers} workers, {shared} shared tokens")
        print(f"fastest: {tune(case, tuning, device, partial(print, flush=True))}")
    if only in ROWS:
        right = _compare_rows(device, tiny=tiny) and right
    if device.type == "cuda" and not only:
        right = _compare_replays(device) and right
    return 0 if right else 1


def _compare_rows(device: torch.device, *, tiny: bool) -> bool:
    """Print how norms and gates compare with torch's; return if they are near."""
    print("\nnorms and gates, and torch's operators")
    right = True
    for found in measure_rows(device, tiny=tiny):
        right = right and found.right
        times = "" if found.ms is None else f"{found.ms:.4f} ms instead of {found.plain_ms:.4f}"
        print(f"{found.name:40} {times}" + ("" if found.right else "  TOO FAR"), flush=True)
    return right


def _compare_replays(device: torch.device) -> bool:
    """Print how an engine's replayed ticks compare with plain ones; return if they are near."""
    print("\nticks of 4 workers, replayed and plain")
    right = True
    for name, dtype in (("tiny", torch.float32), ("qwen2.5-0.5b", torch.bfloat16)):
        model = random_model(PRESETS[name].config(), dtype, device)
        for compiled in (False, True):
            what = f"{name}, {str(dtype).removeprefix('torch.')}{', compiled' * compiled}"
            try:
                found = measure_replays(model, device, compile_layers=compiled)
            except Exception as error:  # the others are worth knowing
                right = False
                print(f"{what}: {reason(error)}", flush=True)
                continue
            near = found.error <= BOUNDS[dtype] and found.ms is not None
            right = right and near
            print(
                f"{what}: {found.replayed} of {found.ticks} replayed, error {found.error:.1e}, "
                f"{found.ms or float('nan'):.3f} ms instead of {found.plain_ms:.3f}"
                + ("" if near else "  TOO FAR, OR NEVER REPLAYED"),
                flush=True,
            )
    return right


def _tuning(device: torch.device) -> Tuning:
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return INTERPRETED
    found = tuning_of(Scene(Case(), device).pool.shapes[0])
    if found is None or found.kernel != INTERPRETED.kernel:  # on a CPU there is another one
        raise ConfigError(
            f"The kernel does not run on {device_name(device)}: it needs triton, and a GPU of "
            "compute capability 8.0 or more, or TRITON_INTERPRET=1 with --device cpu --tiny."
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the arguments say, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m hogwild_agents.bench.kernel",
        description="Check the kernels against torch over many shapes, and time them.",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="few tokens, for a try on a CPU")
    parser.add_argument("--tune", action="store_true", help="then look for better sizes of tiles")
    parser.add_argument("--only", default="", metavar="NAME", help="cases whose name has this")
    given = parser.parse_args(arguments)
    try:
        device = find_device(given.device)
        return run(device, tiny=given.tiny, tuned=given.tune, only=given.only)
    except HogwildError as error:
        print(f"hogwild: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
