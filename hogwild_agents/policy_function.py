"""Policies from functions: ``@controller`` and ``@observer``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias, Union, get_args, get_origin, get_type_hints

from hogwild_agents.errors import ConfigError
from hogwild_agents.events import NAMES, Event
from hogwild_agents.policy import Answer, Observer, Policy

Handler: TypeAlias = Callable[..., Awaitable[Answer]]


def controller(function: Handler) -> Policy:
    """Make a policy of an async function.

    ::

        @controller
        async def hurry(event: StepEnded) -> Say | None:
            if event.step == 10:
                return Say(worker=event.worker, text="I should box the answer now. ")

    The annotation of its first parameter says which event it gets; a union says several. A second
    parameter, if there is one, gets the :class:`RunView`. The policy has the function's name.

    Raises:
        ConfigError: it is not async, or its parameters are not these.
    """
    return _FunctionPolicy(function)


def observer(function: Handler) -> Policy:
    """Make a policy of an async function that only watches; see :func:`controller`."""
    return _FunctionObserver(function)


class _FunctionPolicy(Policy):
    """A policy that asks one function."""

    def __init__(self, function: Handler) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigError(f"{function!r} cannot be a policy: define it with `async def`.")
        self._function = function
        parameters = list(inspect.signature(function).parameters)
        if not 1 <= len(parameters) <= 2:
            raise ConfigError(
                f"{self.name} takes {len(parameters)} parameters: a policy takes the event and, if "
                "it wants, the run."
            )
        self._takes_run = len(parameters) == 2
        for event in _events(function, parameters[0]):
            setattr(self, f"on_{_HANDLED[event]}", self._ask)

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self._function, "__name__", repr(self._function))

    async def _ask(self, event: Event) -> Answer:
        if self._takes_run:
            return await self._function(event, self.run)
        return await self._function(event)

    def __deepcopy__(self, memo: dict[int, Any]) -> Policy:
        """A function keeps no state of a run, so that its copy is a new policy of it."""
        twin = type(self)(self._function)
        twin.decides, twin.timeout, twin.enabled = self.decides, self.timeout, self.enabled
        return twin


class _FunctionObserver(_FunctionPolicy, Observer):
    observes_only: ClassVar[bool] = True


_HANDLED = {kind: name for name, kind in NAMES.items()}


def _nearby(function: Any) -> dict[str, object]:
    """Return what a function has of those around it, but for what they assign only later."""
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it is empty
            found[name] = cell.cell_contents
    return found


def _events(function: Handler, parameter: str) -> list[type]:
    """Return the events that the annotation of a parameter names."""
    alone = types.SimpleNamespace(__annotations__={})
    if parameter in function.__annotations__:
        alone.__annotations__[parameter] = function.__annotations__[parameter]
    inner: Any = inspect.unwrap(function)
    try:
        hint = get_type_hints(alone, inner.__globals__, _nearby(inner)).get(parameter)
    except NameError as error:
        raise ConfigError(
            f"The annotation of {parameter!r} cannot be read ({error}): name an event of "
            "hogwild_agents where the function is defined."
        ) from error
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    wrong = [kind for kind in kinds if kind not in _HANDLED]
    if wrong:
        raise ConfigError(
            f"{getattr(function, '__name__', function)} has {parameter!r} annotated with "
            f"{hint!r}: annotate it with the event that it wants, such as StepEnded."
        )
    return list(kinds)
