"""Ids that write a text exactly, wherever it stands, and tokens cut where a step ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from hogwild_agents.errors import ModelError, UsageError
from hogwild_agents.spelling import (
    Control,
    check_tokenizer,
    control_tokens,
    encode_continuation,
)
from hogwild_agents.steps import step_end
from hogwild_agents.text import TextStream, decode, decode_continuation
from hogwild_agents.token_split import TokenSplit, split_token
from tests.text.families import FAMILIES, LOSSY
from tests.text.kinds import (
    ANY_TEXT,
    KINDS,
    PythonTokenizer,
    letters_of,
    long_tokens,
    python_pieces,
    tokenizer_of,
    wrap,
)

FIXED = [
    "### Past steps\n\n",
    "### Work in progress (others)\n\n",
    " <...>\n\n",
    "**Alice [3]:** ",
    "\n\nWait, given the limited time, I have to answer: \\boxed{",
    "你好。 💔",
    " a",
    "  a  ",
    "\n",
    "\n\n\n\n\n",
    "",
    "e\u0301 and u\u0308, \u0958\u212b",
    "</s> <s>a<|im_end|> <think>",
    "<0x0A>",
    "a\r\n\tb",
]
BEFORE = ["", "Alice.\n\n", "a ", "a\n", "💔", "hel", " "]
TRICKY = st.text(st.sampled_from(list("aelo ,.\n*[]:#<>/s0xA你💔é\u0301\u0308\r\t`'")), max_size=24)


def without_mark(text: str) -> str:
    """The text less the one character that Unigram with a metaspace cannot tell from a blank."""
    return text.replace("\u2581", "_")


@pytest.mark.parametrize("kind", ANY_TEXT)
@pytest.mark.parametrize("text", FIXED)
def test_written_text_stands_exactly_behind_other_text(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = encode_continuation(tokenizer, text, control="none")
    for before in BEFORE:
        other = encode_continuation(tokenizer, "hello" + before)
        assert decode(tokenizer, [*other, *ids]) == decode(tokenizer, other) + text


@pytest.mark.parametrize("kind", ANY_TEXT)
@settings(max_examples=40)
@given(text=TRICKY | st.text(max_size=12).map(without_mark), before=TRICKY)
def test_any_text_is_written_exactly(kind: str, text: str, before: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = encode_continuation(tokenizer, text, control="none")
    assert decode_continuation(tokenizer, ids) == text
    other = encode_continuation(tokenizer, "a" + before, control="none")
    assert decode(tokenizer, [*other, *ids]) == decode(tokenizer, other) + text
    assert {tokenizer.bos_token_id, tokenizer.eos_token_id}.isdisjoint(ids)


@pytest.mark.parametrize("kind", ["sentencepiece", "llama 2", "gemma"])
def test_the_mark_of_a_blank_is_written_as_itself(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    assert decode_continuation(tokenizer, encode_continuation(tokenizer, "a ▁b")) == "a ▁b"


def test_text_in_the_usual_form_has_the_usual_tokens() -> None:
    """Exactness costs nothing where the tokenizer is exact."""
    tokenizer = tokenizer_of("qwen 2")
    for text in ("**Alice [3]:** ", "\n\nSo it is.\n\n", " hello to Bob"):
        assert encode_continuation(tokenizer, text) == tokenizer.encode(text)
    composed = "hello to Alice. 7 + 1 = 8. " * 20
    ids = encode_continuation(tokenizer, f"{composed}e\u0301 {composed}")
    usual = tokenizer.encode(composed)
    assert len(ids) <= 2 * len(usual) + 12


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_more_tokens_are_taken_than_in_the_middle_of_a_text(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    for text in ("**Alice [3]:** ", "hello to Alice.\n\n", " Then both think", "\n\nSo it is."):
        ids = encode_continuation(tokenizer, text)
        assert len(ids) <= len(tokenizer.encode(f"a{text}", add_special_tokens=False)) + 1


def test_text_that_cannot_be_written_is_met_from_its_beginning() -> None:
    tokenizer = tokenizer_of("word piece")
    written = decode_continuation(tokenizer, encode_continuation(tokenizer, " hello\n\nBob"))
    assert written.startswith(" hello")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_without_some_characters_still_gives_ids(kind: str) -> None:
    ids = encode_continuation(tokenizer_of(kind), "hello\n\n★")
    assert decode_continuation(tokenizer_of(kind), ids).strip().startswith("hello")


def test_characters_that_a_vocabulary_lacks_are_left_out() -> None:
    tokenizer = tokenizer_of("unigram")
    ids = encode_continuation(tokenizer, "hello★ to ★Bob.\n\n", control="added")
    assert decode_continuation(tokenizer, ids) == "hello to Bob.\n\n"


def test_half_a_surrogate_pair_is_told() -> None:
    with pytest.raises(UsageError, match="half of a surrogate pair") as caught:
        encode_continuation(tokenizer_of("gpt 2"), "hello \ud83d" + "x" * 100)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


# -- control tokens


def ids_by_name(tokenizer: Any, *names: str) -> set[int]:
    return {tokenizer.convert_tokens_to_ids(name) for name in names}


def test_control_tokens_are_recognised_as_far_as_is_said() -> None:
    tokenizer: Any = tokenizer_of("qwen 2")
    text = "a<|im_end|></think>b</s>"
    special, think = (
        ids_by_name(tokenizer, "<|im_end|>", "</s>"),
        ids_by_name(tokenizer, "</think>"),
    )
    cases: dict[Control, set[int]] = {"all": special | think, "added": think, "none": set()}
    for control, found in cases.items():
        ids = encode_continuation(tokenizer, text, control=control)
        assert (special | think) & set(ids) == found
        assert decode_continuation(tokenizer, ids) == text


@pytest.mark.parametrize("kind", FAMILIES)
@given(text=st.lists(st.sampled_from(["<s>", "</s>", "<", "s>", "/", "a", " ", "<unk>", "<s"])))
def test_spelt_out_special_tokens_are_plain_text(kind: str, text: list[str]) -> None:
    tokenizer = tokenizer_of(kind)
    kinds: tuple[Control, ...] = ("none", "added")
    for control in kinds:
        ids = encode_continuation(tokenizer, "".join(text), control=control)
        assert ids_by_name(tokenizer, "<s>", "</s>", "<unk>").isdisjoint(ids)
        assert decode_continuation(tokenizer, ids) == "".join(text)


@pytest.mark.parametrize("kind", FAMILIES)
@given(text=st.lists(st.sampled_from(["<s>", "</s>", "a", " ", "\n", "e\u0301", "#"]), max_size=8))
def test_control_tokens_that_are_wanted_stay_whole(kind: str, text: list[str]) -> None:
    tokenizer: Any = tokenizer_of(kind)
    ids = encode_continuation(tokenizer, "".join(text), control="all")
    for name in ("<s>", "</s>"):
        assert ids.count(tokenizer.convert_tokens_to_ids(name)) == text.count(name)
    assert decode_continuation(tokenizer, ids) == "".join(text)


def test_a_control_token_of_one_character_is_written_by_its_bytes() -> None:
    tokenizer: Any = FAMILIES["gpt 2"]()
    tokenizer.add_special_tokens({"additional_special_tokens": ["你"]})
    ids = encode_continuation(tokenizer, "a你b", control="none")
    assert decode_continuation(tokenizer, ids) == "a你b"
    assert ids_by_name(tokenizer, "你").isdisjoint(ids)
    assert ids_by_name(tokenizer, "你") <= set(encode_continuation(tokenizer, "a你b"))


def test_words_that_were_added_are_no_control_tokens() -> None:
    tokenizer: Any = tokenizer_of("gemma")
    assert control_tokens(tokenizer).keys().isdisjoint({"<table>", "\n\n", "▁▁"})
    assert encode_continuation(tokenizer, "<table>\n\n", control="none") == [
        tokenizer.convert_tokens_to_ids(token) for token in ("<table>", "\n\n")
    ]


def test_what_the_chat_template_speaks_of_is_a_control_token() -> None:
    tokenizer: Any = FAMILIES["gemma"]()
    tokenizer.chat_template = {"default": "<table>{{ messages }}\n\n"}
    assert "<table>" in control_tokens(tokenizer)
    assert "\n\n" not in control_tokens(tokenizer)
    assert "<table>" not in control_tokens(tokenizer, "added")


# -- tokenizers that cannot do it


@pytest.mark.parametrize("kind", ANY_TEXT)
def test_tokenizers_that_can_write_steps_are_taken(kind: str) -> None:
    check_tokenizer(tokenizer_of(kind), kind)


@pytest.mark.parametrize("family", LOSSY)
def test_tokenizers_that_lose_newlines_are_refused(family: str) -> None:
    tokenizer = LOSSY[family]()
    with pytest.raises(ModelError, match=rf"tokenizer of '{family}' cannot write '\\n'") as caught:
        check_tokenizer(tokenizer, family)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["word piece", "word suffix", "whole words", "python, stripping"])
def test_tokenizers_that_lose_blanks_are_refused(kind: str) -> None:
    with pytest.raises(ModelError, match="cannot write"):
        check_tokenizer(tokenizer_of(kind), kind)


# -- where a step ends inside a token


def text_of(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return decode_continuation(tokenizer, ids)


def test_a_token_beyond_the_separator_is_cut() -> None:
    tokenizer, [token] = long_tokens(b".\n\nThen")
    split = split_token(tokenizer, token, ".\n\nThen", 3)
    assert split.head_text == ".\n\n"
    assert (text_of(tokenizer, split.head), text_of(tokenizer, split.tail)) == (".\n\n", "Then")


def test_a_token_that_ends_with_the_separator_is_fed_itself() -> None:
    tokenizer, [token] = long_tokens(b".\n\n")
    assert split_token(tokenizer, token, ".\n\n", 3) == TokenSplit((token,), ".\n\n")


def test_a_token_that_completes_a_character_is_cut_in_its_bytes() -> None:
    first, rest = "。".encode()[:1], "。".encode()[1:]
    tokenizer, [token] = long_tokens(rest + b"\n\nThen")
    [held] = tokenizer.convert_tokens_to_ids(letters_of(first))
    stream = TextStream(tokenizer)
    assert stream.push(held) == ""
    assert stream.push(token) == "。\n\nThen"
    split = split_token(tokenizer, token, "。\n\nThen", 3, before=[held])
    assert decode(tokenizer, [held, *split.head]) == "。\n\n"
    assert text_of(tokenizer, split.tail) == "Then"


def test_a_token_that_begins_a_character_after_the_separator_is_cut_in_its_bytes() -> None:
    tokenizer, [token] = long_tokens(b".\n\n" + "你".encode()[:2])
    stream = TextStream(tokenizer)
    assert stream.push(token) == ".\n\n"
    split = split_token(tokenizer, token, ".\n\n", 3)
    assert text_of(tokenizer, split.head) == ".\n\n"
    rest = tokenizer.convert_tokens_to_ids(letters_of("你".encode()[2:]))
    assert text_of(tokenizer, (*split.tail, *rest)) == "你"


def test_a_token_whose_bytes_cannot_be_had_stays_whole() -> None:
    pieces = [piece for piece in python_pieces() if len(piece) > 1 or piece.isascii()]
    tokenizer = PythonTokenizer([*pieces, b".\n\n\xe4", b".\n\nb"])
    token = len(pieces)
    assert split_token(tokenizer, token, ".\n\n", 3) == TokenSplit((token,), ".\n\n")
    assert split_token(tokenizer, token + 1, ".\n\nb", 3).tail
    assert split_token(tokenizer, token + 1, ".\n\nb", 3, before=[token]).tail == ()


def test_a_token_whose_rest_cannot_be_written_stays_whole() -> None:
    pieces = ["<unk>", "<s>", "</s>", "▁", "a", ".", "\n", ".\n\nTh", ".\n\na"]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = wrap(backend)
    words = tokenizer.get_vocab()
    token = words[".\n\nTh"]
    assert split_token(tokenizer, token, ".\n\nTh", 3) == TokenSplit((token,), ".\n\nTh")
    assert split_token(tokenizer, words[".\n\na"], ".\n\na", 3).tail == (words["a"],)


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_with_a_step_end_inside_can_be_cut(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    for token in sorted(set(tokenizer.get_vocab().values())):
        text = TextStream(tokenizer, encode_continuation(tokenizer, "a")[-1:]).push(token)
        end = step_end(text)
        if end is None:
            continue
        split = split_token(tokenizer, token, text, end)
        assert decode_continuation(tokenizer, split.head).startswith(split.head_text)
        assert split.head_text + decode_continuation(tokenizer, split.tail) == (
            decode_continuation(tokenizer, [token])
        )
        if kind in ANY_TEXT:
            assert split.head_text == text[:end]


CHARACTERS = st.text(st.sampled_from("你。é💔a.\n b"), max_size=4)


@given(
    first=st.sampled_from("你é💔a"),
    head=CHARACTERS,
    tail=CHARACTERS.map(lambda text: text.lstrip("\n")),
    data=st.data(),
)
def test_the_two_parts_of_a_token_are_its_bytes(
    first: str, head: str, tail: str, data: st.DataObject
) -> None:
    """Whatever the token begins or ends in, its parts are it, and each has its own text."""
    old, whole = f"{first}{head}.\n\n", f"{first}{head}.\n\n{tail}".encode()
    begin = data.draw(st.integers(0, len(first.encode()) - 1))
    stop = data.draw(st.integers(len(old.encode()), len(whole)))
    tokenizer, [token] = long_tokens(whole[begin:stop])
    held = tokenizer.convert_tokens_to_ids(letters_of(whole[:begin]))
    stream = TextStream(tokenizer)
    stream.push(held)
    text = stream.push(token)
    assert text.startswith(old)
    split = split_token(tokenizer, token, text, len(old), before=held)
    assert split.head_text == old
    assert decode(tokenizer, [*held, *split.head]) == old
    parts = tokenizer.convert_ids_to_tokens([*held, *split.head, *split.tail])
    assert "".join(parts) == "".join(letters_of(whole[:stop]))
