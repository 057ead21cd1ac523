"""What a team feeds is what it has written: every token once, in its place, in the right view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, note, settings, strategies as st

from hogwild_agents.actions import Action, Conclude, Say
from hogwild_agents.events import LimitReached, StepEnded, TokensWritten
from hogwild_agents.layouts import LAYOUTS, Combined, Interleaved, Layout
from hogwild_agents.limits import Limits
from hogwild_agents.policies import Finisher, RedundancyCheck
from hogwild_agents.policy import Policy
from tests.runtime.book import Ledger, by_tick, check_feeds
from tests.runtime.replay import check_logprobs, oracle_of
from tests.runtime.rig import (
    JOINED,
    LONGER,
    SPLIT,
    Play,
    Typist,
    language_model,
    make_team,
    run_on,
    solve,
    steps_of,
    until,
)

NAMES = ("Alice", "Bøb", "Carol C.", "明")
ANSWER = Conclude(text="\n\nSo it is \\boxed{", max_tokens=4)

MAKERS: dict[str, Callable[[], Layout]] = {
    **LAYOUTS,
    "combined, reference order": lambda: Combined(reference_order=True),
    "interleaved, reference order": lambda: Interleaved(reference_order=True),
}


class Concluder(Policy):
    """Has some worker answer at the limit."""

    def __init__(self, worker: str | None) -> None:
        self.worker = worker

    async def on_limit_reached(self, event: LimitReached) -> Sequence[Action]:
        return [Conclude(text=ANSWER.text, worker=self.worker, max_tokens=4)]


async def park(worker: Typist) -> None:
    with worker.parked():
        await anyio.sleep(0.004)


async def write(worker: Typist) -> None:
    await worker.write("Look: ")


async def flush(worker: Typist) -> None:
    await worker.flush()


async def interrupt(worker: Typist) -> None:
    """Be cancelled before a tick, while one is computed, or after it, and go on."""
    with anyio.move_on_after(0.003):
        await worker.next_token()
    await worker.write("so")


Part = str | int | Callable[[Typist], Any]
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.integers(1, 3),
    st.just(".\n\n"),
    st.just(".\n\n"),
    st.sampled_from([park, write, flush, interrupt]),
)


@st.composite
def scripted_teams(draw: st.DrawFn) -> dict[str, Any]:
    """Options of a team whose workers do all that workers can do."""
    kind = draw(st.sampled_from([JOINED, SPLIT, LONGER]))
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 4))]
    workers = []
    for name in names:
        script = draw(st.lists(PARTS, max_size=7))
        workers.append(Typist(name, *script, role=draw(st.sampled_from(["", "I check."]))))
        note(f"{name!r}: {[getattr(part, '__name__', part) for part in script]}")
    policies: list[Policy] = [Concluder(draw(st.sampled_from([None, *names])))]
    if draw(st.booleans()):
        policies.append(RedundancyCheck(every=draw(st.integers(1, 6))))
    return {
        "kind": kind,
        "workers": workers,
        "layout": MAKERS[draw(st.sampled_from(sorted(MAKERS)))](),
        "policies": policies,
        "limits": Limits(ticks=draw(st.integers(1, 16))),
        "seed": draw(st.integers(0, 9)),
        "stop": draw(st.one_of(st.none(), st.none(), st.integers(1, 9))),
    }


def play_drawn(options: dict[str, Any], backend: str) -> Play:
    """Run a drawn team; it may be stopped after so many ticks, at any moment of the next one."""
    kind, stop = options["kind"], options["stop"]
    team = make_team(
        language_model(kind), **{k: v for k, v in options.items() if k not in ("kind", "stop")}
    )

    def at_start(run: Any, group: Any) -> None:
        async def stop_it() -> None:
            await until(lambda: run.result.ticks >= stop)
            run.stop()

        if stop is not None:
            group.start_soon(stop_it)

    record: Play = run_on(backend, lambda: solve(team, at_start=at_start))
    return record


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=12)
@given(options=scripted_teams())
def test_every_view_is_what_was_written(options: dict[str, Any], backend: str) -> None:
    record = play_drawn(options, backend)
    check_feeds(record)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(options=scripted_teams())
def test_every_sampled_token_has_the_oracles_probability(
    options: dict[str, Any], backend: str
) -> None:
    record = play_drawn(options, backend)
    check_logprobs(record, oracle_of(options["kind"]))


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=150)
@given(options=scripted_teams())
def test_many_teams(options: dict[str, Any], backend: str) -> None:
    record = play_drawn(options, backend)
    check_feeds(record)
    check_logprobs(record, oracle_of(options["kind"]))


# -- the rules of DESIGN.md one by one


def step_ends(record: Play) -> list[Any]:
    """The commits in which a step moved to the history."""
    return [commit for commit in record.commits if commit.moves]


def text_of(record: Play, tokens: Sequence[int]) -> str:
    return record.team.model.decode(list(tokens))


@pytest.mark.anyio
async def test_the_end_of_a_step_is_fed_to_it_while_the_next_one_opens() -> None:
    alice, bob = steps_of("Alice", [2, 2]), steps_of("Bob", [2, 5])
    record = await solve(make_team(workers=[alice, bob]))
    first, second = step_ends(record)[:2]
    assert first.tick == second.tick  # both end in one tick
    for commit, name, other in ((first, "Alice", second), (second, "Bob", first)):
        closing, opening = commit.feeds
        assert (closing.block.name, opening.block.name) == (f"{name} [1]", f"{name} [2]")
        assert text_of(record, closing.tokens) == "\n\n"
        assert text_of(record, opening.tokens) == f"**{name} [2]:** "
        assert [(move.source, move.target.name) for move in commit.moves] == [
            (closing.block, "history")
        ]
        others = other.feeds[1].block
        assert names_in(closing) == [
            *("prompt, common part", "prompt", "past", "history", other.feeds[0].block.name),
            *("others", others.name, "unfinished", "own", f"{name} [1]"),
        ]
        assert names_in(opening) == [
            *("prompt, common part", "prompt", "past", "history", "Alice [1]", "Bob [1]"),
            *("others", others.name, "unfinished", "own", f"{name} [2]"),
        ]


def names_in(feed: Any) -> list[str]:
    return [entry.name for entry in feed.view]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [JOINED, SPLIT, LONGER])
@pytest.mark.parametrize("layout", ["combined", "interleaved"])
async def test_the_history_is_the_finished_steps_in_their_order(kind: str, layout: str) -> None:
    model = language_model(kind)
    workers = [steps_of("Alice", [1, 0, 2]), steps_of("Bøb", [1, 3]), steps_of("明", [2, 0])]
    record = await solve(make_team(model, workers=workers, layout=layout))
    ledger = check_feeds(record)
    assert len(record.result.steps) >= 7
    text = "".join(step.text for step in record.result.steps)
    assert model.decode(ledger.named("history")) == text
    same_tick = [(s.tick, s.worker) for s in record.result.steps]
    assert same_tick == sorted(same_tick, key=lambda key: (key[0], NAMES.index(key[1])))


@pytest.mark.anyio
@pytest.mark.parametrize("layout", [Combined, Interleaved])
async def test_reference_order_has_each_last_token_open_the_next_step(
    layout: Callable[..., Layout],
) -> None:
    workers = [steps_of("Alice", [1, 2, 1]), steps_of("Bob", [2, 0, 3])]
    team = make_team(workers=workers, layout=layout(reference_order=True))
    record = await solve(team)
    ledger = check_feeds(record)
    carried: dict[str, str] = {}
    expected = ""
    for step in record.result.steps:
        body = step.text.removesuffix("\n\n")
        assert body != step.text
        expected += carried.get(step.worker, "") + body
        carried[step.worker] = "\n\n"
    assert team.model.decode(ledger.named("history")) == expected
    for commit in step_ends(record):
        (feed,) = commit.feeds  # nothing is fed to a step that has ended
        assert text_of(record, feed.tokens).startswith("\n\n**")


@pytest.mark.anyio
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
async def test_every_token_is_fed_in_the_tick_after_it_was_written(layout: str) -> None:
    workers = [steps_of("Alice", [1, 0, 6]), steps_of("Bob", [2, 3, 4])]
    policies = [RedundancyCheck(every=2)]
    record = await solve(make_team(workers=workers, layout=layout, policies=policies))
    thinking = [commits for commits in by_tick(record.commits) if commits[0].seat]
    fed: dict[str, list[tuple[int, int]]] = {"Alice": [], "Bob": []}
    for tick, commits in enumerate(thinking):
        for commit in commits:
            for feed in commit.feeds:
                fed[commit.seat] += [(tick, token) for token in feed.tokens]
    for name, tokens in fed.items():
        events = [e for e in record.told(TokensWritten) if e.worker == name]
        assert tokens == [(event.tick, token) for event in events for token in event.tokens]


@pytest.mark.anyio
@pytest.mark.parametrize("layout", ["combined", "contiguous"])
async def test_what_a_token_says_behind_the_separator_opens_the_next_step(layout: str) -> None:
    model = language_model(LONGER)
    (token,) = model.encode(".\n\nTh")

    async def type_it(worker: Typist) -> None:
        await worker.type_token(token)

    workers = [Typist("Alice", "hello", type_it, 3)]
    record = await solve(make_team(model, workers=workers, layout=layout))
    ledger = check_feeds(record)
    (step,) = record.result.steps
    assert step.text.endswith(".\n\n")
    assert "**Alice [2]:** Th" in record.result.texts["Alice"]
    cut = [e for e in record.told(TokensWritten) if e.text in (".\n\n", "Th")]
    assert [event.source for event in cut] == ["sampled", "sampled"]
    assert [event.logprobs for event in cut] == [(), ()]
    if layout == "combined":
        assert model.decode(ledger.named("history")) == step.text
        assert model.decode(ledger.named("Alice [2]")).startswith("**Alice [2]:** Th")
    else:
        assert model.decode(ledger.named("Alice [1]")) == record.result.texts["Alice"]


@pytest.mark.anyio
async def test_a_separator_of_several_tokens_ends_a_step_too() -> None:
    model = language_model(SPLIT)
    assert len(model.encode("\n\n")) == 2
    record = await solve(make_team(model, workers=[steps_of("Alice", [3, 1])]))
    assert len(record.result.steps) == 2
    assert all(step.text.endswith(".\n\n") for step in record.result.steps)


@pytest.mark.anyio
async def test_newlines_in_forced_text_end_no_step() -> None:
    async def write(worker: Typist) -> None:
        await worker.write("Done.\n\nNext: ")

    record = await solve(make_team(workers=[Typist("Alice", 1, write, 1)]))
    assert not record.result.steps
    assert "Done.\n\nNext: " in record.result.texts["Alice"]


@pytest.mark.anyio
async def test_a_long_text_is_fed_in_chunks_while_the_others_go_on() -> None:
    long = "A long story. " * 12

    async def write(worker: Typist) -> None:
        await worker.write(long)

    workers = [Typist("Alice", 1, write, 2), Typist("Bob", 2, ".\n\n", 12)]
    record = await solve(make_team(workers=workers), prefill_chunk=8)
    check_feeds(record)
    check_logprobs(record, oracle_of())
    assert long in record.result.texts["Alice"]
    assert record.result.reason == "ticks"
    assert max(len(f.tokens) for c in record.commits for f in c.feeds) <= 8


@pytest.mark.anyio
async def test_a_step_that_ends_before_a_pause_stays_unfinished_until_it_is_fed() -> None:
    async def pause(worker: Typist) -> None:
        with worker.parked():
            await until(lambda: worker.desk._thinking.clock.ticks >= 9)

    workers = [Typist("Alice", 1, ".\n\n", pause, 2), steps_of("Bob", [3, 3])]
    record = await solve(make_team(workers=workers))
    ledger = check_feeds(record)
    moved = [commit.seat for commit in step_ends(record)]
    assert moved[:2] == ["Bob", "Alice"]
    assert [step.worker for step in record.result.steps][:2] == ["Alice", "Bob"]
    assert record.team.model.decode(ledger.named("history")).startswith("**Bob [1]:** ")


@pytest.mark.anyio
@pytest.mark.parametrize("layout", sorted(MAKERS))
async def test_a_conclusion_stands_in_the_right_view(layout: str) -> None:
    workers = [steps_of("Alice", [2, 9]), Typist("Bob", 3, ".\n\n"), steps_of("Carol C.", [4, 9])]
    for ticks in (4, 5, 6):  # in mid-step, and just when steps end
        team = make_team(
            workers=workers,
            layout=MAKERS[layout](),
            policies=[Finisher(max_tokens=3)],
            limits=Limits(ticks=ticks),
        )
        record = await solve(team)
        assert record.result.reason == "finisher"
        check_feeds(record)


@pytest.mark.anyio
async def test_roles_stand_in_no_other_view() -> None:
    workers = [Typist("Alice", 3, role="I check sums."), Typist("Bob", 3, role="I add.")]
    for layout in LAYOUTS:
        record = await solve(make_team(workers=workers, layout=layout))
        check_feeds(record)
        for commit in record.commits:
            seen = {entry.name for feed in commit.feeds for entry in feed.view}  # type: ignore[union-attr]
            roles = {name for name in seen if name.endswith("'s role")}
            assert roles <= {f"{commit.seat}'s role"} or not commit.seat
        ledger = Ledger()
        for commit in record.commits:
            ledger.feed(commit.feeds)
        text = record.team.model.decode(ledger.named("Alice's role"))
        assert text == "### My role\n\nI am Alice. I check sums.\n\n"


@pytest.mark.anyio
async def test_what_is_said_at_a_step_end_stands_behind_the_next_prefix() -> None:
    class Echo(Policy):
        async def on_step_ended(self, event: StepEnded) -> Sequence[Action]:
            return [Say(worker=event.worker, text="Hm: "), Say(worker=event.worker, text="so ")]

    async def write(worker: Typist) -> None:
        await worker.write("then ")

    workers = [Typist("Alice", 1, ".\n\n", write, 1)]
    record = await solve(make_team(workers=workers, policies=[Echo()]))
    check_feeds(record)
    assert "**Alice [2]:** Hm: so then " in record.result.texts["Alice"]
