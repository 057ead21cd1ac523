"""TextStream gives what decode gives, piece by piece, whatever the tokenizer."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import assume, given, settings, strategies as st
from transformers import PreTrainedTokenizerBase

from hogwild_agents.text import TextStream, Tokenizer, decode
from tests.text.kinds import ANY_TEXT, KINDS, id_of, tokenizer_of

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


def ill_formed_run(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    """Whether a run of byte tokens holds complete characters and then an ill-formed byte."""
    spelt = (str(tokenizer.convert_ids_to_tokens(token)) for token in ids)
    marks = "".join(token if re.fullmatch("<0x..>", token) else "|" for token in spelt)
    for run in marks.replace("<0x", "").replace(">", "").split("|"):
        data = bytes.fromhex(run)
        try:
            data.decode()
        except UnicodeDecodeError as error:
            if error.start:
                return True
    return False


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_ids_give_the_text_of_decode(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = data.draw(st.lists(st.sampled_from(ids_of(tokenizer)), max_size=30))
    assume(not (kind.startswith(("sentence", "unigram with")) and ill_formed_run(tokenizer, ids)))
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=6))
    assert "".join(streamed(tokenizer, ids, cuts)) == decode(tokenizer, ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_encoded_text_comes_back(kind: str, text: str, cuts: list[int]) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = "".join(streamed(tokenizer, ids, cuts))
    assert joined == decode(tokenizer, ids)
    if kind in ANY_TEXT:
        assert joined == text


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


@pytest.mark.parametrize("kind", ANY_TEXT)
def test_complete_text_comes_at_once(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    stream = TextStream(tokenizer)
    text = "hello to Bob.\n\n"
    assert stream.push(tokenizer.encode(text, add_special_tokens=False)) == text
    assert stream.flush() == ""


def test_the_bytes_of_a_character_come_with_the_last() -> None:
    tokenizer = tokenizer_of("byte level, bytes only")
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode("é💔", add_special_tokens=False)]
    assert pieces == ["", "é", "", "", "", "💔"]


def bytes_of(tokenizer: PreTrainedTokenizerBase, data: bytes) -> list[int]:
    return [id_of(tokenizer, f"<0x{byte:02X}>") for byte in data]


def test_a_run_of_bytes_keeps_what_was_complete_when_it_breaks() -> None:
    tokenizer = tokenizer_of("sentencepiece")
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in bytes_of(tokenizer, b"\n\xe4\xbd\xffA\n")]
    assert pieces == ["\n", "", "", "\ufffd\ufffd\ufffd", "\ufffd", "\ufffd"]
    after = id_of(tokenizer, "▁")
    assert stream.push([after, *bytes_of(tokenizer, b"A\xe4")]) == " A"
    assert stream.flush() == "\ufffd"


@given(data=st.data())
def test_runs_of_bytes_by_the_definition(data: st.DataObject) -> None:
    """Characters as far as a run is well-formed, then U+FFFD for each byte up to its end."""
    tokenizer = tokenizer_of("sentencepiece")
    byte = st.sampled_from(bytes_of(tokenizer, b"A\n\xe4\xbd\xa0\xf0\x9f\x92\x94\xc3\xa9\xff"))
    ids = data.draw(st.lists(byte | st.sampled_from(ids_of(tokenizer)), max_size=30))
    expected, run = "", b""
    for token in [*ids, None]:
        spelling = "" if token is None else str(tokenizer.convert_ids_to_tokens(token))
        if re.fullmatch("<0x..>", spelling):
            run += bytes.fromhex(spelling[3:5])
            continue
        complete = run.decode(errors="ignore")
        while not run.startswith(complete.encode()):
            complete = complete[:-1]
        expected += complete + "\ufffd" * (len(run) - len(complete.encode()))
        expected, run = expected + (decode(tokenizer, [token]) if token is not None else ""), b""
    assert "".join(streamed(tokenizer, ids, [])) == expected


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
