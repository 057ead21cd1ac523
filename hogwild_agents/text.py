"""Text: tokens in, text out, for any tokenizer, and what a worker may not write.

Nothing here assumes what tokens look like: byte-level, byte fallback, word marks, prefixes, with or
without the ``tokenizers`` library. What a token adds to a text depends on what stands before it
(a word mark at the very start is no blank, half a character is none), so it is found by decoding it
behind a few tokens that came before.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol, cast

_REPLACEMENT = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WINDOW = 32
_LEADS = ("\n", ".", "a")


class Tokenizer(Protocol):
    """What the runtime needs of a tokenizer; every transformers tokenizer has it."""

    def __len__(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> Any:
        """Return the ids of a text."""

    def decode(
        self,
        token_ids: list[int],
        skip_special_tokens: bool = ...,
        *,
        clean_up_tokenization_spaces: bool = ...,
    ) -> Any:
        """Return the text of some ids."""

    def convert_ids_to_tokens(self, ids: int) -> Any:
        """Return a token as the vocabulary spells it."""

    def get_vocab(self) -> dict[str, int]:
        """Return the ids by spelling, added tokens included."""


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return the text of ids that open a text: special tokens stay, nothing is tidied."""
    return cast(
        str,
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False),
    )


def decode_continuation(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return what ids add to a text that stands before them."""
    return _after(tokenizer, _anchor(tokenizer), ids)


def encode_continuation(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return ids that add exactly ``text`` to what stands before them.

    Some tokenizers put a blank before every text they encode; in the middle of a text it would be
    one too many. Special tokens are not added, but those spelt out in ``text`` are recognised. If
    the tokenizer cannot write the text exactly (it lower-cases, say), the ids come near it: they
    agree with it from its beginning for as long as can be.
    """
    best: list[int] = []
    agreed = -1
    for ids in _encodings(tokenizer, text):
        written = decode_continuation(tokenizer, ids)
        if written == text:
            return ids
        same = _agreement(written, text)
        if same > agreed:
            best, agreed = ids, same
    return best


def _agreement(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _encodings(tokenizer: Tokenizer, text: str) -> Iterator[list[int]]:
    """Yield the ids of a text encoded alone, and then behind one character or another."""
    yield _encode(tokenizer, text)
    for lead in _LEADS:
        before, both = _encode(tokenizer, lead), _encode(tokenizer, lead + text)
        if both[: len(before)] == before:
            yield both[len(before) :]


@dataclass(frozen=True, slots=True)
class TokenSplit:
    """One token, cut in two where a step ends inside it.

    Attributes:
        head: the ids that write ``head_text``: what to feed to the step that ends.
        head_text: the text that still belongs to it, the separator included.
        tail_text: what opens the next step; empty if the token was left whole.
    """

    head: tuple[int, ...]
    head_text: str
    tail_text: str


def split_token(tokenizer: Tokenizer, token: int, text: str, index: int) -> TokenSplit:
    r"""Cut a sampled token where a step ends inside its text.

    A token may hold the separator and more (``".\n\n "``): the step gets other ids that write the
    text up to the cut, and the rest is given back as text. A token is left whole if nothing
    follows the cut, or if no ids write its head exactly: because the tokenizer has none, or because
    the text began with bytes of tokens that are in the cache already.

    Args:
        tokenizer: the model's.
        token: the sampled token, not yet fed.
        text: what the worker's :class:`TextStream` gave for it.
        index: where in ``text`` the step ends.
    """
    head, tail = text[:index], text[index:]
    if not tail or decode_continuation(tokenizer, [token]) != text:
        return TokenSplit((token,), text, "")
    ids = encode_continuation(tokenizer, head)
    if decode_continuation(tokenizer, ids) != head:
        return TokenSplit((token,), text, "")
    return TokenSplit(tuple(ids), head, tail)


class TextStream:
    """The text of a growing run of tokens, piece by piece.

    What ``push`` and ``flush`` give, joined, is ``decode`` of all the ids at once, however they
    were split. A character whose bytes are spread over several tokens comes with the last of them;
    U+FFFD comes only for bytes that can no longer become a character. The work per token does not
    grow with the text.

    One thing is decided otherwise. Where bytes are tokens of their own (``<0x0A>``), the tokenizer
    turns a whole run of them to U+FFFD as soon as one of them is ill-formed. A stream cannot wait
    for the end of the run (its bytes may be the ``\\n\\n`` that ends a step), so characters that
    were complete stay, and only the rest of such a run is U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[list[int]] = []  # given out: runs that decode without an open end
        self._base = ""  # the text of the context alone
        self._held: list[int] = []  # not given out: the text ends in U+FFFD
        self._held_text = ""  # the text of context + held
        self._run: list[int] = []  # bytes of a character that is not complete
        self._broken = False  # in a run of bytes that is ill-formed
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def push(self, ids: int | Iterable[int]) -> str:
        """Return the text that these ids add: "" while a character's bytes are open."""
        return "".join(map(self._push, [ids] if isinstance(ids, int) else ids))

    def flush(self) -> str:
        """Return what is still open, as U+FFFD where it is no character; call it at the end."""
        return self._end_run() + self._release()

    def _push(self, token: int) -> str:
        spelling = self._tokenizer.convert_ids_to_tokens(token)
        if spelling is None:  # an id beyond the vocabulary has no text
            return ""
        byte = _BYTE.fullmatch(spelling)
        if byte and decode(self._tokenizer, [token]) != spelling:
            return self._release() + self._push_byte(token, bytes.fromhex(byte[1]))
        return self._end_run() + self._push_text(token)

    def _push_byte(self, token: int, byte: bytes) -> str:
        if self._broken:
            return _REPLACEMENT
        self._run.append(token)
        try:
            complete = self._utf8.decode(byte)
        except UnicodeDecodeError:
            self._broken = True
            return self._break_run()
        return self._give(self._run) if complete else ""

    def _end_run(self) -> str:
        text = self._break_run() if self._run else ""
        self._broken = False
        return text

    def _break_run(self) -> str:
        run, self._run = self._run, []
        self._utf8.reset()
        whole, base = self._behind(run), self._base
        self._context, self._base = [run], decode(self._tokenizer, run)
        return whole[len(base) :] if whole.startswith(base) else _REPLACEMENT * len(run)

    def _push_text(self, token: int) -> str:
        held, before = self._held, self._held_text
        self._held = [*held, token]
        self._held_text = self._behind(self._held)
        open_end = self._held_text.endswith(_REPLACEMENT)
        if not open_end and self._held_text.startswith(self._base):
            return self._release()
        alone = self._behind([token])
        own = alone[len(self._base) :]
        # A token that goes on with the bytes before it adds less than it does alone.
        if held and own and self._held_text == before + own:
            self._held, self._held_text = [token], alone
            return before[len(self._base) :]
        return self._release() if len(self._held) == _WINDOW else ""

    def _release(self) -> str:
        held, self._held = self._held, []
        return self._give(held) if held else ""

    def _give(self, ids: list[int]) -> str:
        """Return the text of ids behind the context, and make them the context."""
        text = self._behind(ids)[len(self._base) :]
        runs, width = [*self._context, ids], 1
        self._run = []
        # A context without text would not keep the next token from being the first of all.
        while not (base := decode(self._tokenizer, _flat(runs[-width:]))) and width < _WINDOW:
            width *= 2
        self._context, self._base = runs[-width:], base
        return text

    def _behind(self, ids: list[int]) -> str:
        """Return the text of the context and some ids."""
        return decode(self._tokenizer, _flat([*self._context, ids]))


def _flat(runs: list[list[int]]) -> list[int]:
    return [token for run in runs for token in run]


def banned_while_reasoning(
    tokenizer: Tokenizer,
    *,
    forbidden: Sequence[str] = ("#", "</think>"),
    stop_ids: Iterable[int] = (),
) -> frozenset[int]:
    """Return the tokens that a worker may not write while it reasons.

    These are all tokens whose text holds one of the ``forbidden`` strings, so that no header of the
    shared view can be forged and no worker ends the reasoning for all; the tokenizer's BOS and EOS;
    and ``stop_ids``, the other tokens that would end a turn (``generation_config.eos_token_id``).
    All other tokens stay, so any text without a forbidden string can still be written. The text of
    a token is that in the middle of a text: the ``##`` of a word piece is none.
    A forbidden string of several characters is banned only where one token holds all of it.
    """
    banned = set(stop_ids)
    for name in ("bos_token_id", "eos_token_id"):
        token = getattr(tokenizer, name, None)
        banned.update([token] if isinstance(token, int) else token or ())
    for token, text in token_texts(tokenizer):
        if any(part in text for part in forbidden):
            banned.add(token)
    return frozenset(banned)


def token_texts(tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """Yield every token of the vocabulary with what it adds in the middle of a text."""
    anchor = _anchor(tokenizer)
    base = decode(tokenizer, anchor)
    ids = sorted(set(tokenizer.get_vocab().values()))
    behind = _decode_each(tokenizer, [[*anchor, token] for token in ids])
    for token, text in zip(ids, behind, strict=True):
        yield token, text[len(base) :] if text.startswith(base) else decode(tokenizer, [token])


def _decode_each(tokenizer: Tokenizer, runs: list[list[int]]) -> list[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [decode(tokenizer, run) for run in runs]
    # One call for the whole vocabulary takes a tenth of the time of one call for each token.
    return cast(list[str], backend.decode_batch(runs, skip_special_tokens=False))


def _anchor(tokenizer: Tokenizer) -> list[int]:
    """Return a token that can stand before others so that they are not the first, or none."""
    last = _encode(tokenizer, "a")[-1:]
    return last if decode(tokenizer, last) else []


def _after(tokenizer: Tokenizer, before: list[int], ids: Sequence[int]) -> str:
    base, text = decode(tokenizer, before), decode(tokenizer, [*before, *ids])
    return text[len(base) :] if text.startswith(base) else decode(tokenizer, ids)


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))
