"""Nearest: what a name that there is not may have meant."""

from __future__ import annotations

import pytest

from hogwild_agents.nearest import nearest

NAMES = ("collaborate", "finisher", "role_judge", "role_skeptic", "vote", "vote_choice")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("colaborate", "did you mean 'collaborate'?"),
        ("Finisher", "did you mean 'finisher'?"),
        ("skeptic", "did you mean 'role_skeptic'?"),
        ("vot", "did you mean 'vote' or 'vote_choice'?"),
        ("judge", "did you mean 'role_judge'?"),
        ("zzz", ""),
        ("e", ""),
        ("", ""),
    ],
)
def test_names_that_are_spelt_alike_or_longer_are_near(given: str, expected: str) -> None:
    assert nearest(given, NAMES) == expected


def test_no_more_than_three_are_told() -> None:
    assert nearest("rule", [f"rule{number}" for number in range(9)]).count("'") == 6
