"""The package's log: structlog events, and silence unless the user has configured structlog.

structlog prints to stdout when nobody has configured it; a library must not. So events are
dropped until ``structlog.configure(...)`` was called, and go where it says from then on.
"""

from __future__ import annotations

import structlog

__all__ = ["Logger", "get_logger"]


class Logger:
    """A structlog logger that discards everything while structlog is not configured.

    Args:
        name: the module that logs; handed to structlog's logger factory.
    """

    __slots__ = ("_target",)

    def __init__(self, name: str) -> None:
        self._target = structlog.get_logger(name)

    def debug(self, event: str, **fields: object) -> None:
        """Log what only who looks for a fault wants to know."""
        if structlog.is_configured():
            self._target.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log what happened as it should."""
        if structlog.is_configured():
            self._target.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what went wrong and was dealt with."""
        if structlog.is_configured():
            self._target.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what went wrong and could not be dealt with; ``exc_info=error`` adds a traceback."""
        if structlog.is_configured():
            self._target.error(event, **fields)


def get_logger(name: str = "hogwild_agents") -> Logger:
    """Return a logger that is silent unless the user has configured structlog."""
    return Logger(name)
