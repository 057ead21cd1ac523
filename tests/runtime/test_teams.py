"""Teams: what they take and refuse, layouts and headings, and a model from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from hogwild_agents.coordinator import CacheCoordinator
from hogwild_agents.engine import CacheBlock, Sampler, SamplingParams, ViewEntry
from hogwild_agents.errors import ConfigError, ProblemError
from hogwild_agents.events import RunStarted, StepEnded, TokensWritten
from hogwild_agents.layouts import (
    LAYOUTS,
    Board,
    Combined,
    Contiguous,
    Headings,
    Interleaved,
    Isolated,
    Layout,
    Place,
)
from hogwild_agents.limits import Limits
from hogwild_agents.models import load_model
from hogwild_agents.policies import StopOnAnswer
from hogwild_agents.prompt import Prompt
from hogwild_agents.team import DEFAULT_LIMITS, Team
from hogwild_agents.worker import Worker
from tests.runtime.book import check_feeds
from tests.runtime.rig import (
    JOINED,
    PROBLEM,
    Typist,
    family,
    language_model,
    make_team,
    solve,
    steps_of,
    tokenizer,
)

pytestmark = pytest.mark.anyio


# -- what a team takes


def test_the_defaults_are_the_papers() -> None:
    team = Team(language_model())
    assert team.names == ("Alice", "Bob")
    assert isinstance(team.layout, Combined)
    assert team.limits == DEFAULT_LIMITS == Limits(ticks=4096)
    assert team.prompt.name == "collaborate"
    assert repr(team) == "Team('tiny qwen3', Alice, Bob, Combined())"


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_layouts_are_known_by_name(name: str) -> None:
    layout = make_team(layout=name).layout
    assert type(layout) is LAYOUTS[name]
    assert layout.name == name


def test_workers_may_be_a_number() -> None:
    assert make_team(workers=3).names == ("Alice", "Bob", "Carol")
    assert make_team(workers=9).names[-1] == "Worker9"


def test_a_problem_that_is_no_text_is_refused() -> None:
    with pytest.raises(ProblemError, match="The problem is None"):
        make_team().start(cast(Any, None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": []}, "at least one worker"),
        ({"workers": "Alice"}, "workers is the string 'Alice'"),
        ({"workers": ["Alice", "Alice"]}, "Two workers are called 'Alice'"),
        ({"workers": ["Alice", 3]}, "A worker's name is 3"),
        ({"layout": "diagonal"}, "no layout 'diagonal': choose one of combined"),
        ({"layout": Combined}, "no layout <class"),
        ({"layout": 3}, "no layout 3"),
        ({"policies": ["finisher"]}, "'finisher' is no policy"),
        ({"policies": "finisher"}, "policies is 'finisher': give a list of policies."),
        ({"policies": StopOnAnswer()}, "policies is .*: give a list of policies."),
        ({"prompt": "no_such_prompt"}, "no_such_prompt"),
        (
            {"workers": 0},
            "workers is 0, but a team needs at least one worker: give a number from 1",
        ),
        ({"workers": -2}, "workers is -2, but a team needs at least one worker"),
        ({"workers": -20}, "workers is -20, but a team needs at least one worker"),
        ({"workers": True}, "workers is True, but a team needs at least one worker"),
        ({"workers": False}, "workers is False, but a team needs at least one worker"),
        ({"workers": 2.5}, "workers is 2.5: give a number, or a list"),
        ({"limits": 50}, "limits is 50, but must be of type Limits"),
        ({"sampling": 0.5}, "sampling is 0.5, but must be of type SamplingParams"),
        ({"seed": "x"}, "seed is 'x', but must be a whole number from 0"),
        ({"seed": -1}, "seed is -1, but must be a whole number from 0"),
        ({"seed": True}, "seed is True, but must be a whole number from 0"),
        ({"prompt": 5}, "prompt is 5: give the name or the path of one, or a Prompt"),
        ({"coordinator": 3}, "coordinator is 3, but must be of type CacheCoordinator"),
        ({"headings": "x"}, "headings is 'x', but must be of type Headings"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_team(**options)


def test_a_coordinator_of_another_engine_is_refused() -> None:
    other = language_model(JOINED, "llama")
    with pytest.raises(ConfigError, match="another engine"):
        make_team(coordinator=CacheCoordinator(other.engine))


@pytest.mark.parametrize("value", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["ticks", "tokens", "seconds"])
def test_limits_are_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"limit of {name} is"):
        Limits(**{name: value})


@pytest.mark.parametrize("problem", ["", "  \n"])
def test_an_empty_problem_is_refused(problem: str) -> None:
    with pytest.raises(ProblemError, match="empty"):
        make_team().start(problem)


async def test_a_problem_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"\d+ tokens long, but the context .* has 4096"):
        await make_team().solve("word " * 3000)


async def test_the_prompt_names_all_workers() -> None:
    prompt = Prompt(name="mine", description="", text="{{ names | join(' & ') }}: {{ layout }}.")
    record = await solve(make_team(workers=["Ann", "Bø"], prompt=prompt, layout="contiguous"))
    (started,) = record.told(RunStarted)
    ledger = check_feeds(record)
    prompt_ids = ledger.named("prompt, common part") + ledger.named("prompt")
    assert "Ann & Bø: contiguous." in record.team.model.decode(prompt_ids)
    assert started == RunStarted(
        problem=PROBLEM,
        workers=("Ann", "Bø"),
        layout="contiguous",
        prompt_tokens=len(prompt_ids),
    )


async def test_reserved_tokens_are_never_sampled() -> None:
    model = language_model()
    tempting = SamplingParams(bias=dict.fromkeys(model.reasoning_bans, 50.0))
    workers = ["Alice", Worker("Bob", sampling=tempting.replace(banned=frozenset({50})))]
    record = await solve(make_team(model, workers=workers, sampling=tempting))
    sampled = {e.tokens[0] for e in record.told(TokensWritten) if e.source == "sampled"}
    assert sampled
    assert not sampled & model.reasoning_bans


async def test_a_model_from_a_folder_thinks(tmp_path: Path) -> None:
    for name in ("qwen3", "llama"):
        folder = tmp_path / name
        made: Any = family(JOINED, name, 4096).build()
        made.save_pretrained(folder)
        tokenizer(JOINED).save_pretrained(folder)
        model = load_model(folder)
        with model.engine:
            team = Team(model, workers=[steps_of("Alice", [1, 2]), "Bob"], limits=Limits(ticks=9))
            record = await solve(team)
            assert len(record.result.steps) >= 2
            check_feeds(record)


# -- headings


async def test_headings_may_be_ones_own() -> None:
    headings = Headings(
        past="PAST: ",
        others="",
        own="OWN: ",
        unfinished=" ~ ",
        prefix="{name}#{step}> ",
        role="({name}: {role}) ",
    )
    workers = [steps_of("Alice", [1, 2], role="adds"), "Bob"]
    record = await solve(make_team(workers=workers, headings=headings))
    text = record.result.texts["Alice"]
    assert text.startswith("Alice#1> ")
    assert "Alice#2> " in text
    seen = {
        feed.block.name: record.team.model.decode(list(feed.tokens))
        for commit in record.commits
        if not commit.seat
        for feed in commit.feeds
    }
    assert seen["Alice's role"] == "(Alice: adds) "
    assert "others" not in seen
    assert seen["unfinished"] == " ~ "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": ""}, "'prefix' is ''"),
        ({"prefix": "  "}, "'prefix' is '  '"),
        ({"prefix": "{who}: "}, "{name} and {step}"),
        ({"prefix": "{"}, "cannot be filled in"),
        ({"prefix": "{name.x.y}"}, "cannot be filled in"),
        ({"role": "{step}"}, "{name} and {role}"),
        ({"past": None}, "The heading 'past' is None, but must be a text"),
        ({"unfinished": 7}, "The heading 'unfinished' is 7, but must be a text"),
    ],
)
def test_headings_that_cannot_be_written_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
        Headings(**options)


# -- layouts


class LatestOnly(Layout):
    """Prompt, the last finished step, the own step: forgets all that is older."""

    name = "latest"
    steps_move = True

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        history, *closing = board.finished(place, block)
        return [board.prompt, history[max(0, len(history) - 5) :], *closing, board.own, block]


async def test_a_layout_of_ones_own() -> None:
    workers = [steps_of("Alice", [2, 1, 2]), steps_of("Bob", [1, 3])]
    record = await solve(make_team(workers=workers, layout=LatestOnly()))
    (started,) = record.told(RunStarted)
    assert started.layout == "latest"
    assert len(record.told(StepEnded)) >= 4
    moved = [commit.seat for commit in record.commits for _ in commit.moves]
    assert len(moved) >= 4
    for commit in record.commits:
        for feed in commit.feeds:
            if commit.seat:
                assert len(feed.view[1]) <= 5


async def test_a_layout_without_a_name_is_custom() -> None:
    class Alone(Layout):
        def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
            return [board.prompt, block]

    record = await solve(make_team(layout=Alone()))
    assert record.told(RunStarted)[0].layout == "custom"


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Combined(), "prompt past history others bob1 unfinished own alice1"),
        (Interleaved(), "prompt past history own alice1"),
        (Contiguous(), "prompt others bob1 unfinished own alice1"),
        (Isolated(), "prompt own alice1"),
    ],
)
def test_the_papers_layouts(layout: Layout, expected: str) -> None:
    board = board_of("alice", "bob")
    alice = board.places[0]
    assert names(layout.view(board, alice, alice.own)) == expected
    alice.role = CacheBlock("role")
    assert names(layout.view(board, alice, alice.own)).startswith("prompt role ")


@pytest.mark.parametrize("layout", [Combined(), Interleaved()])
def test_closing_steps_stand_behind_the_history_in_worker_order(layout: Layout) -> None:
    board = board_of("alice", "bob", "carol")
    alice, bob, carol = board.places
    for place in (carol, alice):
        place.closing, place.own = place.own, CacheBlock(f"{place.name}2")
    assert " history alice1 carol1 o" in names(layout.view(board, bob, bob.own))
    assert " history alice1 carol1 o" in names(layout.view(board, alice, alice.own))
    assert alice.closing is not None
    closing = names(layout.view(board, alice, alice.closing))
    assert " history carol1 o" in closing
    assert closing.endswith(" own alice1")


def test_alone_there_are_no_others() -> None:
    board = board_of("alice")
    (alice,) = board.places
    assert names(Combined().view(board, alice, alice.own)) == "prompt past history own alice1"
    assert names(Contiguous().view(board, alice, alice.own)) == "prompt own alice1"


def test_layouts_say_what_they_are() -> None:
    assert repr(Combined()) == "Combined()"
    assert repr(Combined(reference_order=True)) == "Combined(reference_order=True)"
    assert repr(Isolated()) == "Isolated()"


def board_of(*workers: str) -> Board:
    return Board(
        prompt=CacheBlock("prompt"),
        past=CacheBlock("past"),
        others=CacheBlock("others"),
        own=CacheBlock("own"),
        unfinished=CacheBlock("unfinished"),
        history=CacheBlock("history"),
        places=[Place(name, CacheBlock(f"{name}1")) for name in workers],
    )


def names(view: Sequence[ViewEntry]) -> str:
    return " ".join(entry.name for entry in view if isinstance(entry, CacheBlock))


def test_a_model_that_is_not_loaded_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"give load_model\('bundled'\)"):
        Team("bundled")  # type: ignore[call-overload]


# -- what a run costs


async def test_a_tick_costs_no_more_when_there_is_much_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of the whole result is made in each tick."""
    from hogwild_agents.run import Run

    made = 0
    plain = Run._so_far

    def count(self: Run) -> Any:
        nonlocal made
        made += 1
        return plain(self)

    monkeypatch.setattr(Run, "_so_far", count)
    await make_team(workers=[steps_of("Alice", [1] * 9), "Bob"]).solve(PROBLEM)
    assert made <= 3


async def test_a_sampler_is_seeded_from_the_team_and_the_name() -> None:
    seeds: list[int] = []

    class Peek(Typist):
        async def run(self) -> None:
            sampler: Sampler = self.desk.sampler
            seeds.append(sampler._seed)

    for seed in (1, 2):
        await solve(make_team(workers=[Peek("Alice"), Peek("Bob")], seed=seed))
    assert len(set(seeds)) == 4
