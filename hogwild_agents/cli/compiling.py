"""Compiling: noticed when it begins, since it takes long, and no stage of a load tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["noticed"]


@contextmanager
def noticed(tell: Callable[[], object]) -> Iterator[None]:
    """While it lasts, have ``tell`` called once if numba compiles; not if all is kept on disk.

    Without numba nothing is compiled, and nothing happens.
    """
    try:
        from numba.core import event
    except Exception:  # it may be there and not fit numpy: the engine warns of that
        yield
        return

    class Once(event.Listener):  # type: ignore[misc]
        told = False

        def on_start(self, event: object) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, event: object) -> None:
            pass

    with event.install_listener("numba:run_pass", Once()):
        yield
