"""Worker names: what workers are called whom nobody has named."""

from __future__ import annotations

from hogwild_agents.errors import ConfigError

NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi")


def is_name(name: object) -> bool:
    """Whether something can be a worker's name: one line of text that is not blank."""
    return isinstance(name, str) and bool(name.strip()) and name.splitlines() == [name]


def worker_names(number: int) -> tuple[str, ...]:
    """Return the default names of so many workers; beyond the eighth they are numbered.

    Raises:
        ConfigError: it is no number from 1.
    """
    if isinstance(number, bool) or number < 1:
        raise ConfigError(
            f"workers is {number!r}, but a team needs at least one worker: give a number from 1, "
            "or a list of names."
        )
    numbered = tuple(f"Worker{index}" for index in range(len(NAMES) + 1, number + 1))
    return NAMES[:number] + numbered
