"""Problems are reproducible, well-formed, and held-out ones never meet training ones."""

from __future__ import annotations

import random

import pytest

from hogwild_agents.bundled.data import draw_distribution
from hogwild_agents.bundled.task import (
    MAX_VALUE,
    Distribution,
    draw_problem,
    held_out_problems,
    is_correct,
    is_problem,
)


def test_problems_are_reproducible() -> None:
    assert held_out_problems(5, seed=3) == held_out_problems(5, seed=3)
    assert held_out_problems(5, seed=3) != held_out_problems(5, seed=4)


def test_training_never_meets_held_out_problems() -> None:
    rng = random.Random(0)
    small = Distribution(tasks=(2, 2), terms=(2, 2))
    training = {draw_problem(rng, small).text for _ in range(500)}
    held_out = {problem.text for problem in held_out_problems(500, distribution=small)}
    assert training
    assert not training & held_out


def test_text_and_answer_belong_together() -> None:
    for problem in held_out_problems(50):
        tasks = problem.text.removeprefix("Tasks: ")
        for task in problem.sums:
            assert task.text in tasks
            assert all(0 <= value <= MAX_VALUE for value in task.running)
        values = [eval(task.text) for task in problem.sums]
        assert problem.answer == ", ".join(map(str, values))


def test_answers_are_compared_as_strings() -> None:
    (problem,) = held_out_problems(1)
    assert is_correct(problem.answer, problem)
    assert is_correct(f" {problem.answer} ", problem)
    assert not is_correct(problem.answer + ", 1", problem)
    assert not is_correct(None, problem)


def test_problems_are_told_from_other_texts() -> None:
    assert all(is_problem(problem.text) for problem in held_out_problems(50))
    for text in ("What is the capital of France?", "Tasks:", "a) 1 + 2", "Tasks: a) 1 + x"):
        assert not is_problem(text)


def test_all_that_training_draws_is_a_problem() -> None:
    rng = random.Random(0)
    for index in range(2000):
        distribution = draw_distribution(rng, index / 2000)
        assert is_problem(draw_problem(rng, distribution).text)


@pytest.mark.parametrize(
    "text",
    [
        "Tasks: a) 7 + 1",  # one task
        "Tasks: a) 50 + 50",
        "Tasks: a) 16 + 1 b) 3 + 1",
        "Tasks: a) 0 + 1 b) 3 + 1",
        "Tasks: a) 7 + 10 b) 3 + 1",
        "Tasks: a) 7 + 0 b) 3 + 1",
        "Tasks: a) 40 - 5 b) 3 + 1",
        "Tasks: a) 1 - 5 b) 3 + 1",  # a negative value
        "Tasks: a) 15 + 9 + 9 b) 3 + 1",  # a value beyond 30
        "Tasks: a) 7 b) 3 + 1",
        "Tasks: a) 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 b) 3 + 1",  # eight terms
        "Tasks: b) 7 + 1 a) 3 + 1",
        "Tasks: a) 7 + 1 c) 3 + 1",
        "Tasks: a) 07 + 1 b) 3 + 1",
        "Tasks: " + " ".join(f"{label}) 7 + 1" for label in "abcdefghijklm"),
        "Tasks: a) 7 + 1 b) 3 + 1 and what is the capital of France?",
        "Tasks: a) " + "9" * 5000 + " + 1 b) 3 + 1",
    ],
)
def test_what_training_never_draws_is_no_problem(text: str) -> None:
    assert not is_problem(text)
    assert is_problem("Tasks: a) 7 + 1 b) 3 + 1")
