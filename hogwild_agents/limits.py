"""Limits: when the thinking of a run ends, whatever the workers are at."""

from __future__ import annotations

from dataclasses import dataclass

from hogwild_agents.errors import ConfigError
from hogwild_agents.whole import is_above_zero, is_whole


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a run may think; None for no such limit. Reaching one ends the run in order.

    Ticks and tokens are looked at between two ticks, when all workers have handled their tokens.
    When the seconds are over, the thinking ends at once: a tick under way is still fed, but what
    would be sampled after it is dropped. The cache's budget belongs to the engine
    (``load_model(..., max_tokens=...)``), and reaching that ends a run in order too.

    Attributes:
        ticks: consecutive forward passes, the paper's budget. Prompts and conclusions are free.
        tokens: tokens sampled by all workers together; those of the tick that reaches it count.
        seconds: since thinking began.

    Raises:
        ConfigError: a limit is no number above 0, or one of ticks or tokens no whole one.
    """

    ticks: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("ticks", "tokens"):
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and value > 0):
                raise ConfigError(
                    f"The limit of {name} is {value!r}, but must be a whole number above 0."
                )
        if self.seconds is not None and not is_above_zero(self.seconds):
            raise ConfigError(
                f"The limit of seconds is {self.seconds!r}, but must be a number above 0."
            )
