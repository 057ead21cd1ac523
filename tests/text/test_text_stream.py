"""TextStream gives what decode gives, piece by piece, whatever the tokenizer."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st
from transformers import PreTrainedTokenizerBase

from hogwild_agents.text import KnownTokens, TextStream, Tokenizer, decode, sharing_stream
from tests.text.kinds import (
    ANY_TEXT,
    KINDS,
    PythonTokenizer,
    id_of,
    python_pieces,
    tokenizer_of,
)

TEXTS = st.text(
    st.sampled_from(list("ab .\n#*Ünaïве你好。💔🙂\u200d\ufffd")), max_size=40
) | st.text(max_size=20)


def ids_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return sorted(set(tokenizer.get_vocab().values()))


def streamed(tokenizer: PreTrainedTokenizerBase, ids: list[int], cuts: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(ids)), len(ids)]
    pieces = [stream.push(ids[low:high]) for low, high in pairwise(edges)]
    return [*pieces, stream.flush()]


def byte_runs(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[bytes]:
    """The runs of byte tokens in some ids."""
    spelt = (str(tokenizer.convert_ids_to_tokens(token)) for token in ids)
    marks = "".join(token if re.fullmatch("<0x..>", token) else "|" for token in spelt)
    runs = marks.replace("<0x", "").replace(">", "").split("|")
    return [bytes.fromhex(run) for run in runs]


def read_bytes(data: bytes) -> str:
    """What SentencePiece makes of bytes: characters, and U+FFFD for every byte that is of none."""
    text = ""
    while data:
        size = next((n for n in range(1, 5) if is_character(data[:n])), 0)
        text += data[:size].decode() or "\ufffd"
        data = data[size or 1 :]
    return text


def is_character(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False


def given_up(kind: str, tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    """Whether the tokenizers library gives up characters, for they stand in ill-formed bytes."""
    if not kind.startswith(("sentence", "unigram with", "llama 2", "gemma")):
        return False
    runs = (read_bytes(run) for run in byte_runs(tokenizer, ids))
    return any("\ufffd" in text and text.strip("\ufffd") for text in runs)


def keeps(kind: str, text: str) -> bool:
    """Whether the tokenizer itself gives back what it encodes.

    SentencePiece's mark of a space stands for one, and these put a space in front unless there is
    one, and always take it off again: GPT-2 with ``add_prefix_space``, Llama 2, T5's Unigram.
    """
    one_space = ("llama 2", "llama 2, legacy", "unigram with newlines")
    if kind == "gpt 2, prefix" or (kind in one_space and text.startswith(" ")):
        return False
    return kind in ANY_TEXT and "\u2581" not in text


def plainly(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """What transformers makes of some ids."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_ids_give_the_text_of_decode(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = data.draw(st.lists(st.sampled_from(ids_of(tokenizer)), max_size=30))
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=6))
    joined = "".join(streamed(tokenizer, ids, cuts))
    assert joined == decode(tokenizer, ids)
    if not given_up(kind, tokenizer, ids):
        assert joined == plainly(tokenizer, ids)


