"""Duplicated work: what the measures count, on texts as they are written."""

from __future__ import annotations

import pytest

from hogwild_agents.errors import ConfigError
from hogwild_agents.experiment.duplicates import (
    measure_of,
    repeats_words,
    share_flagged,
    tasks_repeated,
)
from hogwild_agents.result import RunResult, Step


def test_a_task_counts_once_a_sum_of_it_was_written_twice() -> None:
    texts = {
        "Alice": "**Alice [1]:** a) 7 + 1 = 8 - 3 = 5.\n\n**Alice [2]:** b) 4 + 9 = 13.\n\n",
        "Bob": "**Bob [1]:** b) 4 + 9 = 13.\n\n**Bob [2]:** c) 2 - 1 = 1.\n\na) 7 + 1 = 8",
        "Carol": "**Carol [1]:** Am I doing redundant work? (yes/no): no. b) 4 + 9 = 13",
    }
    assert tasks_repeated(texts) == 2  # a (unfinished the second time) and b (thrice)


@pytest.mark.parametrize("claim", ["a)", "a) taken.", "a) 7", "a) 7 +", "a) 7 + 1", "a) 7 + 1 ="])
def test_a_claim_without_a_sum_is_no_work(claim: str) -> None:
    assert tasks_repeated({"Alice": "a) 7 + 1 = 8", "Bob": claim}) == 0


def test_a_worker_that_repeats_itself_counts_too() -> None:
    assert tasks_repeated({"Alice": "a) 7 + 1 = 8.\n\na) 7 + 1 = 8.\n\n"}) == 1


def step(worker: str, number: int, text: str) -> Step:
    prefix = f"**{worker} [{number}]:** "
    return Step(worker=worker, number=number, text=prefix + text, tick=number, prefix=prefix)


def test_steps_that_copy_somebody_else_are_flagged() -> None:
    first = step("Alice", 1, "We factor the polynomial into two linear terms.\n\n")
    assert repeats_words(step("Bob", 1, "So we factor the polynomial into linear terms."), [first])
    assert not repeats_words(step("Bob", 1, "Let me try small numbers instead of that."), [first])
    assert not repeats_words(step("Alice", 2, first.text), [first])
    assert not repeats_words(step("Bob", 1, "We factor."), [first])


def result(*steps: Step) -> RunResult:
    return RunResult(
        answer=None,
        author=None,
        reason="ticks",
        texts={},
        steps=steps,
        ticks=1,
        tokens=1,
        seconds=1,
    )


def test_share_of_flagged_steps() -> None:
    steps = [
        step("Alice", 1, "one two three"),
        step("Bob", 1, "one two three"),
        step("Bob", 2, "x"),
    ]
    assert share_flagged(steps, repeats_words) == pytest.approx(1 / 3)
    assert measure_of("steps")(result(*steps)) == pytest.approx(1 / 3)
    assert share_flagged([], repeats_words) == 0.0


def test_every_step_is_held_against_those_before_it() -> None:
    steps = [step("Alice", number, "") for number in (1, 2, 3)]
    seen: list[tuple[int, list[int]]] = []

    def note(one: Step, before: object) -> bool:
        assert isinstance(before, (list, tuple))
        seen.append((one.number, [other.number for other in before]))
        return one.number == 3

    assert share_flagged(steps, note) == pytest.approx(1 / 3)
    assert seen == [(1, []), (2, [1]), (3, [1, 2])]


def test_measure_of_ones_own(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with open(f"{tmp_path}/own_flag.py", "w") as file:
        file.write("def loud(step, before):\n    return '!' in step.text\n")
    assert measure_of("own_flag:loud")(result(step("A", 1, "No!"), step("A", 2, "No."))) == 0.5
    with pytest.raises(ConfigError, match="The measure of duplicated work 'own_flag:quiet'"):
        measure_of("own_flag:quiet")
