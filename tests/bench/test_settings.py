"""What is asked for is checked before any model is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hogwild_agents.bench.settings import Settings, find_device, parse_numbers
from hogwild_agents.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1,2,4", (1, 2, 4)), ("1k, 32K", (1024, 32768)), ("7", (7,)), ("2,1,2", (2, 1))],
)
def test_lists_of_numbers_are_read(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_numbers(text, "--workers") == numbers


@pytest.mark.parametrize("text", ["", "1,", "two", "0", "-1", "1.5k", "k", "1kk"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--context cannot be .*: write numbers"):
        parse_numbers(text, "--context")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "x"}, "a preset or a model"),
        ({"preset": None}, "a preset or a model"),
        ({"rounds": 0}, "--rounds cannot be 0: it should be at least 1"),
        ({"ticks": 0}, "--ticks cannot be 0"),
        ({"threads": 0}, "--threads cannot be 0"),
        (
            {"workers": (1, 16), "contexts": (31,)},
            "--context cannot be 31: it should be at least 32",
        ),
        ({"dtype": "int8"}, "no dtype 'int8'"),
        ({"plot": Path("plot.png")}, "an SVG, not 'plot.png'"),
        ({"json": Path("no/such/file.json")}, "no folder 'no/such'"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**given)


def test_own_blocks_leave_at_least_half_of_the_context_to_the_shared_one() -> None:
    settings = Settings()
    for workers in settings.workers:
        for context in (32, *settings.contexts):
            own = settings.own_tokens(context, workers)
            assert 1 <= own <= 100
            assert workers * own <= context // 2
    assert settings.own_tokens(8192, 16) == 100


def test_a_device_that_is_not_here_is_refused() -> None:
    assert find_device("cpu").type == "cpu"
    for name in ("cuda:77", "abacus"):
        with pytest.raises(ConfigError, match=f"no device '{name}' here"):
            find_device(name)
