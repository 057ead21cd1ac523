"""Where a step ends."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from hogwild_agents.steps import SENTENCE_ENDS, StepScanner, step_end

ENDS = [
    ("So it is.\n\n", 11),
    ("Why?\n\n", 6),
    ("No!\n\nThen", 5),
    ("**Alice [3]:** a) 7 + 1 = 8.\n\n", 30),
    ("One.\n\n\n\nTwo", 8),
    ("One.\nTwo.\n\n", 11),
    ("first\n\nsecond.\n\n", 16),
    ("One.\n\nTwo.\n\n", 6),
    ("今天。\n\n", 5),
    ("真的吗？\n\n", 6),
    ("نعم؟\n\n", 6),
    ("है।\n\n", 5),
    ("Τι κάνεις\u037e\n\n", 12),
    ("so on...\n\n", 10),
    ("so on…\n\n", 8),
    ("`a` or `b`.\n\n", 13),
    ("$$x = 1$$.\n\n", 12),
    ("It costs \\$\\$5.\n\n", 17),
    ("```\ncode.\n\nmore\n```\ndone.\n\n", 27),
    ("the ``` mark is used.\n\n", 23),
    ("inline ```x = 1``` here.\n\n", 26),
    ("so cute~~~\nYes.\n\n", 17),
    ("- ```sh\n  ls.\n\n  ```\nok.\n\n", 26),
    ("> ~~~\n> a.\n\n> ~~~\nok.\n\n", 23),
    ("````\n```\na.\n\n````\nb.\n\n", 22),
    ("$$\na.\n\nb\n$$\nc.\n\n", 16),
    ("$$ `x $$ y` z.\n\n", 16),
]
GOES_ON = [
    "",
    "So it is.",
    "So it is.\n",
    "So it is\n\n",
    "as follows:\n\n",
    "\n\n",
    "One. \n\n",
    "One.\n \n",
    "One.)\n\n",
    "```\ncode.\n\n",
    "```python\ncode.\n\n```js\nx.\n\n",
    "~~~\ncode.\n\n```\nx.\n\n",
    "````\n```\ncode.\n\n",
    "**Alice [3]:** ```python\ncode.\n\n",
    "**Alice [3]:** ```\ncode.\n\n",
    "1. ~~~\ncode.\n\n",
    "$$\nx = 1.\n\n",
    "so $$x = 1\nand.\n\n",
]


@pytest.mark.parametrize(("text", "end"), ENDS)
def test_steps_that_end(text: str, end: int) -> None:
    assert step_end(text) == end
    assert text[:end].endswith("\n\n")


@pytest.mark.parametrize("text", GOES_ON)
def test_steps_that_go_on(text: str) -> None:
    assert step_end(text) is None


@pytest.mark.parametrize(
    "mark", [".", "?", "!", "。", "？", "！", "؟", "۔", "।", "։", "።", "។", "…", "‽"]
)
def test_sentences_end_in_any_script(mark: str) -> None:
    assert mark in SENTENCE_ENDS
    assert step_end(f"a{mark}\n\n") == 4


@pytest.mark.parametrize("mark", [",", ":", ";", "-", ")", "*", "`", "$", "}", "、", "a", "1", " "])
def test_other_marks_end_no_sentence(mark: str) -> None:
    assert step_end(f"a{mark}\n\n") is None


PIECES = st.sampled_from(
    ["a", ".", "\n", "\n\n", " ", "```", "``", "`", "~~~", "$$", "$", "\\", "py", "。", ": ", "- "]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_the_scanner_equals_the_plain_function(text: str, cuts: list[int]) -> None:
    scanner = StepScanner()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for low, high in pairwise(edges):
        found = scanner.push(text[low:high])
        assert found == step_end(text[:high])
        if found is not None:
            assert scanner.push("more.\n\n") == found
            return


@given(text=TEXTS)
def test_a_step_ends_only_behind_a_sentence(text: str) -> None:
    end = step_end(text)
    if end is None:
        return
    step = text[:end]
    assert re.search(r"[.。]\n\n+$", step)
    assert text[end : end + 1] != "\n"
    assert step_end(text + "more.\n\n") == end
    assert all(step_end(text[:shorter]) is None for shorter in range(len(step.rstrip("\n")) + 2))


@given(text=st.text("ab,. \n\\`$", max_size=40))
def test_without_code_and_formulas_it_is_one_expression(text: str) -> None:
    text = re.sub(r"[`$\\]+", "", text)
    found = re.search(r"(?<=[.])\n\n+", text)
    assert step_end(text) == (found.end() if found else None)


def test_long_steps_are_scanned_once() -> None:
    text = "some words, and then `more` of them\n" * 2000
    begin = time.process_time()
    scanner = StepScanner()
    for start in range(0, len(text), 4):
        assert scanner.push(text[start : start + 4]) is None
    assert time.process_time() - begin < 2  # about 0.03 s


def test_a_long_line_is_scanned_once() -> None:
    begin = time.process_time()
    scanner = StepScanner()
    for _ in range(20_000):
        assert scanner.push("`a 1. ") is None
    assert scanner.push(".\n\n") == 120_003
    assert time.process_time() - begin < 5
