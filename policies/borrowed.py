"""Borrowed: what a user gave to a policy, which the runs' copies of it share."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Borrowed(Generic[T]):
    """Holds an object that is not copied with its policy, such as a function or a client.

    Args:
        value: the object.
    """

    def __init__(self, value: T) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this: the object is the user's."""
        return self
