"""Conclusion: one worker answers at the end, in the cache that is there (budget forcing).

The paper's finisher decodes, encodes and prefills all text again; here the workers' last tokens
are fed to their blocks, and the worker that answers goes on from its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from hogwild_agents.answers import BOX, find_boxed
from hogwild_agents.coordinator import Seat
from hogwild_agents.desk import Desk
from hogwild_agents.engine import Sampled, Sampler
from hogwild_agents.errors import HogwildError, LimitError
from hogwild_agents.log import get_logger

_log = get_logger(__name__)
Rejoin = Callable[[Desk], Seat]
Write = Callable[[int], str]


async def answer(
    opening: str,
    max_tokens: int,
    *,
    last: Desk,
    desks: Sequence[Desk],
    rejoin: Rejoin,
    write: Write,
    sampler: Sampler,
) -> str | None:
    """Let one worker go on from ``opening``, which stands in its draft already.

    Args:
        opening: the text that leads to the answer.
        max_tokens: how many tokens it may take.
        last: who answers.
        desks: everybody, in worker order.
        rejoin: takes a seat for a desk.
        write: books a token that ``last`` wrote; returns its text.
        sampler: how ``last`` samples.

    Returns:
        The content of the box that ``opening`` opened (or that the answer holds); without a
        closed box all of the text that followed; None if there is none.
    """
    start = opening.rfind(BOX)
    box = opening[start:] if start >= 0 and find_boxed(opening[start:]) is None else ""
    text = ""
    try:
        for _ in range(max_tokens):
            sampled = await flush(desks, last, rejoin, sampler)
            if sampled.token in last.stop_tokens:
                break
            text += write(sampled.token)
            found = find_boxed(box + text)
            if found is not None:
                return found
    except LimitError as error:  # no room for an answer: what there is must do
        _log.warning("conclusion cut short", worker=last.name, error=str(error))
    return text.strip() or None


async def flush(desks: Sequence[Desk], last: Desk, rejoin: Rejoin, sampler: Sampler) -> Sampled:
    """Feed everybody's pending tokens in one tick; return what follows those of ``last``.

    Raises:
        HogwildError: the tick failed, or the cache has no room.
    """
    pending = [(desk, rejoin(desk)) for desk in desks if desk.draft.pending]
    outcomes: dict[str, Sampled | None] = {}
    errors: list[HogwildError] = []

    async def feed(desk: Desk, seat: Seat) -> None:
        feeds, moves = desk.draft.feeds(sampler if desk is last else None)
        with seat:
            try:
                result = await seat.submit(*feeds, then=moves)
            except HogwildError as error:
                errors.append(error)
            else:
                outcomes[desk.name] = result.sampled[-1]

    async with anyio.create_task_group() as group:
        for desk, seat in pending:
            group.start_soon(feed, desk, seat)
    if errors:
        raise errors[0]
    sampled = outcomes[last.name]
    assert sampled is not None
    return sampled
