"""Snapshot: what a model is made of, to see later whether it still is.

Whoever runs what was recorded of a model does not see what is changed afterwards: a hook that was
added, weights that were replaced, a module that was wrapped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from transformers import PreTrainedConfig

_HOOKS = "_forward_hooks", "_forward_pre_hooks"
_KEPT = (*_HOOKS, "_modules", "_parameters", "_buffers")
"""Of what torch keeps in each module, what a forward depends on."""
_TORCHS = vars(nn.Module()).keys()
"""All that torch keeps in each module."""
_END = (object(),)
"""What comes after all that a model holds."""
_IDLE = "transformers.utils.output_capturing"
"""Where transformers has hooks that do nothing unless hidden states or the like are asked for."""
_EVERYWHERE: tuple[dict[int, Any], ...] = (
    torch_modules._global_forward_hooks,
    torch_modules._global_forward_pre_hooks,
)


class Snapshot:
    """A model as it is now: all that its modules and configs hold, and what their lists and
    dictionaries hold; a number changed deeper inside, or in an object of another kind, is not seen.

    Args:
        model: the model.
        hooks: the ids of hooks that do not count.

    Attributes:
        plain: whether nothing of it is hooked or overridden.
    """

    def __init__(self, model: nn.Module, hooks: Collection[int]) -> None:
        self._modules = list(model.modules())
        self._kinds = list(map(type, self._modules))
        states = list(map(vars, self._modules))
        self._states = [*states, *_configs(states)]
        self._kept = [state[name] for state in states for name in _KEPT]
        self._count = sum(map(len, self._kept))
        own = [
            value for state in self._states for name, value in state.items() if name not in _TORCHS
        ]
        self._tables = [*filter(None, self._kept), *(one for one in own if isinstance(one, dict))]
        self._lists = [one for one in own if isinstance(one, list | set | tuple)]
        self._held = list(self._contents())
        self._tensors = [*model.parameters(), *model.buffers()]
        self._addresses = list(map(Tensor.data_ptr, self._tensors))
        self._places = self._placed()
        self._everywhere = _hooked_everywhere()
        hooked = chain.from_iterable(state[name].items() for state in states for name in _HOOKS)
        self.plain = (
            all(number in hooks or _is_idle(hook) for number, hook in hooked)
            and not self._everywhere
            and not any("forward" in state and not _is_own(state["forward"]) for state in states)
        )

    def holds(self) -> bool:
        """Whether the model is still the same: modules, tensors and their places, hooks, values."""
        return (
            _hooked_everywhere() == self._everywhere
            and sum(map(len, self._kept)) == self._count
            and all(map(is_, map(type, self._modules), self._kinds))
            and all(map(is_, self._contents(), self._held))
            and self.in_place()
            and self._placed() == self._places
        )

    def in_place(self) -> bool:
        """Whether the model's tensors lie at the same addresses, which is soon seen."""
        return list(map(Tensor.data_ptr, self._tensors)) == self._addresses

    def _contents(self) -> Iterator[Any]:
        values = chain.from_iterable(map(dict.values, chain(self._states, self._tables)))
        return chain(values, chain.from_iterable(self._lists), _END)

    def _placed(self) -> list[Any]:
        looks = Tensor.stride, Tensor.size, attrgetter("dtype")
        return [list(map(look, self._tensors)) for look in looks]


def _configs(states: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the configs hold that modules have, each once."""
    values = chain.from_iterable(map(dict.values, states))
    found = {id(value): value for value in values if isinstance(value, PreTrainedConfig)}
    return list(map(vars, found.values()))


def _hooked_everywhere() -> bool:
    return any(_EVERYWHERE)


def _is_idle(hook: object) -> bool:
    return getattr(hook, "__module__", None) == _IDLE


def _is_own(forward: object) -> bool:
    """Whether a module's forward was replaced by the engine."""
    return type(forward).__module__.startswith(__package__ or "hogwild_agents.engine")
