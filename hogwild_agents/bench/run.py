"""Run: makes the model, measures every cell, and puts the report together."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from hogwild_agents.bench.baselines import PLAIN as PLAIN_WAY, Concatenating, Sequences, Way
from hogwild_agents.bench.contents import Contents, States, fill_cache, free_cache, read_view
from hogwild_agents.bench.contestant import Ticks
from hogwild_agents.bench.floors import Products, measure_bandwidth, weights_read
from hogwild_agents.bench.machine import facts
from hogwild_agents.bench.memory import peak_above, peak_of_process
from hogwild_agents.bench.prefill import Prefill, measure_prefill
from hogwild_agents.bench.presets import check_preset, make_model, twin
from hogwild_agents.bench.report import (
    BATCH,
    CONCATENATING,
    ENGINE,
    OWN,
    PLAIN,
    PRODUCTS,
    SINGLE,
    Cell,
    Memory,
    Report,
    short,
)
from hogwild_agents.bench.runtime import Runtime, measure_runtime
from hogwild_agents.bench.settings import Settings, find_device
from hogwild_agents.bench.shares import measure_shares
from hogwild_agents.bench.timing import Runner, take_turns
from hogwild_agents.bench.ways import Transformers, reason
from hogwild_agents.counts import counted
from hogwild_agents.engine import Engine
from hogwild_agents.engine.memory import available
from hogwild_agents.engine.reach import FULL
from hogwild_agents.engine.threads import limited
from hogwild_agents.errors import ConfigError, ContextLengthError

Say = Callable[[str], None]
Keep = Callable[[Report], None]
RUNTIME_TICKS = 24
"""Ticks of a team in each round: it has to come into its stride, and a step may end."""
TEAM, PREFILL_ROUNDS = 4, 3
"""Workers who wait for a prompt, at most; and how often, since a prompt takes long."""
ROOM = 0.8
"""How much of the free memory a baseline may fill."""


def bench(settings: Settings, say: Say, keep: Keep) -> Report:
    """Measure, and return the report; after Ctrl-C, that of what was measured until then.

    Args:
        settings: what to measure.
        say: told what happens, line by line.
        keep: given what is known so far after each cell, for a run that is cut short.

    Raises:
        ConfigError: there is no such preset or device, or no room for the preset, or a context is
            too long for the model.
        ModelError: the model cannot be loaded, or is not supported.
    """
    device = find_device(settings.device)
    with limited(settings.threads):
        check_preset(settings, device)
        say(f"Making {settings.preset or settings.model} ...")
        model = make_model(settings, device)
        plain = twin(model)
        with Engine(
            model,
            kernels=settings.kernels,
            int8_weights=settings.int8_weights,
            graphs=settings.graphs,
            compile_layers=settings.compile_layers,
        ) as engine:
            _check_contexts(settings, engine)
            return _Bench(settings, engine, plain, device, say, keep).run()


def _check_contexts(settings: Settings, engine: Engine) -> None:
    longest = max(settings.contexts) + settings.turn * max(settings.workers)
    limit = engine.context_length
    if limit is not None and longest > limit:
        raise ConfigError(
            f"A context of {max(settings.contexts)} tokens and what is written in it are {longest} "
            f"tokens, but the model's context has {limit}: measure shorter ones."
        )


class _Bench:
    """One benchmark under way."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        plain: Any,
        device: torch.device,
        say: Say,
        keep: Keep,
    ) -> None:
        self._settings, self._engine, self._plain = settings, engine, plain
        self._device, self._say, self._keep = device, say, keep
        self._machine = facts(device)
        self._ways: dict[int, dict[str, object]] = {}
        self._cells: list[Cell] = []
        self._runtimes: list[Runtime] = []
        self._prefill: Prefill | None = None
        self._notes: list[str] = []
        self._transformers = Transformers(
            plain, room=settings.turn, compiling=settings.compiling, say=say
        )
        self._peak: int | None = None

    def run(self) -> Report:
        """Measure everything."""
        self._say("Measuring the memory's bandwidth ...")
        self._bandwidth = measure_bandwidth(self._device)
        complete = True
        try:
            for context in self._settings.contexts:
                self._measure_context(context)
            self._measure_runtimes()
            self._measure_prefill()
        except KeyboardInterrupt:
            complete = False
            self._notes.append("Interrupted: this is what was measured until then.")
        self._bandwidth = self._bandwidth.best(measure_bandwidth(self._device))
        self._note_peak()
        return self._report(complete=complete)

    def _report(self, *, complete: bool) -> Report:
        return Report(
            model=self._model_facts(),
            machine=self._machine,
            settings={"rounds": self._settings.rounds, "ticks": self._settings.ticks},
            ways=self._ways,
            bandwidth=self._bandwidth,
            cells=tuple(self._cells),
            runtimes=tuple(self._runtimes),
            prefill=self._prefill,
            peak=self._peak,
            notes=tuple(self._notes),
            complete=complete,
        )

    def _model_facts(self) -> dict[str, object]:
        parameters = list(self._plain.parameters())
        return {
            "name": self._settings.preset or self._settings.model,
            "random_weights": self._settings.preset is not None,
            "dtype": str(self._engine.dtype).removeprefix("torch."),
            "weight_bytes": sum(one.numel() * one.element_size() for one in parameters),
            "bytes_per_token": self._engine.bytes_per_token,
            "kernels": list(self._engine.kernels),
            "int8_bytes": self._engine.int8_bytes,
            "graphs": self._engine.graphs,
            "compiled_layers": self._engine.compiled_layers,
        }

    # -- one context

    def _measure_context(self, context: int) -> None:
        one = self._contexts(context, 1, context // 2)[0]
        chosen = self._transformers.choose(one, self._settings.ticks, self._device)
        self._notes += [f"Context {short(context)}: {note}" for note in chosen.notes]
        self._ways[context] = {"chosen": str(chosen.fastest), "tried_ms": chosen.tried_ms}
        single = self._transformers.sequences(chosen.fastest, [one])
        plain = single
        if chosen.fastest != PLAIN_WAY:
            plain = self._transformers.sequences(PLAIN_WAY, [one])
        for workers in self._settings.workers:
            team = counted(workers, "worker")
            self._say(f"Context {short(context)}, {team} ...")
            singles = {SINGLE: single, PLAIN: plain}
            try:
                cell = self._measure_cell(context, workers, singles, chosen.uncompiled)
            except (torch.OutOfMemoryError, MemoryError):
                self._notes.append(
                    f"Context {short(context)} with {team} does not fit into memory."
                )
            else:
                self._cells.append(cell)
            self._collect()
            self._keep(self._report(complete=False))

    def _contexts(self, context: int, workers: int, own: int) -> list[list[States]]:
        """Return the contexts of N independent sequences: the views of N workers."""
        contents = fill_cache(self._engine, workers, context - workers * own, own)
        try:
            return [read_view(self._engine, view) for view in contents.views]
        finally:
            free_cache(self._engine, contents)

    # -- one cell

    def _measure_cell(
        self, context: int, workers: int, singles: dict[str, Sequences], way: Way
    ) -> Cell:
        settings, engine = self._settings, self._engine
        own = settings.own_tokens(context, workers)
        contents = fill_cache(engine, workers, context - workers * own, own)
        ticks, notes = Ticks(engine, contents.views), list[str]()
        ticks.settle()
        contestants: dict[str, Runner] = {ENGINE: ticks, **singles}
        contestants[PRODUCTS] = Products(self._plain, workers)
        if "products" in engine.kernels:
            contestants[OWN] = Products(engine.model, workers)
        try:
            contestants |= self._teams(contents, context, way, notes)
            times = take_turns(
                contestants, self._device, rounds=settings.rounds, ticks=settings.ticks
            )
            return Cell(
                workers=workers,
                context=context,
                own=own,
                times=times,
                weights=weights_read(engine.model, workers, int8=bool(engine.int8_bytes)),
                states=context * engine.bytes_per_token,
                shares=measure_shares(engine, ticks, self._device, settings.turn),
                memory=self._memory(contestants, context, workers),
                notes=tuple(notes),
            )
        finally:
            ticks.reset()
            free_cache(engine, contents)

    def _teams(
        self, contents: Contents, context: int, way: Way, notes: list[str]
    ) -> dict[str, Runner]:
        """Return the baselines that write for all workers, as far as they can be had."""
        engine, workers = self._engine, len(contents.own)
        each = context * engine.bytes_per_token
        found: dict[str, Runner] = {}

        def add(name: str, need: int, make: Callable[[], Runner]) -> None:
            free = available(self._device)
            if free is not None and need > ROOM * free:
                notes.append(
                    f"{name} is left out: it would take {need / 2**30:.3g} GiB, and "
                    f"{free / 2**30:.3g} GiB are free."
                )
                return
            try:
                contestant = make()
                contestant.tick()
            except Exception as error:
                notes.append(f"{name} is left out: it does not run ({reason(error)}).")
            else:
                found[name] = contestant

        def batch() -> Runner:
            contexts = [read_view(engine, view) for view in contents.views]
            return self._transformers.sequences(way, contexts)

        if engine.adapter.reaches == (FULL,):
            make = partial(Concatenating, self._plain, way.attention, engine, contents)
            add(CONCATENATING, 2 * each, make)
        else:
            notes.append(f"{CONCATENATING} is left out: some layers do not see the whole view.")
        if workers > 1:
            add(BATCH, 3 * workers * each, batch)
        return found

    def _memory(
        self, contestants: dict[str, Runner], context: int, workers: int
    ) -> dict[str, Memory]:
        each = context * self._engine.bytes_per_token
        found = {}
        self._note_peak()
        for name, contestant in contestants.items():
            if name in (PRODUCTS, OWN):
                continue
            contestant.reset()
            contestant.tick()
            found[name] = Memory(
                cache=each * (workers if name == BATCH else 1),
                peak=peak_above(contestant.tick, self._device),
            )
        return found

    # -- the runtime

    def _measure_runtimes(self) -> None:
        for workers in self._settings.workers:
            self._say(f"A team of {workers} ...")
            try:
                runtime = measure_runtime(
                    self._engine,
                    workers,
                    self._device,
                    rounds=self._settings.rounds,
                    ticks=RUNTIME_TICKS,
                )
            except ImportError as error:
                self._notes.append(f"What a team adds was not measured: {reason(error)}.")
                return
            self._runtimes.append(runtime)

    def _measure_prefill(self) -> None:
        context, workers = min(self._settings.contexts), min(TEAM, max(self._settings.workers))
        self._say(f"A prompt for {counted(workers, 'worker')} to wait for ...")
        own = self._settings.own_tokens(context, workers)
        contents = fill_cache(self._engine, workers, context - workers * own, own)
        rounds = min(PREFILL_ROUNDS, self._settings.rounds)
        try:
            self._prefill = measure_prefill(self._engine, contents, self._device, rounds=rounds)
        except (ImportError, ContextLengthError) as error:
            self._notes.append(f"Reading a prompt was not measured: {reason(error)}.")
        finally:
            free_cache(self._engine, contents)

    def _note_peak(self) -> None:
        """Keep the peak until now: to measure single ticks, a GPU's is reset."""
        found = (self._peak, peak_of_process(self._device))
        self._peak = max((peak for peak in found if peak is not None), default=None)

    def _collect(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
