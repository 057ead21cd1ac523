"""Ids for the middle of a text, tokens cut where a step ends, and what may not be written."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer as Backend, decoders, models, pre_tokenizers

from hogwild_agents.steps import step_end
from hogwild_agents.text import (
    TextStream,
    TokenSplit,
    banned_while_reasoning,
    decode,
    decode_continuation,
    encode_continuation,
    split_token,
)
from tests.text.kinds import ANY_TEXT, KINDS, tokenizer_of, wrap

FIXED = [
    "### Past steps\n\n",
    "### Work in progress (others)\n\n",
    " <...>\n\n",
    "**Alice [3]:** ",
    "\n\nWait, given the limited time, I have to answer: \\boxed{",
    "你好。 💔",
    " a",
    "",
]


@pytest.mark.parametrize("kind", ANY_TEXT)
@pytest.mark.parametrize("before", ["", "Alice.\n\n", "a ", "💔"])
@pytest.mark.parametrize("text", FIXED)
def test_encoded_text_stands_exactly_behind_other_text(kind: str, before: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode("hello" + before, add_special_tokens=False)
    both = ids + encode_continuation(tokenizer, text)
    assert decode(tokenizer, both) == "hello" + before + text


@pytest.mark.parametrize("kind", ANY_TEXT)
@given(text=st.text("ab .\n*[]:你💔", max_size=20))
def test_encoding_in_the_middle_round_trips(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    assert decode_continuation(tokenizer, encode_continuation(tokenizer, text)) == text


def test_text_that_cannot_be_written_is_met_from_its_beginning() -> None:
    """Behind a special token this tokenizer writes a blank of its own, but not before it."""
    tokenizer = tokenizer_of("sentencepiece with prefix")
    ids = encode_continuation(tokenizer, ", Bob.</s>a")
    assert decode_continuation(tokenizer, ids) == ", Bob.</s> a"


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_without_some_characters_still_gives_ids(kind: str) -> None:
    ids = encode_continuation(tokenizer_of(kind), "hello\n\n★")
    assert decode_continuation(tokenizer_of(kind), ids).strip().startswith("hello")


# -- where a step ends inside a token


def long_token(text: str) -> tuple[Any, int]:
    """A byte-level tokenizer that has one more token, and its id."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelt = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    vocabulary = {letter: index for index, letter in enumerate([*alphabet, spelt[0][0]])}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return wrap(backend), len(alphabet)


def test_a_token_beyond_the_separator_is_cut() -> None:
    tokenizer, token = long_token(".\n\nThen")
    split = split_token(tokenizer, token, ".\n\nThen", 3)
    assert (split.head_text, split.tail_text) == (".\n\n", "Then")
    assert decode(tokenizer, list(split.head)) == ".\n\n"


def test_a_token_that_ends_with_the_separator_is_fed_itself() -> None:
    tokenizer, token = long_token(".\n\n")
    assert split_token(tokenizer, token, ".\n\n", 3) == TokenSplit((token,), ".\n\n", "")


def test_a_token_that_completes_earlier_bytes_stays_whole() -> None:
    tokenizer, token = long_token("。\n\nThen")
    backend = tokenizer.backend_tokenizer
    text = "。\n\nThen"
    first, rest = text.encode()[:1], text.encode()[1:]
    letters = {value: key for key, value in zip(*byte_spelling(), strict=True)}
    backend.add_tokens(["".join(letters[byte] for byte in rest)])
    tail_token = len(tokenizer) - 1
    stream = TextStream(tokenizer)
    assert stream.push(tokenizer.convert_tokens_to_ids(letters[first[0]])) == ""
    assert stream.push(tail_token) == text
    assert split_token(tokenizer, tail_token, text, 3) == TokenSplit((tail_token,), text, "")
    assert split_token(tokenizer, token, text, 3).tail_text == "Then"


def byte_spelling() -> tuple[list[str], list[int]]:
    """The letters by which byte-level tokenizers spell bytes, and the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [*map(chr, printable), *(chr(256 + index) for index in range(len(others)))]
    return letters, [*printable, *others]


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_with_a_step_end_inside_can_be_split(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    for token in sorted(set(tokenizer.get_vocab().values())):
        text = decode_continuation(tokenizer, [token])
        end = step_end(text)
        if end is None:
            continue
        split = split_token(tokenizer, token, text, end)
        assert split.head_text + split.tail_text == text
        assert decode_continuation(tokenizer, split.head) == split.head_text
        if kind in ANY_TEXT:
            assert split.head_text == text[:end]


# -- what may not be written


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_with_a_hash_is_banned_and_no_other(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    specials = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    hashes = {
        token
        for token in tokenizer.get_vocab().values()
        if "#" in decode_continuation(tokenizer, [token])
    }
    banned = banned_while_reasoning(tokenizer)
    assert banned == hashes | specials
    assert hashes


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(text=st.text("ab .\n*[]:你好Üï", max_size=20))
def test_text_without_a_hash_can_still_be_written(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    assert banned_while_reasoning(tokenizer).isdisjoint(encode_continuation(tokenizer, text))


def test_word_pieces_are_not_banned_for_their_mark() -> None:
    tokenizer = tokenizer_of("word piece")
    marked = {token for piece, token in tokenizer.get_vocab().items() if piece.startswith("##")}
    assert marked
    assert marked.isdisjoint(
        banned_while_reasoning(tokenizer) - {tokenizer.convert_tokens_to_ids("#")}
    )


def test_the_hash_as_a_byte_token_is_banned() -> None:
    tokenizer = tokenizer_of("unigram with bytes")
    assert tokenizer.convert_tokens_to_ids("<0x23>") in banned_while_reasoning(tokenizer)


def test_the_end_of_thinking_and_all_stop_ids_are_banned() -> None:
    tokenizer, _ = long_token("x")
    tokenizer.add_tokens(["<think>", "</think>"])
    banned = banned_while_reasoning(tokenizer, stop_ids=[3, 4])
    assert {3, 4, tokenizer.convert_tokens_to_ids("</think>")} <= banned
    assert tokenizer.convert_tokens_to_ids("<think>") not in banned


def test_a_tokenizer_may_have_several_ends_or_none() -> None:
    tokenizer, _ = long_token("x")
    proxy = SimpleNamespace(
        **{name: getattr(tokenizer, name) for name in ("encode", "decode", "get_vocab")},
        eos_token_id=[5, 6],
    )
    assert {5, 6} <= banned_while_reasoning(cast(Any, proxy))


def test_a_large_vocabulary_takes_about_a_second() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"word{number}{'#' * (number % 50 == 0)}" for number in range(150_000)]
    backend = Backend(
        models.BPE(vocab={w: i for i, w in enumerate([*alphabet, *words])}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = wrap(backend)
    begin = time.process_time()
    banned = banned_while_reasoning(tokenizer)
    assert time.process_time() - begin < 5  # about 0.5 s on an idle core
    assert len(banned) >= 3000
