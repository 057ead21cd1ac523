r"""Spelling: ids that write a text exactly, for any tokenizer.

Some tokenizers put a blank before every text that they encode, drop one, compose characters, or
take ``</s>`` in a text for the end of it. So ids count for what they add behind other text, and
where a tokenizer changes a text, the text is cut until each part comes out as it is; in the end
a character is written by its bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, takewhile
from typing import Any, Literal, TypeAlias

from hogwild_agents.errors import ModelError, UsageError
from hogwild_agents.text import Tokenizer, anchor, decode_continuation, is_open

Control: TypeAlias = Literal["none", "added", "all"]
"""Which control tokens that a text spells out become these tokens; the others are plain text.

``"none"`` is for text from outside. ``"added"`` are those that models write as they write words
(``<think>``, ``<tool_call>``), without the special ones (``<s>``, ``<|im_end|>``). ``"all"`` is for
text in the model's own format.
"""

THINK, THINK_END = "<think>", "</think>"

_EXACT = math.inf
_CONTINUING = bytes(range(0x80, 0xC0))
_LEADS = ("\n", ".", "a")
_REMEMBERED = 512  # short texts: what opens a step is written again and again
_SHORT = 48  # characters: longer texts are cut at blanks first
_PROBES = ("\n", "\n\n", "### Past steps\n\n", "**A [1]:** ", " <...>\n\n")


def encode_continuation(tokenizer: Tokenizer, text: str, *, control: Control = "all") -> list[int]:
    """Return ids that add exactly ``text`` to what stands before them; no special tokens are added.

    If the tokenizer cannot write the text exactly (it lower-cases, say), the ids come near it.

    Raises:
        UsageError: there is half of a surrogate pair in the text.
    """
    return Speller(tokenizer, control).spell(text)


def check_characters(text: str) -> None:
    """Check that a text can be written at all.

    Raises:
        UsageError: there is half of a surrogate pair in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        short = text if len(text) <= 60 else f"{text[:57]}..."
        raise UsageError(
            f"The text {short!r} has half of a surrogate pair ({text[error.start]!r}), which is no "
            "character: take it out."
        ) from None


def control_tokens(tokenizer: Tokenizer, control: Control = "none") -> dict[str, int]:
    """Return the tokens that are plain text if a text spells them out, by their spelling."""
    if control == "all":
        return {}
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    template = getattr(tokenizer, "chat_template", None) or ""
    template = " ".join(template.values()) if isinstance(template, Mapping) else str(template)
    return {
        token.content: number
        for number, token in added.items()
        if token.content
        and (token.special or (control == "none" and _is_mark(token.content, template)))
    }


def _is_mark(spelling: str, template: str) -> bool:
    """Whether an added token belongs to the format of conversations, and is no mere word."""
    if spelling in (THINK, THINK_END) or spelling.startswith("<|"):
        return True
    return spelling in template and not spelling.isspace()


def check_tokenizer(tokenizer: Tokenizer, name: str) -> None:
    """Check that a tokenizer can write what stands around steps.

    Raises:
        ModelError: it cannot.
    """
    for text in _PROBES:
        written = decode_continuation(tokenizer, encode_continuation(tokenizer, text))
        if written != text:
            raise ModelError(
                f"The tokenizer of {name!r} cannot write {text!r}: it comes out as {written!r}, "
                "and steps could not be told apart; use a model whose tokenizer keeps newlines, "
                "blanks and marks."
            )


