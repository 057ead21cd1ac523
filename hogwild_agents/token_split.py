"""Token split: one token in two parts, where a step ends inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hogwild_agents.spelling import Speller, byte_letters
from hogwild_agents.text import TextStream, Tokenizer, anchor, byte_of, decode_continuation


@dataclass(frozen=True, slots=True)
class TokenSplit:
    """One token, cut in two where a step ends inside it.

    Attributes:
        head: the ids that write ``head_text``: what to feed to the step that ends.
        head_text: the text that still belongs to it, the separator included.
        tail: the ids of what opens the next step; empty if the token was left whole.
    """

    head: tuple[int, ...]
    head_text: str
    tail: tuple[int, ...] = ()


def split_token(
    tokenizer: Tokenizer, token: int, text: str, index: int, *, before: Sequence[int] = ()
) -> TokenSplit:
    r"""Cut a sampled token where a step ends inside its text.

    A token may hold the separator and more (``".\n\nThen"``, or ``"\n\n"`` and the first byte of a
    character): the step gets other ids that write the text up to the cut, and the rest is given
    back as ids. A token is left whole if nothing follows the cut, or if there are no such ids.

    Args:
        tokenizer: the model's.
        token: the sampled token, not yet fed.
        text: what the worker's :class:`TextStream` gave for it.
        index: where in ``text`` the step ends, right behind a newline of the token.
        before: what that stream held before the token: the bytes of a character that it goes on
            with, or that comes to nothing.
    """
    whole = TokenSplit((token,), text)
    data = _bytes_of(tokenizer, token)
    if data is None:
        return whole
    # Broken characters differ in length as bytes and as text, so the cut is found by the newlines.
    _, *lines = data.rsplit(b"\n", text[index:].count("\n") + 1)
    rest = b"\n".join(lines)
    if not rest:
        return whole
    speller = Speller(tokenizer, "none")
    head, tail = map(speller.spell_bytes, (data.removesuffix(rest), rest))
    if head is None or tail is None:
        return whole
    old, new = (TextStream(tokenizer, anchor(tokenizer)) for _ in range(2))
    old.push(before)
    if old.push(head) != text[:index] or old.held or new.push(tail) != text[index:]:
        return whole
    return TokenSplit(tuple(head), text[:index], tuple(tail))


def _bytes_of(tokenizer: Tokenizer, token: int) -> bytes | None:
    """Return the bytes that a token stands for, or None if they cannot be told."""
    byte = byte_of(tokenizer, token)
    if byte:
        return byte
    text = decode_continuation(tokenizer, [token])
    if "\ufffd" not in text:
        return text.encode()
    values = {letter: byte for byte, letter in enumerate(byte_letters())}
    found = [values.get(letter) for letter in tokenizer.convert_ids_to_tokens(token)]
    if None in found:
        return None
    data = bytes(value for value in found if value is not None)
    return data if data.decode(errors="replace") == text else None
