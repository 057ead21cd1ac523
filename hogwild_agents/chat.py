"""Chat: the ids of the prompt, by the model's own chat template, up to where the workers begin."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from hogwild_agents.errors import ChatTemplateError
from hogwild_agents.spelling import (
    THINK,
    THINK_END,
    check_characters,
    control_tokens,
    encode_continuation,
)
from hogwild_agents.text import Tokenizer

# Private-use characters: around what must be encoded as plain text.
_FENCES = tuple(map(chr, range(0xE000, 0xE010)))


class ChatTokenizer(Tokenizer, Protocol):
    """A tokenizer with a chat template."""

    chat_template: Any

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        add_generation_prompt: bool = ...,
        tokenize: bool = ...,
        **kwargs: Any,
    ) -> Any:
        """Return the rendered conversation."""


def encode_prompt(tokenizer: ChatTokenizer, *, system: str, user: str) -> list[int]:
    r"""Return the ids of one system and one user message and the opening of the answer.

    The answer is left inside an open ``<think>``: where the template does not open it,
    ``<think>\n`` is added. Templates that know a switch for it (``enable_thinking``, ``thinking``)
    are told to think. A template that rejects a system message gets it at the head of the user
    message; one that ignores it (as the bundled model's does) is left alone. Control tokens spelt
    out in the messages (``<|im_end|>`` in a problem) are encoded as the plain text they are there.

    Args:
        tokenizer: the model's, with a chat template.
        system: the rules; "" for none.
        user: the problem.

    Raises:
        ChatTemplateError: there is no chat template, or it fails.
        UsageError: there is half of a surrogate pair in a message.
    """
    _check_template(tokenizer)
    check_characters(system + user)
    fence = _fence(system + user)
    guard = _guard(tokenizer, fence)
    rendered = _render(tokenizer, guard(system), guard(user))
    if not opens_think(tokenizer, with_system=bool(system)):
        rendered += f"{THINK}\n"
    return _encode(tokenizer, rendered, fence)


def opens_think(tokenizer: ChatTokenizer, *, with_system: bool = True) -> bool:
    """Whether the chat template leaves the answer inside an open ``<think>`` by itself.

    Asked with a stand-in for the problem, which may itself speak of ``<think>``.

    Raises:
        ChatTemplateError: there is no chat template, or it fails.
    """
    _check_template(tokenizer)
    stand_in = "Hogwild"
    rendered = _render(tokenizer, "Rules." if with_system else "", stand_in)
    answer = rendered[rendered.rfind(stand_in) + len(stand_in) :]
    return answer.rfind(THINK) > answer.rfind(THINK_END)


def _check_template(tokenizer: ChatTokenizer) -> None:
    if not getattr(tokenizer, "chat_template", None):
        raise ChatTemplateError(
            "The tokenizer has no chat template, so the problem cannot be put to the model: use an "
            "instruction-tuned or reasoning model, or set tokenizer.chat_template."
        )


def _render(tokenizer: ChatTokenizer, system: str, user: str) -> str:
    turn = {"role": "user", "content": user}
    if not system:
        return _apply(tokenizer, [turn])
    try:
        return _apply(tokenizer, [{"role": "system", "content": system}, turn])
    except ChatTemplateError:
        return _apply(tokenizer, [{"role": "user", "content": f"{system}\n\n{user}"}])


def _apply(tokenizer: ChatTokenizer, messages: list[dict[str, str]]) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=False,
                enable_thinking=True,
                thinking=True,
            )
        )
    except Exception as error:  # a template is somebody else's program: it may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ChatTemplateError(
            f"The model's chat template failed ({reason}): use another model, or set "
            "tokenizer.chat_template."
        ) from error


def _fence(text: str) -> str:
    free = (mark for mark in _FENCES if mark not in text)
    fence = next(free, None)
    if fence is None:
        raise ChatTemplateError(
            f"The prompt holds all the private-use characters U+{ord(_FENCES[0]):X} to "
            f"U+{ord(_FENCES[-1]):X}: remove one of them."
        )
    return fence


def _guard(tokenizer: ChatTokenizer, fence: str) -> Callable[[str], str]:
    """Return what puts fences around the control tokens that a message spells out."""
    control = {THINK, THINK_END, *control_tokens(tokenizer)}
    pattern = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))))
    return lambda text: pattern.sub(lambda found: f"{fence}{found[0]}{fence}", text)


def _encode(tokenizer: ChatTokenizer, rendered: str, fence: str) -> list[int]:
    first, *rest = rendered.split(fence)
    ids = list(tokenizer.encode(first, add_special_tokens=False))
    for index, piece in enumerate(rest):
        ids += encode_continuation(tokenizer, piece, control="all" if index % 2 else "none")
    return ids
