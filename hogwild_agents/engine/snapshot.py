"""Snapshot: what a model is made of, to see later whether it still is.

Whoever runs what was recorded of a model does not see what is changed afterwards: a hook that was
added, weights that were replaced, a module that was wrapped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from operator import attrgetter, itemgetter, methodcaller
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

_HOOKS = "_forward_hooks", "_forward_pre_hooks"
_PARTS = "_modules", "_parameters", "_buffers"
_IDLE = "transformers.utils.output_capturing"
"""Where transformers has hooks that do nothing unless hidden states or the like are asked for."""
_EVERYWHERE: tuple[dict[int, Any], ...] = (
    torch_modules._global_forward_hooks,
    torch_modules._global_forward_pre_hooks,
)


class Snapshot:
    """A model as it is now.

    Args:
        model: the model.
        hooks: the ids of hooks that do not count.

    Attributes:
        plain: whether nothing of it is hooked or overridden.
    """

    def __init__(self, model: nn.Module, hooks: Collection[int]) -> None:
        states = [vars(module) for module in model.modules()]
        self._hooks = [state[name] for state in states for name in _HOOKS]
        self._hooked = dict(chain.from_iterable(map(dict.items, self._hooks)))
        self._parts = [state[name] for state in states for name in _PARTS if state[name]]
        self._held = list(_things(self._parts))  # alive, so that no other gets the same id
        self._ids = list(map(id, self._held))
        self._states = states
        self._forwards, self._modes = self._overrides(), self._training()
        self._tensors = [*model.parameters(), *model.buffers()]
        self._places = self._placed()
        self._everywhere = _hooked_everywhere()
        self.plain = (
            all(number in hooks or _is_idle(hook) for number, hook in self._hooked.items())
            and not self._everywhere
            and not any("forward" in state and not _is_own(state["forward"]) for state in states)
        )

    def holds(self) -> bool:
        """Whether the model is still the same: modules, tensors and their places, hooks, modes."""
        return (
            _hooked_everywhere() == self._everywhere
            and sum(map(len, self._hooks)) == len(self._hooked)
            and list(map(id, _things(self._parts))) == self._ids
            and self._overrides() == self._forwards
            and self._training() == self._modes
            and self._placed() == self._places
        )

    def _placed(self) -> list[Any]:
        looks = Tensor.data_ptr, Tensor.stride, Tensor.size, attrgetter("dtype")
        return [list(map(look, self._tensors)) for look in looks]

    def _overrides(self) -> list[Any]:
        return list(map(methodcaller("get", "forward"), self._states))

    def _training(self) -> list[bool]:
        return list(map(itemgetter("training"), self._states))


def _hooked_everywhere() -> bool:
    return any(_EVERYWHERE)


def _things(parts: Iterable[dict[str, Any]]) -> Iterator[Any]:
    return chain.from_iterable(map(dict.values, parts))


def _is_idle(hook: object) -> bool:
    return getattr(hook, "__module__", None) == _IDLE


def _is_own(forward: object) -> bool:
    """Whether a module's forward was replaced by the engine."""
    return type(forward).__module__.startswith(__package__ or "hogwild_agents.engine")
