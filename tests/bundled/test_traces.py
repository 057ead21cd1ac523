"""The oracle's runs end with the right answer, and with less work the more workers see."""

from __future__ import annotations

import random
from statistics import mean

from hogwild_agents.bundled import tokenizer as words
from hogwild_agents.bundled.task import LABELS, Distribution, held_out_problems, is_correct
from hogwild_agents.bundled.traces import (
    NEVER,
    Layout,
    Scenario,
    Trace,
    draw_names,
    draw_scenario,
    run_oracle,
)

NAMES = ("Dave", "Alice", "Bob", "Carol")


def text_of(trace: Trace) -> list[str]:
    """The steps as text."""
    tokenizer = words.build_tokenizer()
    return [tokenizer.decode(step.tokens) for step in trace.steps]


def ticks(workers: int, layout: Layout) -> float:
    scenarios = [
        Scenario(problem=problem, names=NAMES[:workers], layout=layout)
        for problem in held_out_problems(30)
    ]
    return mean(run_oracle(scenario).ticks for scenario in scenarios)


def test_undisturbed_runs_end_with_the_right_answer() -> None:
    for layout in Layout:
        for problem in held_out_problems(5, seed=1):
            for workers in (1, 2, 4):
                trace = run_oracle(Scenario(problem=problem, names=NAMES[:workers], layout=layout))
                assert is_correct(trace.answer, problem)


def test_teams_need_fewer_ticks_unless_isolated() -> None:
    alone = ticks(1, Layout.COMBINED)
    assert ticks(2, Layout.COMBINED) <= 0.57 * alone
    assert ticks(4, Layout.COMBINED) <= 0.36 * alone
    assert ticks(4, Layout.ISOLATED) == alone


def test_drawn_runs_are_reproducible_and_end() -> None:
    for seed in range(40):
        scenario = draw_scenario(random.Random(seed), Distribution(), 1 + seed % 5)
        trace = run_oracle(scenario)
        again = run_oracle(draw_scenario(random.Random(seed), Distribution(), 1 + seed % 5))
        assert [s.tokens for s in trace.steps] == [s.tokens for s in again.steps]
        assert trace.answer is not None
        if scenario.finish_tick == NEVER:
            assert is_correct(trace.answer, scenario.problem)
        values = [str(task.value) for task in scenario.problem.sums]
        given = trace.answer.split(", ")
        assert all(a in ("?", v) for a, v in zip(given, values, strict=True))


def test_teams_recover_from_slips() -> None:
    for seed, problem in enumerate(held_out_problems(20)):
        trace = run_oracle(Scenario(problem=problem, names=NAMES, slips=0.5, seed=seed))
        assert is_correct(trace.answer, problem)


def test_the_first_four_names_begin_at_four_places() -> None:
    (problem,) = held_out_problems(1)
    steps = run_oracle(Scenario(problem=problem, names=tuple(words.NAMES[:4]))).steps[:4]
    labels = LABELS[: len(problem.sums)]
    assert [s.label for s in steps] == [labels[0], labels[-1], labels[1], labels[-2]]


def test_a_lost_race_is_noticed() -> None:
    (problem,) = held_out_problems(1)
    texts = text_of(run_oracle(Scenario(problem=problem, names=("Erin", "Alice"))))
    assert texts[0] == "**Erin [1]:** a) taken.\n\n"
    assert texts[1].startswith("**Alice [1]:** a) " + str(problem.sums[0].first))


def test_checks_are_answered_by_what_is_visible() -> None:
    (problem,) = held_out_problems(1)
    together = Scenario(problem=problem, names=("Bob", "Alice"), check_chance=1.0)
    for text in text_of(run_oracle(together)):
        if words.CHECK in text:
            assert text.split(words.CHECK)[1].startswith("no. ")
    late = Scenario(
        problem=problem,
        names=("Erin", "Alice"),
        layout=Layout.CONTIGUOUS,
        check_chance=1.0,
        opens=((40, 40), (40, 40)),
    )
    assert any(f"{words.CHECK}yes. " in text for text in text_of(run_oracle(late)))


def test_the_finisher_gives_what_is_known() -> None:
    (problem,) = held_out_problems(1)
    scenario = Scenario(problem=problem, names=NAMES[:2], finish_tick=30, finish_worker=1)
    trace = run_oracle(scenario)
    assert trace.answer is not None
    assert "?" in trace.answer
    assert len(trace.answer.split(", ")) == len(problem.sums)
    (finished,) = (s for s in text_of(trace) if words.FINISHER in s)
    assert finished.startswith("**Alice [")


def test_names_are_distinct_and_of_both_kinds() -> None:
    rng = random.Random(0)
    teams = [draw_names(rng, 4) for _ in range(200)]
    assert all(len({name.casefold() for name in team}) == 4 for team in teams)
    known = [name in words.NAMES for team in teams for name in team]
    assert 0.75 < mean(known) < 0.95


def test_labels_cover_the_widest_problem() -> None:
    assert len(LABELS) == 12
