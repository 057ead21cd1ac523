"""The ids of a question and its answers: the text as it stands, in tokens that models know."""

from __future__ import annotations

from functools import partial

import pytest

from hogwild_agents import Probe
from hogwild_agents.probing import spell_probe
from hogwild_agents.spelling import encode_continuation
from hogwild_agents.text import decode_continuation
from tests.text.kinds import ANY_TEXT, tokenizer_of

ANSWERS = ("Alice", "Bob", "says hello")
WITH_BLANKS = ("gpt 2", "llama 3", "qwen 2", "llama 2", "gemma")


@pytest.mark.parametrize("question", ["Who? (yes/no): ", "Who?", "Who?  ", " ", "Who?\n"])
@pytest.mark.parametrize("kind", ANY_TEXT)
def test_the_text_is_the_question_and_the_answer(kind: str, question: str) -> None:
    tokenizer = tokenizer_of(kind)
    probe = Probe(worker="Ada", question=question, answers=ANSWERS)
    asked, answers = spell_probe(probe, partial(encode_continuation, tokenizer))
    assert asked
    for answer, ids in zip(ANSWERS, answers, strict=True):
        assert decode_continuation(tokenizer, [*asked, *ids]) == question + answer


@pytest.mark.parametrize("kind", WITH_BLANKS)
def test_a_word_is_asked_for_with_its_blank_where_that_is_one_token(kind: str) -> None:
    encode = partial(encode_continuation, tokenizer_of(kind))
    probe = Probe(worker="Ada", question="Who? ", answers=("Alice", "Bob"))
    asked, answers = spell_probe(probe, encode)
    assert asked == encode("Who?")
    assert answers == [tuple(encode(" Alice")), tuple(encode(" Bob"))]
    apart = Probe(worker="Ada", question="Who? ", answers=("Alice", "9"))  # blanks and digits
    assert spell_probe(apart, encode)[0] == encode("Who? ")
