"""Answers that only look different have one normal form, others have their own."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hogwild_agents import TokensWritten
from hogwild_agents.policies import normalise_answer
from hogwild_agents.policies.boxes import Boxes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7, 12", "7,12"),
        ("0.50", "0.5"),
        ("3.0", "3"),
        ("3.", " 3 "),
        ("+3", "3"),
        ("$x^2 + 1$", "x^2+1"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"\text{Alice}", "alice"),
        (r"1\,000", "1 000"),
        ("Yes.", "yes"),
    ],
)
def test_equal_answers(one: str, other: str) -> None:
    assert normalise_answer(one) == normalise_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7 12", "712"),
        ("1,000", "1,0"),
        ("10", "1"),
        ("0.05", "0.5"),
        ("x", "X"),
        ("AB", "ab"),
        ("1/2", "0.5"),
        ("1.10.2", "1.1.2"),
        ("x+3", "x3"),
        ("-3", "3"),
        (r"\frac{1}{2}", r"\frac{2}{1}"),
    ],
)
def test_other_answers(one: str, other: str) -> None:
    assert normalise_answer(one) != normalise_answer(other)


@given(st.text("0123456789.,+-/ xyzXYZ\\{}$ft", max_size=20))
def test_a_normal_form_is_its_own(answer: str) -> None:
    form = normalise_answer(answer)
    assert normalise_answer(f" {form}") == normalise_answer(f" {answer}") == form


def push(*texts: str) -> list[str | None]:
    """What is found with each of these texts, sampled by one worker."""
    boxes = Boxes()
    events = [
        TokensWritten(worker="A", step=1, tick=tick, tokens=(1,), text=text, source="sampled")
        for tick, text in enumerate(texts)
    ]
    return [boxes.push(event) for event in events]


def test_a_box_is_found_once_when_it_is_closed() -> None:
    found = push(
        "So \\boxed{",
        "\\frac{1}",
        "{2}",
        "}. With $x_{1}$",
        " and x_{2}",
        " \\boxed{3}",
        " {4}",
    )
    assert found == [None, None, None, "\\frac{1}{2}", None, "3", None]


@pytest.mark.parametrize("dots", ["...", " … ", r"\ldots", r"\dots ."])
def test_a_box_of_dots_is_a_manner_of_speaking_and_no_answer(dots: str) -> None:
    assert push("I shall write it in \\boxed{", dots, "}, as x_{", "1}") == [None] * 4
    assert push("In \\boxed{", dots, "}: ", "\\boxed{5}") == [None, None, None, "5"]
