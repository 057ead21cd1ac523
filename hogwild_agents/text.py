"""Text: what tokens say, for any tokenizer, and what a worker may not write.

Nothing here assumes what tokens look like: byte-level, byte fallback, word marks, prefixes, with or
without the ``tokenizers`` library. What a token adds to a text depends on what stands before it
(a word mark at the very start is no blank, half a character is none), so it is found by decoding it
behind a few tokens that came before. ``spelling.py`` is the way back, from text to tokens.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Protocol, cast

_REPLACEMENT = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WINDOW = 32


_PLAIN = (
    ("transformers.tokenization_utils_base", "PreTrainedTokenizerBase"),
    ("transformers.tokenization_utils_tokenizers", "TokenizersBackend"),
)
"""Whose ``decode`` and ``_decode`` come to one call of the ``tokenizers`` library."""


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
    """Return the text of ids that open a text: special tokens stay, nothing is tidied.

    It is what the tokenizer's own ``decode`` gives, but where byte tokens (``<0x0A>``) are
    ill-formed. There each byte that is no part of a character is one U+FFFD, as in SentencePiece;
    the ``tokenizers`` library gives up the whole run of bytes, with the newlines in it.
    """
    text = _decode(tokenizer, ids)
    if _REPLACEMENT not in text or not any(byte_of(tokenizer, token) for token in ids):
        return text
    stream = TextStream(tokenizer)
    return stream.push(ids) + stream.flush()


def decode_continuation(
    tokenizer: Tokenizer, ids: Sequence[int], before: Sequence[int] | None = None
) -> str:
    """Return what ids add to a text that stands before them.

    Args:
        tokenizer: the model's.
        ids: the ids.
        before: some ids of that text; None for any.
    """
    before = anchor(tokenizer) if before is None else before
    base, text = decode(tokenizer, before), decode(tokenizer, [*before, *ids])
    return text[len(base) :] if text.startswith(base) else decode(tokenizer, ids)


def anchor(tokenizer: Tokenizer) -> list[int]:
    """Return a token that can stand before others so that they are not the first, or none."""
    last = list(tokenizer.encode("a", add_special_tokens=False))[-1:]
    return last if _decode(tokenizer, last) else []


def byte_of(tokenizer: Tokenizer, token: int) -> bytes:
    """Return the byte that a byte token such as ``<0x0A>`` stands for; nothing for any other."""
    found = _BYTE.fullmatch(tokenizer.convert_ids_to_tokens(token) or "")
    if found is None or _decode(tokenizer, [token]) == found[0]:
        return b""
    return bytes.fromhex(found[1])


def is_open(data: bytes) -> bool:
    """Whether some bytes are the beginning of a character, or nothing."""
    try:
        return codecs.utf_8_decode(data, "strict", False)[1] == 0
    except UnicodeDecodeError:
        return False


class KnownTokens:
    """What text streams have found out about single tokens of one tokenizer.

    Attributes:
        plain: ids that are no byte tokens.
        texts: of ids that stand alone.
    """

    def __init__(self) -> None:
        self.plain: set[int] = set()
        self.texts: dict[int, str] = {}


class TextStream:
    """The text of a growing run of tokens, piece by piece.

    What ``push`` and ``flush`` give, joined, is :func:`decode` of all the ids at once, however
    they were split. Text comes as soon as it stands: of a token that ends in half a character all
    that is before that. A character whose bytes are spread over several tokens comes with the last
    of them; U+FFFD comes only for bytes that can no longer become a character. The work per token
    does not grow with the text.

    Args:
        tokenizer: the model's.
        before: ids that stand before, of whose text nothing is given.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._decode = _decoder(tokenizer)
        self._known = KnownTokens()
        self._context = [list(before)] if before else []  # given out: decodes without an open end
        self._before = list(before)  # the ids of the context in one list
        self._base = self._decode(self._before)  # the text of the context alone
        self._held: list[int] = []  # the text of context + held ends in U+FFFD
        self._held_text = self._base  # the text of context + held
        self._given = len(self._base)  # how much of that is given out
        self._run: list[int] = []  # byte tokens of a character that is not complete
        self._bytes = b""  # what they stand for

    @property
    def held(self) -> tuple[int, ...]:
        """The last ids, if their text is not complete."""
        return tuple(self._held or self._run)

    def push(self, ids: int | Iterable[int]) -> str:
        """Return the text that these ids add: "" while a character's bytes are open."""
        return self._push(ids) if isinstance(ids, int) else "".join(map(self._push, ids))

    def flush(self) -> str:
        """Return what is still open, as U+FFFD where it is no character; call it at the end."""
        return self._end_run() + self._release()

    def _push(self, token: int) -> str:
        if token not in self._known.plain:
            spelling = self._tokenizer.convert_ids_to_tokens(token)
            if spelling is None:
                return ""  # an id beyond the vocabulary has no text
            if _BYTE.fullmatch(spelling) and (byte := byte_of(self._tokenizer, token)):
                return self._release() + self._push_byte(token, byte)
            self._known.plain.add(token)
        return self._end_run() + self._push_text(token) if self._run else self._push_text(token)

    def _push_byte(self, token: int, byte: bytes) -> str:
        self._run.append(token)
        self._bytes += byte
        text = ""
        while not is_open(self._bytes):
            if _is_whole(self._bytes):
                run, self._run, self._bytes = self._run, [], b""
                return text + self._give(run, self._behind(run))
            text += self._drop_byte()
        return text

    def _end_run(self) -> str:
        return "".join(self._drop_byte() for _ in self._bytes)

    def _drop_byte(self) -> str:
        """Give out a byte that is no character; it stands in no context, where it would do harm."""
        del self._run[0]
        self._bytes = self._bytes[1:]
        if not self._context:  # but it does keep the next token from being the first of all
            self._settle([anchor(self._tokenizer)])
        return _REPLACEMENT

    def _push_text(self, token: int) -> str:
        held = [*self._held, token]
        text = self._decode(self._before + held)
        if text.startswith(self._base):
            own = self._behind([token])[len(self._base) :] if self._held else ""
            # A token that goes on with the bytes before it adds less than it does alone.
            if own and text == self._held_text + own and text.endswith(_REPLACEMENT):
                before, self._held, self._held_text = self._held_text[self._given :], [], self._base
                self._given = len(self._base)
                return before + self._push_text(token)
            whole = text.rstrip(_REPLACEMENT)
            if whole == text:
                self._held = []
                return self._give(held, text)
            piece, self._given = whole[self._given :], max(self._given, len(whole))
        else:
            piece = ""
        self._held, self._held_text = held, text
        return piece if len(held) < _WINDOW else piece + self._release()

    def _release(self) -> str:
        held, self._held = self._held, []
        return self._give(held, self._held_text) if held else ""

    def _give(self, ids: list[int], text: str) -> str:
        """Return what is not given out of the text of ids behind the context; make them that."""
        piece = text[self._given :]
        runs, width = [*self._context, ids], 1
        self._settle([ids])
        # A context without text would not keep the next token from being the first of all.
        while not self._base and width < _WINDOW:
            width *= 2
            self._settle(runs[-width:])
        return piece

    def _settle(self, runs: list[list[int]]) -> None:
        """Go on behind some runs of ids, all of whose text is given out."""
        self._context, self._before = runs, list(chain.from_iterable(runs))
        self._base = self._held_text = self._text_of(self._before)
        self._given = len(self._base)

    def _text_of(self, context: list[int]) -> str:
        """Return the text of a context alone; nearly always it is a token that was one before."""
        if len(context) != 1:
            return self._decode(context)
        texts = self._known.texts
        text = texts.get(context[0])
        if text is None:
            text = texts[context[0]] = self._decode(context)
        return text

    def _behind(self, ids: list[int]) -> str:
        """Return the text of the context and some ids."""
        return self._decode(self._before + ids)


