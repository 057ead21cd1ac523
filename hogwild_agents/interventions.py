"""Interventions: what each action does to a run, once it has been found right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hogwild_agents import actions as act, events as ev
from hogwild_agents.checks import sampling_changes
from hogwild_agents.ending import Ending
from hogwild_agents.tweaks import Change, banning, biasing, replacing

if TYPE_CHECKING:
    from hogwild_agents.models import LanguageModel
    from hogwild_agents.thinking import Thinking


def take(action: act.Action, thinking: Thinking, ending: Ending) -> list[ev.Event]:
    """Let an action take effect; return what is to be told of it.

    It is called on the event loop and never waits. What concerns a worker's text or sampling
    happens before that worker feeds next; what concerns views, with the next tick.
    """
    match action:
        case act.Conclude() | act.Finish():
            ending.take(action)
        case act.Hide():
            thinking.board.hide(action.author, action.viewers)
        case act.Show():
            thinking.board.show(action.author, action.viewers)
        case act.Forget():
            thinking.board.forget(action.worker, action.step, action.viewers)
        case act.Spawn():
            return _spawn(action, thinking)
        case _:
            _to_one(action, thinking)
    return []


def _spawn(action: act.Spawn, thinking: Thinking) -> list[ev.Event]:
    if action.fork_of is None:
        return thinking.join(action.worker)
    thinking.desks[action.fork_of].forks.append(action)
    return []


def _to_one(
    action: act.Say
    | act.EndStep
    | act.Ban
    | act.Bias
    | act.ChangeSampling
    | act.Park
    | act.Resume
    | act.Dismiss
    | act.Probe,
    thinking: Thinking,
) -> None:
    desk = thinking.desks[action.worker]
    match action:
        case act.Say() | act.EndStep():
            desk.writing.inbox.append(action)
        case act.Ban() | act.Bias() | act.ChangeSampling():
            desk.tweak(_change(action, thinking), action.for_tokens)
        case act.Park():
            desk.hold()
        case act.Resume():
            desk.resume()
        case act.Dismiss():
            thinking.exchange.dismiss(desk)
        case act.Probe():
            desk.probes.append(action)


def _change(action: act.Ban | act.Bias | act.ChangeSampling, thinking: Thinking) -> Change:
    model = thinking.model
    match action:
        case act.Ban():
            texts = model.tokens_with(action.texts) if action.texts else frozenset()
            return banning(frozenset(action.token_ids) | texts)
        case act.Bias():
            return biasing(
                {_token(token, model): float(value) for token, value in action.bias.items()}
            )
        case act.ChangeSampling():
            return replacing(sampling_changes(action))


def _token(token: str | int, model: LanguageModel) -> int:
    return model.encode(token, control="all")[0] if isinstance(token, str) else token
