"""Compute: one tick in the worker thread; no event loop here, and nothing raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from operator import index
from traceback import clear_frames
from typing import TYPE_CHECKING

from hogwild_agents.engine import Engine, Feed, ViewEntry, sample
from hogwild_agents.engine.feed import entry_block, entry_range
from hogwild_agents.errors import TickError
from hogwild_agents.seat import Fork, Forked
from hogwild_agents.tick import Part, live

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["compute"]


def compute(
    parts: Sequence[Part],
    engine: Engine,
    forward: Callable[[Sequence[Feed]], Tensor],
    tick: int,
) -> None:
    """Run one forward over the parts that have not failed, score, sample, and make moves and forks.

    Changes the engine's blocks, the samplers' random states, and the parts. Raises nothing: an
    error is put into the parts that it concerns.

    Args:
        parts: of the tick.
        engine: makes the moves and forks.
        forward: the engine's, or one that does the same.
        tick: the number that it will have.
    """
    feeding = [part for part in live(parts) if part.feeds]
    if feeding:
        try:
            logits = forward([feed for part in feeding for feed in part.feeds])
        except Exception as cause:
            _fail_all(feeding, tick, cause)
        else:
            for part in feeding:
                part.committed = True
            _score(feeding, logits, tick)
            _sample(feeding, logits, tick)
    for part in parts:
        if part.completes and (part.committed or (part.error is None and not part.feeds)):
            _follow(part, engine)


def _fail_all(parts: Sequence[Part], tick: int, cause: Exception) -> None:
    clear_frames(cause.__traceback__)  # else its tensors live on; it may be memory that lacks
    for part in parts:
        part.error = TickError(
            f"The forward pass of tick {tick} failed and no block has changed ({_say(cause)}): "
            "mend the cause and submit again."
        )
        part.error.__cause__ = cause


def _score(parts: Sequence[Part], logits: Tensor, tick: int) -> None:
    """Look up the log-probabilities that were asked for, of all feeds at once."""
    asked = [
        (row, part, number, [index(token) for token in part.scored[number]])
        for row, (part, number) in enumerate(_places(parts))
        if part.scored[number]
    ]
    if not asked:
        return
    try:
        logprobs = logits[[row for row, *_ in asked]].log_softmax(-1)  # [asked, vocab]
        rows = [place for place, (*_, ids) in enumerate(asked) for _ in ids]
        found = iter(logprobs[rows, [token for *_, ids in asked for token in ids]].tolist())
    except Exception as cause:
        for _, part, _, _ in asked:
            part.error = TickError(
                f"What seat {part.request.seat.name!r} fed in tick {tick} is in the cache, but its "
                f"tokens could not be scored ({_say(cause)}): mend the cause."
            )
            part.error.__cause__ = cause
        return
    for _, part, number, ids in asked:
        part.scores[number] = tuple(islice(found, len(ids)))


def _sample(parts: Sequence[Part], logits: Tensor, tick: int) -> None:
    """Sample for all the feeds at once; where that fails, for each alone."""
    places = _places(parts)
    draws = [
        (row, part, number, sampler)
        for row, (part, number) in enumerate(places)
        if (sampler := part.samplers[number]) is not None
    ]
    if not draws:
        return
    if len(draws) < len(places):
        logits = logits[[row for row, *_ in draws]]  # [draws, vocab]
    samplers = [sampler for _, _, _, sampler in draws]
    contexts = [partial(_tokens, part.feeds[number].view) for _, part, number, _ in draws]
    drawing = [
        sampler.generator(logits.device) for sampler in samplers if sampler.params.temperature
    ]
    states = [generator.get_state() for generator in drawing]
    try:
        found = sample(logits, samplers, contexts)
    except Exception:  # one seat's parameters must not cost the others their tokens, or draws
        for generator, state in zip(drawing, states, strict=True):
            generator.set_state(state)
    else:
        for (_, part, number, _), token in zip(draws, found, strict=True):
            part.sampled[number] = token
        return
    for row, (_, part, number, sampler) in enumerate(draws):
        try:
            part.sampled[number] = sample(logits[row : row + 1], [sampler], [contexts[row]])[0]
        except Exception as cause:
            part.error = TickError(
                f"No token could be sampled for seat {part.request.seat.name!r} after tick {tick} "
                f"({_say(cause)}), though what it fed is in the cache: check its sampling "
                "parameters."
            )
            part.error.__cause__ = cause


def _follow(part: Part, engine: Engine) -> None:
    """Make the moves and forks of a part in order, up to one that fails."""
    for op in part.request.then:
        try:
            if isinstance(op, Fork):
                target = engine.fork(op.source, op.name)
                fork = Forked(
                    source=op.source, target=target, length=len(target), after=len(part.moves)
                )
                part.forks.append(fork)
            else:
                engine.move(op.source, op.target)
                part.moves.append(op)
        except Exception as error:
            part.error = error
            break
    if part.error is not None:  # nobody will get them, and the next seat may want the room
        for block in part.forked:
            engine.free(block)
        part.forks.clear()


def _places(parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Return of which part, and which of its feeds, each row of the logits is."""
    return [(part, number) for part in parts for number in range(len(part.feeds))]


def _tokens(view: Iterable[ViewEntry]) -> list[int]:
    """Return the tokens of a whole view."""
    return [
        token
        for entry in view
        for token in entry_block(entry).tokens[slice(*entry_range(entry, 0))]
    ]


def _say(cause: Exception) -> str:
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
