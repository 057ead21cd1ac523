"""Assertions on what was recorded of a run, and on an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from hogwild_agents.actions import Action
from hogwild_agents.events import NAMES, ActionTaken, Event, TokensWritten
from hogwild_agents.result import RunResult
from hogwild_agents.testing.recorder import Recorder
from hogwild_agents.transcript import Transcript

if TYPE_CHECKING:
    from hogwild_agents.engine import Engine

Record: TypeAlias = Recorder | Transcript | Iterable[Event]
"""Where the events of a run are from."""

Moment: TypeAlias = tuple[str, str] | type[Event | Action] | Callable[[Event], bool]
"""When a worker has written a text, as (worker, text); a kind of event or action; or a test."""


def assert_integrity(engine: Engine, *, used_tokens: int | None = None) -> None:
    """Assert that the cache's book-keeping is whole: no slot is lost, none is owned twice.

    Args:
        engine: while no tick is under way.
        used_tokens: how many tokens must be cached; 0 after runs that have given back all.
    """
    try:
        engine.check_integrity()
    except RuntimeError as error:
        raise AssertionError(f"The cache is not whole: {error}") from error
    if used_tokens is not None and engine.used_tokens != used_tokens:
        raise AssertionError(
            f"The cache holds {engine.used_tokens} tokens, but should hold {used_tokens}."
        )


def assert_said(record: Record | RunResult, worker: str, text: str) -> None:
    """Assert that a text stands in what a worker has written, chosen by it or forced upon it."""
    written = record.texts if isinstance(record, RunResult) else _texts(record)
    if worker not in written:
        names = ", ".join(written) or "nobody"
        raise AssertionError(f"{worker} has written nothing; those who have: {names}.")
    if text not in written[worker]:
        raise AssertionError(
            f"{worker} has not written {text!r}, but {_shorten(written[worker])!r}."
        )


def assert_order(record: Record, *moments: Moment) -> None:
    """Assert that moments came one after the other, whatever else came in between.

    Args:
        record: of one run.
        moments: ``("Alice", "a) 7.")`` is when Alice has just completed this text; a kind of event
            or action is the next one of it, and a function the next event for which it is True.
    """
    waiting = list(moments)
    written: dict[str, str] = {}
    for event in _events(record):
        if isinstance(event, TokensWritten):
            written[event.worker] = written.get(event.worker, "") + event.text
        if waiting and _is_now(waiting[0], event, written):
            del waiting[0]
    if waiting:
        done = len(moments) - len(waiting)
        after = f"after {_name(moments[done - 1])} " if done else ""
        raise AssertionError(
            f"Of {len(moments)} moments in order, {done} came: {after}there is no "
            f"{_name(waiting[0])}."
        )


def _is_now(moment: Moment, event: Event, written: dict[str, str]) -> bool:
    if isinstance(moment, tuple):
        worker, text = moment
        if not isinstance(event, TokensWritten) or event.worker != worker:
            return False
        recent = len(text) + len(event.text) - 1
        return bool(event.text) and text in written[worker][-recent:]
    if isinstance(moment, type):
        found = event.action if isinstance(event, ActionTaken) else event
        return isinstance(event, moment) or isinstance(found, moment)
    return moment(event)


def _name(moment: Moment) -> str:
    if isinstance(moment, tuple):
        return f"{moment[1]!r} by {moment[0]}"
    return getattr(moment, "__name__", repr(moment))


def _texts(record: Record) -> dict[str, str]:
    recorder = Recorder()
    recorder.events += _events(record)
    return recorder.texts()


def _events(record: Record) -> Iterable[Event]:
    if isinstance(record, Recorder):
        return record.events
    if isinstance(record, Transcript):
        return record.events()
    events = list(record)
    wrong = next((event for event in events if type(event) not in NAMES.values()), None)
    if wrong is not None:
        raise TypeError(f"{wrong!r} is no event: give a Recorder, a Transcript, or events.")
    return events


def _shorten(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"...{text[-most:]}"
