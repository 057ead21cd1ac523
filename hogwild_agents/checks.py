"""Checks: what is wrong with an action, in words, before it has any effect."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from hogwild_agents import actions as act, events as ev
from hogwild_agents.engine import SamplingParams
from hogwild_agents.errors import ConfigError, UsageError
from hogwild_agents.models import LanguageModel
from hogwild_agents.probing import spell_probe
from hogwild_agents.worker import Worker

_ENDING = (act.Conclude, act.Finish)
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class Situation:
    """What an action is checked against.

    Attributes:
        model: encodes texts, and has a vocabulary.
        present: the workers by name, and whether each is still there.
        speakers: the names of people who have spoken.
        steps: the finished steps, as (author, number).
        sampling: how each worker samples at the moment.
    """

    model: LanguageModel
    present: Mapping[str, bool]
    speakers: Collection[str]
    steps: Collection[tuple[str, int]]
    sampling: Mapping[str, SamplingParams]


def fault(action: object, event: ev.Event | None, at: Situation) -> str:
    """Return what is wrong with an action, as the rest of a sentence; empty if nothing is.

    Args:
        action: what somebody asked for; policies are anybody's code, so their types prove nothing.
        event: what it answers; None for an action from outside.
        at: the run, as it is.
    """
    check = _CHECKS.get(type(action))
    if check is None:
        names = ", ".join(kind.__name__ for kind in _CHECKS)
        return f"answered {action!r}, which is no action: return one of {names}"
    if isinstance(event, ev.LimitReached) and not isinstance(action, _ENDING):
        kind = type(action).__name__
        return f"answered the end of the thinking with {kind}: return Conclude or Finish"
    try:
        return check(action, at)
    except (TypeError, AttributeError) as error:  # of what is no text, no tuple or no name at all
        return f"gave {action!r}, in which something is of a wrong type ({error}): mend that"


# -- one check an action


def _say(action: act.Say, at: Situation) -> str:
    return _absent(action.worker, at) or _wordless(action.text, "text", at)


def _only_worker(action: act.EndStep | act.Park, at: Situation) -> str:
    return _absent(action.worker, at)


def _even_if_left(action: act.Resume | act.Dismiss, at: Situation) -> str:
    """Who has left in the same tick needs neither: that is nobody's mistake."""
    return _missing(action.worker, at)


def _ban(action: act.Ban, at: Situation) -> str:
    wrong = _absent(action.worker, at) or _miscounted("for_tokens", action.for_tokens)
    if wrong:
        return wrong
    if not action.texts and not action.token_ids:
        return "banned nothing: give texts or token_ids"
    texts: object = action.texts
    if not isinstance(texts, tuple | list | set | frozenset):
        return f"banned the texts {texts!r}: give a tuple of strings"
    for text in texts:
        if not isinstance(text, str) or not text:
            return f"banned the text {text!r}: give strings that are not empty"
        if not at.model.tokens_with([text]):
            return f"banned the text {text!r}, which no token of the model contains: leave it out"
    return next(filter(None, (_no_token(token, at) for token in action.token_ids)), "")


def _bias(action: act.Bias, at: Situation) -> str:
    wrong = _absent(action.worker, at) or _miscounted("for_tokens", action.for_tokens)
    if wrong:
        return wrong
    bias: object = action.bias
    if not isinstance(bias, Mapping) or not bias:
        return f"gave the bias {bias!r}: give a mapping of tokens to numbers"
    for token, value in bias.items():
        wrong = _one_token(token, at) if isinstance(token, str) else _no_token(token, at)
        if wrong:
            return wrong
        if not (_is_int(value) or isinstance(value, float)) or not math.isfinite(value):
            return f"gave {token!r} the bias {value!r}: give a finite number, or ban the token"
    return ""


def _change_sampling(action: act.ChangeSampling, at: Situation) -> str:
    wrong = _absent(action.worker, at) or _miscounted("for_tokens", action.for_tokens)
    if wrong:
        return wrong
    changes = sampling_changes(action)
    if not changes:
        return f"changed nothing about sampling: give one of {', '.join(_SAMPLING)}"
    try:
        at.sampling[action.worker].replace(**changes)
    except ConfigError as error:
        return f"asked for a sampling that cannot be, because {str(error).rstrip('.')}"
    return ""


def _spawn(action: act.Spawn, at: Situation) -> str:
    worker: object = action.worker
    if not isinstance(worker, Worker):
        return f"spawned {worker!r}, which is no worker: give a Worker"
    if worker.name in at.present or worker.name in at.speakers:
        return f"spawned {worker.name!r}, whose name is taken in this run: give another name"
    try:
        for text in (worker.name, worker.role, worker.public_role, worker.problem or ""):
            at.model.encode(text)
    except UsageError as error:
        return f"spawned a worker of whom nothing can be written ({str(error).rstrip('.')})"
    return "" if action.fork_of is None else _absent(action.fork_of, at)


