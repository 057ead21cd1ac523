"""ByteTokenizer: any text, one token a byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from transformers import AutoTokenizer

from hogwild_agents.chat import encode_prompt, opens_think
from hogwild_agents.spelling import encode_continuation
from hogwild_agents.testing import ByteTokenizer
from hogwild_agents.text import TextStream, decode

TOKENIZER = ByteTokenizer()
CONTROL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<think>", "</think>")
texts = st.text().filter(lambda text: not any(token in text for token in CONTROL))


@given(text=texts)
def test_token_ids_are_the_bytes(text: str) -> None:
    ids = encode_continuation(TOKENIZER, text)
    assert ids == list(text.encode())
    assert decode(TOKENIZER, ids) == text


@given(text=texts)
def test_a_stream_gives_the_text_byte_by_byte(text: str) -> None:
    stream = TextStream(TOKENIZER)
    pieces = [stream.push(byte) for byte in text.encode()]
    assert "".join(pieces) == text


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_are_one_token_each(token: str) -> None:
    (token_id,) = TOKENIZER.encode(token, add_special_tokens=False)
    assert token_id >= 256
    assert decode(TOKENIZER, [token_id]) == token


def test_the_chat_template_leaves_the_answer_inside_an_open_think() -> None:
    assert opens_think(TOKENIZER)
    prompt = decode(TOKENIZER, encode_prompt(TOKENIZER, system="Rules.", user="1 + 1?"))
    assert prompt == "<|system|>Rules.<|end|><|user|>1 + 1?<|end|><|assistant|><think>\n"


def test_control_tokens_in_a_problem_are_plain_text() -> None:
    ids = encode_prompt(TOKENIZER, system="", user="Say <|end|> and </think>.")
    end, closing = (TOKENIZER.convert_tokens_to_ids(token) for token in ("<|end|>", "</think>"))
    assert ids.count(end) == 1  # that of the turn
    assert closing not in ids


def test_it_can_be_saved_and_loaded(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.encode("ü<|end|>\n\n") == TOKENIZER.encode("ü<|end|>\n\n")
    assert loaded.chat_template == TOKENIZER.chat_template
