"""Ways: which of transformers' ways to decode is the fastest here, found by a short trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

from hogwild_agents.bench.baselines import PLAIN, Sequences, Way
from hogwild_agents.bench.contents import States
from hogwild_agents.bench.timing import turn
from hogwild_agents.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a trial found.

    Attributes:
        fastest: of all ways.
        uncompiled: the fastest of those that are not compiled.
        tried_ms: milliseconds per tick, by way.
        notes: ways that do not run, and why.
    """

    fastest: Way
    uncompiled: Way
    tried_ms: Mapping[str, float]
    notes: Sequence[str]


class Transformers:
    """One model as transformers decodes with it.

    Args:
        model: a model that no engine has.
        room: how many tokens are written before a reset, at most.
        compiling: whether a compiled way is tried as well.
        say: told when something takes long.
    """

    def __init__(
        self, model: Any, *, room: int, compiling: bool, say: Callable[[str], None]
    ) -> None:
        self._model, self._room, self._compiling, self._say = model, room, compiling, say
        self._compiled: Any = None

    def sequences(self, way: Way, contexts: Sequence[Sequence[States]]) -> Sequences:
        """Return sequences with these contexts, decoded in one way."""
        forward = self._compile() if way.compiled else None
        return Sequences(self._model, way, contexts, self._room, forward)

    def choose(self, context: Sequence[States], ticks: int, device: torch.device) -> Choice:
        """Try every way on one sequence with this context.

        Raises:
            ModelError: none of them runs.
        """
        found: dict[Way, float] = {}
        notes = []
        for way in self._candidates(device):
            if way.compiled:
                self._say("Compiling transformers' model (--no-compile leaves this out) ...")
            try:
                single = self.sequences(way, [context])
                single.tick()
                found[way] = turn(single, device, ticks)
            except Exception as error:
                notes.append(f"{way} does not run ({reason(error)}).")
        uncompiled = {way: spent for way, spent in found.items() if not way.compiled}
        if not uncompiled:
            raise ModelError(
                f"transformers cannot decode with this model, so there is no baseline: {notes[0]}"
            )
        return Choice(
            fastest=min(found, key=lambda way: found[way]),
            uncompiled=min(uncompiled, key=lambda way: uncompiled[way]),
            tried_ms={str(way): spent for way, spent in found.items()},
            notes=notes,
        )

    def _candidates(self, device: torch.device) -> list[Way]:
        attentions = ["sdpa", "eager"]
        if device.type == "cuda" and is_flash_attn_2_available():
            attentions.append("flash_attention_2")
        ways = [PLAIN, *(Way("dynamic", name) for name in attentions[1:])]
        ways += [Way("static", name) for name in attentions[:2]]
        return [*ways, Way("static", "sdpa", compiled=True)] if self._compiling else ways

    def _compile(self) -> Any:
        if self._compiled is None:
            on_gpu = self._model.device.type == "cuda"
            mode = "reduce-overhead" if on_gpu else "default"
            self._compiled = torch.compile(self._model, mode=mode, dynamic=False)
        return self._compiled


def reason(error: BaseException) -> str:
    """Return the first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
