"""What may not be written, and the texts of the tokens of a vocabulary."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer as Backend, decoders, models, pre_tokenizers

from hogwild_agents.spelling import encode_continuation
from hogwild_agents.text import banned_while_reasoning, decode_continuation
from tests.text.kinds import KINDS, long_tokens, tokenizer_of, wrap

NEEDED = ("encode", "decode", "get_vocab", "convert_ids_to_tokens")


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_with_a_hash_is_banned_and_no_other(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    specials = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    hashes = {
        token
        for token in tokenizer.get_vocab().values()
        if any(part in decode_continuation(tokenizer, [token]) for part in ("#", "</think>"))
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
    tokenizer, _ = long_tokens()
    tokenizer.add_tokens(["<think>", "</think>"])
    banned = banned_while_reasoning(tokenizer, stop_ids=[3, 4])
    assert {3, 4, tokenizer.convert_tokens_to_ids("</think>")} <= banned
    assert tokenizer.convert_tokens_to_ids("<think>") not in banned


def test_a_tokenizer_may_have_several_ends_or_none() -> None:
    tokenizer, _ = long_tokens()
    proxy = SimpleNamespace(
        **{name: getattr(tokenizer, name) for name in NEEDED},
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
