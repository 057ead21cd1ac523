"""Opening: what stands in the cache before the workers of a run begin to think."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hogwild_agents.coordinator import TickFeed
from hogwild_agents.engine import CacheBlock
from hogwild_agents.layouts import Board, Headings, Place
from hogwild_agents.worker import Worker

NewBlock = Callable[[str], CacheBlock]
Encode = Callable[[str], Sequence[int]]
Prefill = Callable[[Sequence[TickFeed]], Awaitable[None]]


async def encode_opening(
    prompt: Sequence[int],
    headings: Headings,
    workers: Sequence[Worker],
    *,
    encode: Encode,
    new_block: NewBlock,
    prefill: Prefill,
) -> Board:
    """Put the prompt, the headings and the private roles into the cache.

    The prompt and each heading are encoded alone, from position 0; a role after the prompt, in the
    view of nobody but its worker.

    Args:
        prompt: the token ids of the problem, up to where the workers begin.
        headings: the text around the steps.
        workers: in their order.
        encode: turns text into token ids.
        new_block: makes a block.
        prefill: feeds, and waits until it is done.

    Raises:
        LimitError: the cache or the context has no room.
    """
    texts = {
        "past": headings.past,
        "others": headings.others,
        "own": headings.own,
        "unfinished": headings.unfinished,
    }
    shared = {"prompt": prompt, **{name: encode(text) for name, text in texts.items()}}
    blocks = {name: new_block(name) for name in shared}
    await prefill(
        [
            TickFeed(block=blocks[name], tokens=ids, view=[blocks[name]])
            for name, ids in shared.items()
            if ids
        ]
    )
    board = Board(
        **blocks,
        history=new_block("history"),
        places=[_place(worker, new_block) for worker in workers],
    )
    roles = [
        TickFeed(
            block=place.role,
            tokens=encode(headings.introduction(worker.name, worker.role)),
            view=[board.prompt, place.role],
        )
        for worker, place in zip(workers, board.places, strict=True)
        if place.role is not None
    ]
    if roles:
        await prefill(roles)
    return board


def _place(worker: Worker, new_block: NewBlock) -> Place:
    role = new_block(f"{worker.name}'s role") if worker.role else None
    return Place(worker.name, new_block(f"{worker.name} [1]"), role)
