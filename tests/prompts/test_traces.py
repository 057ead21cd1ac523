"""Traces: what they show is what the cache of such a run would hold, in every layout."""

from __future__ import annotations

import re
from itertools import groupby

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents.engine import BlockSlice, CacheBlock
from hogwild_agents.layouts import LAYOUTS, Board, Headings, Place
from hogwild_agents.prompt import Prompt, available_prompts
from hogwild_agents.steps import step_end

TRACES = [name for name in available_prompts() if name.startswith("example_")]
VIEWS = [layout for layout in LAYOUTS if layout != "isolated"]
SHOW = Prompt(
    name="show",
    description="",
    text='{% from "_view" import show with context %}{{ show(trace) }}',
)
NAMES = ["Alice", "Bob: the builder", "Zoë-7"]
PLAIN = Headings()
OWN = Headings(past="A\n", others="B\n", own="C\n", unfinished="|D\n", prefix="<{step} {name}> ")
Step = tuple[int, str]


def written(steps: list[Step], headings: Headings, count: int) -> list[tuple[int, str]]:
    """Steps in the order of time, with their openings."""
    numbers = [0] * count
    found = []
    for who, text in steps:
        numbers[who] += 1
        found.append((who, headings.opening(NAMES[who], numbers[who]) + text))
    return found


def real_view(
    layout: str, finished: list[Step], now: list[Step], headings: Headings, count: int
) -> str:
    """What the last worker of ``now`` sees of a run, by the layout itself.

    A block's name stands for the text in it.
    """
    steps = written([*finished, *now], headings, count)
    done = [(who, f"{text}\n\n") for who, text in steps[: len(finished)]]
    live = dict(steps[len(finished) :])
    moves = LAYOUTS[layout].steps_move
    places = []
    for who, name in enumerate(NAMES[:count]):
        before = "" if moves else "".join(text for author, text in done if author == who)
        places.append(Place(name, CacheBlock(before + live[who])))
    board = Board(
        prompt=CacheBlock(),
        past=CacheBlock(headings.past),
        others=CacheBlock(headings.others),
        own=CacheBlock(headings.own),
        unfinished=CacheBlock(headings.unfinished),
        history=CacheBlock("".join(text for _, text in done)),
        places=places,
    )
    mine = places[now[-1][0]]
    entries = LAYOUTS[layout]().view(board, mine, mine.own)
    return "".join(
        entry.block.name if isinstance(entry, BlockSlice) else entry.name for entry in entries
    )


def lines(finished: list[Step], now: list[Step]) -> str:
    """The same run as a prompt file writes it; of the last step everything is seen."""
    past = [f"{who + 1}: {text}" for who, text in finished]
    live = [f"{who + 1} (now): {text} <...> and on." for who, text in now[:-1]]
    return "\n".join([*past, *live, f"{now[-1][0] + 1} (now): {now[-1][1]}"])


texts = st.text("abc:, .[]1", min_size=1, max_size=12).map(str.strip).filter(bool)


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, list[Step], list[Step]]:
    count = draw(st.integers(2, len(NAMES)))
    finished = draw(st.lists(st.tuples(st.integers(0, count - 1), texts), max_size=6))
    viewer = draw(st.integers(0, count - 1))
    others = [who for who in range(count) if who != viewer]
    return count, finished, [(who, draw(texts)) for who in [*others, viewer]]


@settings(max_examples=60)
@pytest.mark.parametrize("headings", [None, OWN], ids=["usual", "own"])
@pytest.mark.parametrize("layout", ["combined", "contiguous"])
@given(run=runs())
def test_a_trace_is_what_the_layout_shows(
    run: tuple[int, list[Step], list[Step]], layout: str, headings: Headings | None
) -> None:
    count, finished, now = run
    values = {} if headings is None else {"headings": headings}
    shown = SHOW.render(trace=lines(finished, now), names=NAMES[:count], layout=layout, **values)
    assert shown == real_view(layout, finished, now, headings or PLAIN, count)


@settings(max_examples=60)
@given(run=runs())
def test_where_only_finished_steps_are_seen_the_others_have_finished_theirs(
    run: tuple[int, list[Step], list[Step]],
) -> None:
    count, finished, now = run
    shown = SHOW.render(trace=lines(finished, now), names=NAMES[:count], layout="interleaved")
    ended = [*finished, *((who, f"{text} and on.") for who, text in now[:-1])]
    # Who has just finished a step has begun another, which nobody sees.
    later = [*((who, "") for who, _ in now[:-1]), now[-1]]
    assert shown == real_view("interleaved", ended, later, PLAIN, count)


@pytest.mark.parametrize("layout", VIEWS)
@pytest.mark.parametrize("name", TRACES)
def test_a_trace_ends_in_the_step_of_its_viewer(name: str, layout: str) -> None:
    text = Prompt.load(name).render(names=["Ann", "Bo", "Cy"], layout=layout)
    intro, _, view = text.partition("\n\n")
    (viewer,) = set(re.findall(r"what (\w+) (?:sees|writes)", intro))
    own = view.partition(PLAIN.own)[2]
    assert own.rpartition("**")[0].rpartition("**")[2].startswith(f"{viewer} [")
    assert own.endswith("}.")
    assert "Cy" not in view
    others, _, end = view.partition(PLAIN.own)[0].rpartition(PLAIN.unfinished)
    assert bool(others) == (layout != "interleaved")
    assert layout == "interleaved" or not end


@pytest.mark.parametrize("name", TRACES)
def test_the_steps_of_a_trace_are_steps(name: str) -> None:
    text = Prompt.load(name).render(names=["Ann", "Bo"], layout="interleaved")
    view = text.partition(PLAIN.past)[2].replace(PLAIN.own, "")
    steps = view.split("\n\n")
    for step in steps:
        assert step_end(f"{step}\n\n") == len(step) + 2
    authors = [re.match(r"\*\*(\w+) \[(\d)\]:\*\* ", step) for step in steps]
    found = sorted((author[1], int(author[2])) for author in authors if author is not None)
    assert len(found) == len(steps)
    for _, own in groupby(found, key=lambda pair: pair[0]):
        numbers = [number for _, number in own]
        assert numbers == list(range(1, len(numbers) + 1))