@pytest.mark.parametrize("kind", ANY_TEXT)
@settings(max_examples=60)
@given(data=st.data())
def test_what_stands_is_given_at_once_and_never_taken_back(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = data.draw(st.lists(st.sampled_from(ids_of(tokenizer)), max_size=20))
    whole, given, stream = decode(tokenizer, ids), "", TextStream(tokenizer)
    for count, token in enumerate(ids, start=1):
        given += stream.push(token)
        assert whole.startswith(given)
        assert given.rstrip("\ufffd") == decode(tokenizer, ids[:count]).rstrip("\ufffd")
        assert bool(stream.held) == (given != decode(tokenizer, ids[:count]))
    assert given + stream.flush() == whole
    assert not stream.held


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_encoded_text_comes_back(kind: str, text: str, cuts: list[int]) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = "".join(streamed(tokenizer, ids, cuts))
    assert joined == plainly(tokenizer, ids)
    if keeps(kind, text):
        assert joined == (unicodedata.normalize("NFC", text) if kind == "qwen 2" else text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(text=TEXTS.filter(lambda text: "\ufffd" not in text))
def test_split_characters_never_show(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    stream = TextStream(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert not any("\ufffd" in stream.push(token) for token in ids)
    assert "\ufffd" not in stream.flush()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_pieces_do_not_depend_on_how_ids_are_pushed(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = data.draw(st.lists(st.sampled_from(ids_of(tokenizer)), max_size=12))
    one, many = TextStream(tokenizer), TextStream(tokenizer)
    assert "".join(one.push(token) for token in ids) == many.push(ids)
    assert one.flush() == many.flush()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_what_streams_know_of_tokens_can_be_shared(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    known = KnownTokens()
    for _ in range(3):
        ids = data.draw(st.lists(st.sampled_from(ids_of(tokenizer)), max_size=12))
        sharing, alone = sharing_stream(tokenizer, (), known), TextStream(tokenizer)
        assert sharing.push(ids) + sharing.flush() == alone.push(ids) + alone.flush()


@pytest.mark.parametrize("kind", ANY_TEXT)
def test_complete_text_comes_at_once(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    stream = TextStream(tokenizer)
    text = "hello to Bob.\n\n"
    given = stream.push(tokenizer.encode(text, add_special_tokens=False))
    assert given == (f" {text}" if kind == "gpt 2, prefix" else text)
    assert stream.flush() == ""


def test_the_bytes_of_a_character_come_with_the_last() -> None:
    tokenizer = tokenizer_of("byte level, bytes only")
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode("é💔", add_special_tokens=False)]
    assert pieces == ["", "é", "", "", "", "💔"]


def bytes_of(tokenizer: PreTrainedTokenizerBase, data: bytes) -> list[int]:
    return [id_of(tokenizer, f"<0x{byte:02X}>") for byte in data]


def test_after_a_broken_character_bytes_are_read_on() -> None:
    tokenizer = tokenizer_of("sentencepiece")
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in bytes_of(tokenizer, b"\n\xe4\xbd\xffA\n\n")]
    assert pieces == ["\n", "", "", "\ufffd\ufffd\ufffd", "A", "\n", "\n"]
    after = id_of(tokenizer, "▁")
    assert stream.push([after, *bytes_of(tokenizer, b"A\xe4")]) == " A"
    assert stream.flush() == "\ufffd"


@pytest.mark.parametrize("kind", ["sentencepiece", "llama 2", "gemma, anything joins"])
@given(data=st.data())
def test_runs_of_bytes_by_the_definition(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    byte = st.sampled_from(bytes_of(tokenizer, b"A\n\xe4\xbd\xa0\xf0\x9f\x92\x94\xc3\xa9\xff"))
    word = id_of(tokenizer, "e")
    ids = data.draw(st.lists(byte | st.just(word), max_size=30))
    # Behind a word, so that no blank at the beginning vanishes.
    expected = "e" + "e".join(map(read_bytes, byte_runs(tokenizer, ids)))
    assert "".join(streamed(tokenizer, [word, *ids], [])) == expected
    assert decode(tokenizer, [word, *ids]) == expected


def test_a_token_that_ends_in_half_a_character_gives_what_is_before_it() -> None:
    tokenizer = PythonTokenizer([*python_pieces(), b"So.\n\n\xe4", b"\xbd\xa0b\xe5", b"\xe6\xe7"])
    stream = TextStream(tokenizer)
    first = len(python_pieces())
    assert stream.push(first) == "So.\n\n"
    assert stream.held == (first,)
    assert stream.push(first + 1) == "你b"
    assert stream.push(first + 2) == "\ufffd"
    assert stream.flush() == "\ufffd\ufffd"


def test_an_id_beyond_the_vocabulary_has_no_text() -> None:
    tokenizer = tokenizer_of("byte level, bytes only")
    ids = tokenizer.encode("ab", add_special_tokens=False)
    assert TextStream(tokenizer).push([ids[0], 10**6, ids[1]]) == "ab"


class Counting:
    """A tokenizer that counts the ids it is given to decode."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.count = 0

    def decode(
        self, token_ids: list[int], skip_special_tokens: bool = False, **options: Any
    ) -> Any:
        self.count += len(token_ids)
        return self.tokenizer.decode(token_ids, skip_special_tokens, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


HARD = {
    "text": ("byte level, newlines join", "hello to Bob.\n\n"),
    "split characters": ("byte level, bytes only", "💔"),
    "ill-formed bytes": ("byte level, bytes only", None),
    "ill-formed byte tokens": ("sentencepiece", None),
    "blanks": ("sentencepiece with prefix", " "),
    "byte tokens": ("sentencepiece", "\n"),
    "blanks that are stripped": ("python, stripping", " "),
}


@pytest.mark.parametrize("case", HARD)
def test_work_per_token_does_not_grow(case: str) -> None:
    """The second half of a text is no more work than the first, even if no text comes for long."""
    kind, text = HARD[case]
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text or "é", add_special_tokens=False)
    ids = ids if text else ids[-1:]

    def work(rounds: int) -> int:
        counting = Counting(tokenizer)
        stream = TextStream(cast(Tokenizer, counting))
        for token in ids * rounds:
            stream.push(token)
        return counting.count

    first, both = work(200), work(400)
    assert 0 < both - first <= 1.3 * first