def sharing_stream(tokenizer: Tokenizer, before: Sequence[int], known: KnownTokens) -> TextStream:
    """Return a text stream that shares what it knows of tokens with others of its tokenizer."""
    stream = TextStream(tokenizer, before)
    stream._known = known
    return stream


def _is_whole(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


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
    before = anchor(tokenizer)
    base = decode(tokenizer, before)
    ids = sorted(set(tokenizer.get_vocab().values()))
    behind = _decode_each(tokenizer, [[*before, token] for token in ids])
    for token, text in zip(ids, behind, strict=True):
        yield token, text[len(base) :] if text.startswith(base) else decode(tokenizer, [token])


def _decode_each(tokenizer: Tokenizer, runs: list[list[int]]) -> list[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [decode(tokenizer, run) for run in runs]
    # One call for the whole vocabulary takes a tenth of the time of one call for each token.
    return cast(list[str], backend.decode_batch(runs, skip_special_tokens=False))


def _decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return _decoder(tokenizer)(list(ids))


def _decoder(tokenizer: Tokenizer) -> Callable[[list[int]], str]:
    """Return what gives the text of ids: special tokens stay, nothing is tidied.

    Where that comes to one call of the ``tokenizers`` library, it is made without the way there,
    which takes five times as long.
    """
    ways = (getattr(tokenizer, name, None) for name in ("decode", "_decode"))
    if tuple(map(_home, ways)) == _PLAIN:
        backend = cast(Any, tokenizer).backend_tokenizer
        return partial(backend.decode, skip_special_tokens=False)
    return partial(tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _home(method: Any) -> tuple[str, str]:
    """Return the module and the class whose own a method is."""
    kind = getattr(method, "__qualname__", "").rpartition(".")[0]
    return getattr(method, "__module__", ""), kind
