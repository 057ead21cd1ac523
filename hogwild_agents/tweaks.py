"""Tweaks: temporary changes of how a worker samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hogwild_agents.engine import SamplingParams

Change: TypeAlias = Callable[[SamplingParams], SamplingParams]


@dataclass
class _Tweak:
    change: Change
    left: int | None  # tokens


class Tweaks:
    """What was changed for a while, oldest first.

    Args:
        params: the worker's own way.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._own = params
        self._tweaks: list[_Tweak] = []

    @property
    def params(self) -> SamplingParams:
        """How the worker samples now."""
        params = self._own
        for tweak in self._tweaks:
            params = tweak.change(params)
        return params

    def add(self, change: Change, tokens: int | None) -> None:
        """Change the parameters, for so many sampled tokens or for good."""
        self._tweaks.append(_Tweak(change, tokens))

    def sampled(self) -> bool:
        """Count one sampled token; return whether a change is over."""
        if not self._tweaks:
            return False
        for tweak in self._tweaks:
            if tweak.left is not None:
                tweak.left -= 1
        lasting = [tweak for tweak in self._tweaks if tweak.left is None or tweak.left > 0]
        changed = len(lasting) < len(self._tweaks)
        self._tweaks = lasting
        return changed


def banning(tokens: frozenset[int]) -> Change:
    """Return the change that bans tokens, besides those that are banned already."""
    return lambda params: params.replace(banned=params.banned | tokens)


def biasing(bias: Mapping[int, float]) -> Change:
    """Return the change that adds to the bias of tokens."""

    def change(params: SamplingParams) -> SamplingParams:
        summed = dict(params.bias)
        for token, value in bias.items():
            summed[token] = summed.get(token, 0.0) + value
        return params.replace(bias=summed)

    return change


def replacing(changes: Mapping[str, float]) -> Change:
    """Return the change that sets parameters."""
    return lambda params: params.replace(**changes)
