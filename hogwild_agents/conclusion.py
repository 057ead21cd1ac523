"""Conclusion: one worker answers at the end, in the cache that is there (budget forcing).

The paper's finisher decodes, encodes and prefills all text again; here the workers' last tokens
are fed to their blocks, and the worker that answers goes on from its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import anyio

from hogwild_agents import events as ev
from hogwild_agents.actions import Conclude, Finish, Forget
from hogwild_agents.answers import BOX, find_boxed, is_dots
from hogwild_agents.coordinator import Commit, Seat
from hogwild_agents.desk import Desk
from hogwild_agents.engine import Sampled, Sampler, SamplingParams
from hogwild_agents.errors import LimitError
from hogwild_agents.log import get_logger
from hogwild_agents.thinking import Thinking

_log = get_logger(__name__)
Join = Callable[[str, Callable[[Commit], None]], Seat]


async def conclude(action: Conclude, thinking: Thinking, join: Join) -> Finish:
    """Let one worker answer greedily; its tokens count in no budget.

    Policies don't hear of a conclusion.

    Args:
        action: what it is given, and how long it may write.
        thinking: the workers, done with thinking.
        join: takes a seat at the coordinator.

    Raises:
        HogwildError: a tick failed.
    """

    def rejoin(desk: Desk) -> Seat:
        return join(desk.name, partial(thinking.book_desk, desk))

    desks = list(thinking.desks.values())
    last = thinking.desks[action.worker] if action.worker else desks[-1]
    await _write_out(desks, thinking, rejoin)
    thinking.exchange.tell(last.writing.written(last.draft.force(action.text)))
    _make_room(action.max_tokens, thinking, last)
    text = ""
    sampler = Sampler(SamplingParams(temperature=0.0))
    try:
        for number in range(action.max_tokens):
            sampled = await flush([last] if number else desks, rejoin, last, sampler)
            assert sampled is not None, "the last feed of a draft has its sampler"
            if sampled.token in last.stop_tokens:
                break
            piece = last.draft.append(sampled.token)
            thinking.exchange.tell(last.writing.written(piece))
            text += piece.text
            if _boxed(action.text, text) is not None:
                break
    except LimitError as error:  # no room for an answer: what there is must do
        _log.warning("conclusion cut short", worker=last.name, error=str(error))
    answer = read_answer(action.text, text)
    author = None if answer is None else last.name
    return Finish(answer=answer, author=author, reason=action.reason)


def _make_room(tokens: int, thinking: Thinking, last: Desk) -> None:
    """Let a worker forget the oldest steps, if its context has no room to go on for so long."""
    limit, ticks = thinking.model.engine.context_length, thinking.clock.ticks
    if limit is None:
        return
    tokens += sum(desk.draft.unfed for desk in thinking.desks.values())
    length = last.draft.view_length
    for step in thinking.steps:
        if length + tokens <= limit:
            return
        thinking.board.forget(step.worker, step.number, [last.name])
        before, length = length, last.draft.view_length
        if length < before:
            action = Forget(worker=step.worker, step=step.number, viewers=(last.name,))
            thinking.exchange.tell(ev.ActionTaken(policy="Conclude", action=action, tick=ticks))


def read_answer(opening: str, text: str) -> str | None:
    """Return the answer in ``text``, which goes on after ``opening``.

    That is what stands in the box that the opening has opened, or else in the text's own; without
    a closed box all of the text; None if there is nothing, or dots only.
    """
    boxed = _boxed(opening, text)
    if boxed is not None:
        return boxed or None
    answer = text.strip()
    return None if is_dots(answer.removeprefix(BOX).partition("}")[0]) else answer or None


def _boxed(opening: str, text: str) -> str | None:
    start = opening.rfind(BOX)
    is_open = start >= 0 and find_boxed(opening[start:]) is None
    return find_boxed((opening[start:] if is_open else "") + text)


async def _write_out(
    desks: Sequence[Desk], thinking: Thinking, rejoin: Callable[[Desk], Seat]
) -> None:
    """Feed what people have said, and write what policies had the workers say.

    Where a step is to end and the end of the one before is not fed yet, that is fed first.
    """
    tell = thinking.exchange.tell
    for desk in desks:
        if not desk.draft.step:  # the thinking has ended before anybody began
            tell(desk.writing.written(desk.draft.open_step()))
    await thinking.people.hear_out()
    while desks:
        for desk in desks:
            for event in desk.writing.take_inbox():
                tell(event)
        blocked = [desk for desk in desks if desk.writing.blocked]
        await flush(blocked, rejoin)
        desks = [desk for desk in blocked if not desk.draft.turning]  # else it had no room


async def flush(
    desks: Sequence[Desk],
    rejoin: Callable[[Desk], Seat],
    last: Desk | None = None,
    sampler: Sampler | None = None,
) -> Sampled | None:
    """Feed the pending tokens of some in one tick; return what follows those of ``last``.

    Raises:
        HogwildError: the tick failed, or had no room for what ``last`` has to say. What others
            could not feed is left out.
    """
    found: list[Sampled | None] = []
    errors: list[Exception] = []

    async def feed(desk: Desk, seat: Seat) -> None:
        feeds, moves = desk.draft.feeds(sampler if desk is last else None)
        with seat:  # a seat that is woken and stays would hold up the next one
            try:
                result = await seat.submit(*feeds, then=moves)
            except Exception as error:
                _log.warning("pending tokens not fed", worker=desk.name, error=str(error))
                errors.extend([error] if desk is last else [])
            else:
                found.extend(result.sampled[-1:] if desk is last else [])

    with ExitStack() as leaving:  # also where a task is cancelled before it begins
        seats = [
            (desk, leaving.enter_context(rejoin(desk))) for desk in desks if desk.draft.pending
        ]
        async with anyio.create_task_group() as group:
            for desk, seat in seats:
                group.start_soon(feed, desk, seat)
    if errors:
        raise errors[0]
    return found[0] if found else None
