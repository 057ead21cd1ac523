"""Unknown names: whom workers were to see, or to be seen by, though nobody was called so.

A worker may name others who join later, so that a name is wrong shows only when the run is over.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from hogwild_agents.nearest import nearest

if TYPE_CHECKING:
    from hogwild_agents.worker import Worker

__all__ = ["UnknownWorkerWarning", "warn_of_unknown"]


class UnknownWorkerWarning(UserWarning):
    """A worker's ``sees`` or ``seen_by`` named somebody who never was in its run.

    It comes at the end of the run, because a worker may name others who join later.
    """


def warn_of_unknown(workers: Iterable[Worker], names: Collection[str]) -> None:
    """Warn of every name in workers' ``sees`` and ``seen_by`` that is not one of these.

    Args:
        workers: those of a run.
        names: of all who were there: the workers, and people who spoke.
    """
    for worker in workers:
        for option, given in (("sees", worker.sees), ("seen_by", worker.seen_by)):
            for name in sorted((given or frozenset()).difference(names)):
                near = nearest(name, names)
                warnings.warn(
                    f"{option} of {worker.name!r} names {name!r}, but nobody of that name was in "
                    f"the run: {f'{near} There' if near else 'there'} were {', '.join(names)}.",
                    UnknownWorkerWarning,
                    stacklevel=3,
                )
