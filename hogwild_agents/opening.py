"""Opening: what stands in the cache before a worker of a run begins to think."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hogwild_agents.board import Board, Place
from hogwild_agents.coordinator import TickFeed
from hogwild_agents.engine import CacheBlock
from hogwild_agents.layouts import Headings
from hogwild_agents.tools import Tool
from hogwild_agents.worker import Worker

NewBlock = Callable[[str], CacheBlock]
Encode = Callable[[str], Sequence[int]]
Prefill = Callable[[Sequence[TickFeed]], Awaitable[None]]
Borrow = Callable[[Sequence[int], str], Awaitable[CacheBlock]]

_WORTH_SHARING = 8  # tokens


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How the texts of a run's opening are encoded.

    Attributes:
        headings: the text around the steps.
        encode: turns text into token ids.
        encode_format: does so with text in the model's own format, control tokens included.
        encode_problem: turns a problem into the ids of its whole prompt.
        describe_tools: what a worker is told of its tools; "" if it has none.
    """

    headings: Headings
    encode: Encode
    encode_format: Encode
    encode_problem: Encode
    common: Sequence[int] = ()
    describe_tools: Callable[[Sequence[Tool]], str]


async def encode_opening(
    prompt: Sequence[int],
    workers: Sequence[Worker],
    opening: Opening,
    *,
    new_block: NewBlock,
    prefill: Prefill,
    borrow: Borrow | None = None,
) -> Board:
    """Put the prompt, the headings and the workers' roles into the cache.

    The prompt and each heading are encoded alone, from position 0; a public role after the prompt
    and the roles before it; a private one after those, in the view of nobody but its worker.

    Args:
        prompt: the token ids of the problem, up to where the workers begin.
        workers: in their order.
        opening: how texts are encoded.
        new_block: makes a block.
        prefill: feeds, and waits until it is done.
        borrow: returns a block that other runs share; None to share nothing.

    Raises:
        LimitError: the cache or the context has no room.
    """
    headings = opening.headings
    texts = {
        "past": headings.past,
        "others": headings.others,
        "own": headings.own,
        "unfinished": headings.unfinished,
    }
    ids = {name: opening.encode(text) for name, text in texts.items()}
    common = None
    if borrow is None:
        blocks = {name: new_block(name) for name in ("prompt", *ids)}
        fed = {"prompt": prompt, **ids}
        views = {name: [block] for name, block in blocks.items()}
    else:
        start = _shared(prompt, opening.common)
        common = await borrow(start, "prompt, common part") if start else None
        blocks = {name: await borrow(tokens, name) for name, tokens in ids.items()}
        blocks["prompt"] = new_block("prompt")
        fed = {"prompt": prompt[len(start) :]}
        views = {"prompt": [*([] if common is None else [common]), blocks["prompt"]]}
    await prefill(
        [
            TickFeed(block=blocks[name], tokens=tokens, view=views[name])
            for name, tokens in fed.items()
            if tokens
        ]
    )
    places = [Place(worker.name, new_block(f"{worker.name} [1]")) for worker in workers]
    board = Board(
        prompt=blocks["prompt"],
        past=blocks["past"],
        others=blocks["others"],
        own=blocks["own"],
        unfinished=blocks["unfinished"],
        history=new_block("history"),
        places=places,
        common=common,
    )
    feeds = [
        feed
        for worker, place in zip(workers, places, strict=True)
        for feed in introduce(worker, place, board, opening, new_block)
    ]
    if feeds:
        await prefill(feeds)
    return board


def _shared(prompt: Sequence[int], common: Sequence[int]) -> Sequence[int]:
    """Return the common beginning if the prompt has it, is longer, and it is worth a block."""
    fits = len(common) < len(prompt) and list(prompt[: len(common)]) == list(common)
    return common if fits and len(common) >= _WORTH_SHARING else ()


def introduce(
    worker: Worker, place: Place, board: Board, opening: Opening, new_block: NewBlock
) -> list[TickFeed]:
    """Return the feeds that tell a worker its own view of the problem, and the roles.

    They write blocks that are put on the board here, and go into one tick.
    """
    feeds = []
    if worker.problem is not None:
        place.prompt = new_block(f"{worker.name}'s problem")
        ids = opening.encode_problem(worker.problem)
        feeds.append(TickFeed(block=place.prompt, tokens=ids, view=[place.prompt]))
    if worker.public_role:
        text = opening.headings.announcement(worker.name, worker.public_role)
        if not board.roles:
            text = opening.headings.roles + text
        board.roles.append(new_block(f"{worker.name}'s public role"))
        view = [*board.problem, *board.roles]
        feeds.append(TickFeed(block=board.roles[-1], tokens=opening.encode(text), view=view))
    role = opening.headings.introduction(worker.name, worker.role) if worker.role else ""
    tools = opening.describe_tools(worker.tools)
    if role or tools:
        place.role = new_block(f"{worker.name}'s role")
        ids = [*opening.encode(role), *opening.encode_format(tools)]
        feeds.append(TickFeed(block=place.role, tokens=ids, view=board.opening(place)))
    return feeds