class Speller:
    """:func:`encode_continuation` for many texts.

    Args:
        tokenizer: the model's.
        control: which control tokens are recognised.
    """

    def __init__(self, tokenizer: Tokenizer, control: Control) -> None:
        self._tokenizer = tokenizer
        self._before = anchor(tokenizer)
        marks = control_tokens(tokenizer, control)
        self._marks = _any_of(marks)
        self._plain = frozenset(marks.values())
        known = control_tokens(tokenizer)
        self._kept = {text: number for text, number in known.items() if text not in marks}
        self._keeping = _any_of(self._kept)
        self._bytes: Sequence[int | None] | None = None
        self._spell_again = lru_cache(_REMEMBERED)(self._spell)

    def spell(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return list(self._spell_again(text) if len(text) <= _SHORT else self._spell(text))

    def _spell(self, text: str) -> list[int]:
        check_characters(text)
        return list(chain.from_iterable(map(self._spell_part, self._cut_kept(text))))

    def _spell_part(self, text: str) -> list[int]:
        if text in self._kept:
            return [self._kept[text]]
        return list(chain.from_iterable(map(self._write, self._cut_marks(text))))

    def _cut_kept(self, text: str) -> Iterator[str]:
        """Cut out the control tokens that are recognised: nothing may cut these."""
        start = 0
        for found in self._keeping.finditer(text) if self._keeping else ():
            yield text[start : found.start()]
            yield found[0]
            start = found.end()
        yield text[start:]

    def _cut_marks(self, text: str) -> Iterator[str]:
        """Cut every control token that is to be plain text behind its first character."""
        start = begin = 0
        while self._marks is not None and (found := self._marks.search(text, begin)):
            begin = found.start() + 1
            yield text[start:begin]
            start = begin
        if start < len(text):
            yield text[start:]

    def spell_bytes(self, data: bytes) -> list[int] | None:
        """Return ids for a part of a text that begins or ends inside a character, if there are."""
        begin = len(data) - len(data.lstrip(_CONTINUING))
        end = len(data) - len(open_end(data[begin:]))
        try:
            text = data[begin:end].decode()
        except UnicodeDecodeError:
            return None
        first, last = (self._write_bytes(part) for part in (data[:begin], data[end:]))
        if len(first) + len(last) < begin + len(data) - end:
            return None
        return [*first, *self.spell(text), *last]

    def _write(self, text: str) -> list[int]:
        best, agreed = self._encode_whole(text)
        if agreed == _EXACT:
            return best
        if len(text) == 1:
            parts = self._write_bytes(text.encode())
        else:
            cut = _cut(text, agreed)
            parts = self._write(text[:cut]) + self._write(text[cut:])
        written = self._reads(parts)
        return parts if self._agreement(parts, written, text) > agreed else best

    def _encode_whole(self, text: str) -> tuple[list[int], float]:
        """Return ids of a text in one piece, and for how long they agree with it."""
        ids = self._encode(text)
        written = self._reads(ids)
        if written != text and written.lstrip() == text.lstrip():
            # Only the beginning is at fault: it is another one behind another character.
            for lead in _LEADS:
                before, both = self._encode(lead), self._encode(lead + text)
                behind = both[len(before) :]
                if both[: len(before)] == before and self._reads(behind) == text:
                    ids, written = behind, text
                    break
        return ids, self._agreement(ids, written, text)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _reads(self, ids: Sequence[int]) -> str:
        return decode_continuation(self._tokenizer, ids, self._before)

    def _agreement(self, ids: Sequence[int], written: str, text: str) -> float:
        """Return how many characters of a text some ids write before they write another one."""
        if not self._plain.isdisjoint(ids):
            return -1
        if written == text:
            return _EXACT
        pairs = zip(written, text, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _write_bytes(self, data: bytes) -> list[int]:
        """Return one id for each byte, or none if there are no such tokens."""
        if self._bytes is None:
            self._bytes = _byte_tokens(self._tokenizer)
        found = [self._bytes[byte] for byte in data]
        return [] if None in found else [token for token in found if token is not None]


def _any_of(spellings: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern for any of some texts, the longest first."""
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _cut(text: str, agreed: float) -> int:
    """Return where to cut a text: a long one at a blank, a short one where it came out wrong."""
    middle = len(text) // 2
    if len(text) > _SHORT:
        blank = text.rfind(" ", 1, middle + 1)
        return blank if blank > 0 else middle
    return int(agreed) if 0 < agreed < len(text) else middle


def _byte_tokens(tokenizer: Tokenizer) -> list[int | None]:
    """Return the token of each byte, where there is one."""
    vocabulary = tokenizer.get_vocab()
    tokens = [vocabulary.get(f"<0x{byte:02X}>") for byte in range(256)]
    if all(token is None for token in tokens):
        tokens = [vocabulary.get(letter) for letter in byte_letters()]
    return tokens


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in byte-level vocabularies."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printable)
    stand_ins = {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [stand_ins.get(byte, chr(byte)) for byte in range(256)]


def open_end(data: bytes) -> bytes:
    """Return the bytes at the end that may become a character yet."""
    return next((data[-n:] for n in (3, 2, 1) if len(data) >= n and is_open(data[-n:])), b"")