def _visibility(action: act.Hide | act.Show, at: Situation) -> str:
    return (
        _unknown(action.author, at)
        or _wrong_viewers(action.viewers, at)
        or (
            f"meant to hide {action.author!r} from its own eyes: leave it out of the viewers"
            if action.viewers is not None and action.author in action.viewers
            else ""
        )
    )


def _forget(action: act.Forget, at: Situation) -> str:
    wrong = _unknown(action.worker, at) or _wrong_viewers(action.viewers, at)
    if wrong or (action.worker, action.step) in at.steps:
        return wrong
    return (
        f"meant to forget step {action.step!r} of {action.worker!r}, which is not a finished one: "
        "forget it when it has ended"
    )


def _probe(action: act.Probe, at: Situation) -> str:
    wrong = _absent(action.worker, at) or _wordless(action.question, "question", at)
    if wrong:
        return wrong
    answers: object = action.answers
    if not isinstance(answers, tuple) or len(answers) < 2:
        return f"gave the answers {answers!r} to choose from: give a tuple of at least two"
    for answer in answers:
        wrong = _wordless(answer, "answer", at)
        if wrong:
            return wrong
    _, ids = spell_probe(action, at.model.encode)
    for one, first in enumerate(ids):
        for other, second in enumerate(ids):
            if one != other and second[: len(first)] == first:
                return (
                    f"gave the answers {answers[one]!r} and {answers[other]!r}, and the tokens of "
                    "the one begin the other: give answers that differ before one ends"
                )
    return ""


def _conclude(action: act.Conclude, at: Situation) -> str:
    count: object = action.max_tokens
    return (
        (_missing(action.worker, at) if action.worker is not None else "")
        or _wordless(action.text, "text", at)
        or _reasonless(action.reason)
        or (_miscounted("max_tokens", count) if count is not None else "gave max_tokens=None")
    )


def _finish(action: act.Finish, at: Situation) -> str:
    for name in ("answer", "author"):
        value: object = getattr(action, name)
        if value is not None and not isinstance(value, str):
            return f"gave the {name} {value!r}, which is no string: give a string, or None"
    return _reasonless(action.reason)


_CHECKS: Mapping[type, Callable[..., str]] = {
    act.Say: _say,
    act.EndStep: _only_worker,
    act.Ban: _ban,
    act.Bias: _bias,
    act.ChangeSampling: _change_sampling,
    act.Park: _only_worker,
    act.Resume: _even_if_left,
    act.Spawn: _spawn,
    act.Dismiss: _even_if_left,
    act.Hide: _visibility,
    act.Show: _visibility,
    act.Forget: _forget,
    act.Probe: _probe,
    act.Conclude: _conclude,
    act.Finish: _finish,
}


def sampling_changes(action: act.ChangeSampling) -> dict[str, float]:
    """Return the parameters that an action changes."""
    return {name: value for name in _SAMPLING if (value := getattr(action, name)) is not None}


# -- parts of checks


def _missing(worker: object, at: Situation) -> str:
    if worker in at.present:
        return ""
    names = ", ".join(at.present)
    return f"named the worker {worker!r}, who is not in the team: name one of {names}"


def _absent(worker: object, at: Situation) -> str:
    wrong = _missing(worker, at)
    if wrong or at.present[str(worker)]:
        return wrong
    return f"named {worker!r}, who has left: name a worker who is there"


def _unknown(author: object, at: Situation) -> str:
    return "" if author in at.speakers else _missing(author, at)


def _wrong_viewers(viewers: object, at: Situation) -> str:
    if viewers is None:
        return ""
    if not isinstance(viewers, tuple) or not viewers:
        return f"gave the viewers {viewers!r}: give a tuple of names, or None for all others"
    return next(filter(None, (_missing(name, at) for name in viewers)), "")


def _wordless(text: object, name: str, at: Situation) -> str:
    if not isinstance(text, str):
        return f"gave the {name} {text!r}, which is no string: give some text"
    try:
        ids = at.model.encode(text)
    except UsageError as error:
        return f"gave a {name} that cannot be written ({str(error).rstrip('.')})"
    return "" if ids else f"gave the {name} {text!r}, which has no tokens: give some text"


def _one_token(text: str, at: Situation) -> str:
    ids = at.model.encode(text, control="all")
    if len(ids) == 1:
        return ""
    return (
        f"gave a bias to {text!r}, which is {len(ids)} tokens: give the text of one token, or ids"
    )


def _no_token(token: object, at: Situation) -> str:
    size = at.model.engine.vocab_size
    if _is_int(token) and 0 <= token < size:
        return ""
    return f"named the token {token!r}, but the model has the ids 0 to {size - 1}: name one of them"


def _is_int(value: object) -> TypeGuard[int]:
    """Whether a value is a number as transcripts keep it; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _miscounted(name: str, count: object) -> str:
    if count is None or (_is_int(count) and count >= 1):
        return ""
    return f"gave {name}={count!r}: give a whole number, at least 1"


def _reasonless(reason: object) -> str:
    if isinstance(reason, str) and reason:
        return ""
    return f"gave the reason {reason!r}: say in a word why the run ends"
