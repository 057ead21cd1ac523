"""Devices that this machine does not have: tensors that lie at a place, and may not be mixed.

``cpu:1``, ``cpu:2`` ... are such places, the plain ``cpu`` is the host. The numbers are computed
as ever; what is held to is where they lie, by the rules that GPUs have: an operation takes
tensors of one place only, but for single numbers and indices of the host and for plain copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HOST = torch.device("cpu")
_MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)


class PlaceError(AssertionError):
    """Raised when an operation mixes tensors of several places."""


class Placed(Tensor):
    """A tensor that lies at a place; its numbers are in ``content``."""

    content: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, content: Tensor, place: torch.device) -> Placed:
        found: Placed = torch.Tensor._make_wrapper_subclass(
            cls, content.size(), strides=content.stride(), dtype=content.dtype
        )
        found.content, found.place = content, place
        return found

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it lies."""
        return self.place

    def tolist(self) -> Any:
        """Its numbers, on the host."""
        return self.content.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Placed({self.content!r}, {self.place})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(operation, args, kwargs or {})


@contextmanager
def places() -> Iterator[None]:
    """While it lasts, tensors can be made at places, and moved between them."""
    with _FromData(), _Operations():  # type: ignore[no-untyped-call]
        yield


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(operation, args, kwargs or {})


class _FromData(TorchFunctionMode):
    """``torch.tensor`` is no operation, so it is seen here."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is not torch.tensor or kwargs.get("device") is None:
            return function(*args, **kwargs)
        place = torch.device(kwargs.pop("device"))
        return _at(function(*args, **kwargs), place)


def _at(content: Tensor, place: torch.device) -> Tensor:
    return content if place == HOST else Placed(content, place)


def _compute(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    place = _place_of(operation, args, kwargs)
    asked = kwargs.get("device")
    if asked is not None:
        place, kwargs = torch.device(asked), {**kwargs, "device": HOST}
    plain_args, plain_kwargs = tree_map(_content, (args, kwargs))
    found = operation(*plain_args, **plain_kwargs)
    if operation._schema.is_mutable and isinstance(args[0], Tensor):
        return args[0]
    return tree_map(lambda each: _at(each, place) if isinstance(each, Tensor) else each, found)


def _content(value: Any) -> Any:
    return value.content if isinstance(value, Placed) else value


def _place_of(operation: Any, args: Any, kwargs: dict[str, Any]) -> torch.device:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    if operation in _MOVES:
        return tensors[0].device
    free = 1 if operation in _INDEXED else len(tensors)
    places = {
        each.device
        for number, each in enumerate(tensors)
        if each.device != HOST or (each.dim() and number < free)
    }
    if len(places) > 1:
        raise PlaceError(f"{operation} mixes tensors of {sorted(map(str, places))}.")
    return places.pop() if places else HOST
