"""Finisher: at the limit one worker answers greedily, in the cache that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from hogwild_agents import (
    Action,
    Conclude,
    ConfigError,
    LanguageModel,
    LimitReached,
    Limits,
    Policy,
    Prompt,
    TokensWritten,
)
from hogwild_agents.conclusion import read_answer
from hogwild_agents.policies import Finisher
from tests.runtime.book import check_feeds
from tests.runtime.replay import check_greedy, oracle_of
from tests.runtime.rig import PROBLEM, Play, Typist, language_model, make_team, solve, steps_of

pytestmark = pytest.mark.anyio
TEXT = Prompt.load("finisher").render()


@contextmanager
def answering(model: LanguageModel, text: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model that writes this text after the finisher's sentence, and then its end of text."""
    plain = model.engine.forward
    script = [*model.encode(text), min(model.stop_ids)]
    opening = tuple(model.encode(TEXT))
    left = list(script)

    def forward(feeds: Sequence[Any], **options: Any) -> Any:
        logits = plain(feeds, **options)
        for row, feed in enumerate(feeds):
            concluding = feed.tokens[-len(opening) :] == opening or left != script
            if concluding and row == len(feeds) - 1:
                logits[row] = 0.0
                logits[row, left.pop(0)] = 100.0
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(model.engine, "forward", forward)
        yield


def conclusion(record: Play) -> list[TokensWritten]:
    """What was written after the thinking."""
    (limit,) = record.told(LimitReached)
    return [e for e in record.events[record.events.index(limit) :] if isinstance(e, TokensWritten)]


def fed(record: Play) -> int:
    return sum(len(feed.tokens) for commit in record.commits for feed in commit.feeds)


@pytest.mark.parametrize(
    ("written", "answer", "tokens"),
    [
        ("7, 12} and more", "7, 12", "7, 12}"),
        ("\\frac{1}{2}} and", "\\frac{1}{2}", "\\frac{1}{2}}"),
        (" 3 }", "3", " 3 }"),
        ("no box", "no box", "no box"),
        ("}", None, "}"),
        ("", None, ""),
    ],
)
async def test_it_stops_at_the_closing_brace(
    written: str, answer: str | None, tokens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model()
    workers = [Typist(name, "hello to all") for name in ("Alice", "Bob")]
    policies = [Finisher(max_tokens=20)]
    team = make_team(model, workers=workers, limits=Limits(ticks=3), policies=policies)
    with answering(model, written, monkeypatch):
        record = await solve(team)
    assert record.result.answer == answer
    assert record.result.author == (None if answer is None else "Bob")
    assert record.result.reason == "finisher"
    opening, *rest = conclusion(record)
    assert (opening.worker, opening.text, opening.source) == ("Bob", TEXT, "forced")
    assert "".join(event.text for event in rest) == tokens
    assert record.result.texts["Bob"].endswith(TEXT + tokens)


async def test_it_writes_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model()
    for count in (1, 3):
        team = make_team(model, limits=Limits(ticks=2), policies=[Finisher(max_tokens=count)])
        with answering(model, "1, 2, 3, 4, 5}", monkeypatch):
            record = await solve(team)
        assert len(conclusion(record)) == 1 + count
        answer = record.result.answer
        assert isinstance(answer, str)
        assert answer == "".join(event.text for event in conclusion(record)[1:]).strip()


@pytest.mark.parametrize("layout", ["combined", "interleaved", "contiguous", "isolated"])
async def test_nothing_is_prefilled_again(layout: str) -> None:
    model = language_model()
    workers = [steps_of("Alice", [2, 9]), steps_of("Bob", [3, 9])]
    options: dict[str, Any] = {"workers": workers, "layout": layout}
    for ticks in (3, 4, 5):
        plain = await solve(make_team(model, limits=Limits(ticks=ticks), **options))
        finisher = [Finisher(max_tokens=3)]
        team = make_team(model, limits=Limits(ticks=ticks), policies=finisher, **options)
        record = await solve(team)
        pending = (
            sum(len(e.tokens) for e in plain.told(TokensWritten)) - fed(plain) + opening(plain)
        )
        answer = len(conclusion(record)) - 1
        assert fed(record) == fed(plain) + pending + len(model.encode(TEXT)) + answer - 1
        check_feeds(record)


def opening(record: Play) -> int:
    """How many tokens the run itself has fed: the prompt and the headings."""
    return sum(len(f.tokens) for c in record.commits for f in c.feeds if not c.seat)


async def test_it_is_greedy_whatever_the_workers_are() -> None:
    model = language_model()
    answers = set()
    for seed in (1, 2):
        workers = [Typist("Alice", "hello to Bob"), Typist("Bob", "hello to Alice")]
        team = make_team(
            model, workers=workers, limits=Limits(ticks=4), policies=[Finisher()], seed=seed
        )
        record = await solve(team)
        answers.add(record.result.texts["Bob"])
        before = sum(
            len(e.tokens)
            for e in record.told(TokensWritten)
            if e.worker == "Bob" and e not in conclusion(record)
        )
        check_greedy(record, oracle_of(), "Bob", before)
    assert len(answers) == 1


async def test_its_tokens_count_in_no_budget() -> None:
    model = language_model()
    plain = await solve(make_team(model, limits=Limits(ticks=3)))
    record = await solve(make_team(model, limits=Limits(ticks=3), policies=[Finisher()]))
    assert record.result.ticks == plain.result.ticks == 3
    assert record.result.tokens == plain.result.tokens == 6
    assert {event.tick for event in conclusion(record)} == {3}


async def test_who_has_left_may_conclude_too() -> None:
    class Ask(Policy):
        async def on_limit_reached(self, event: LimitReached) -> Sequence[Action]:
            return [Conclude(text=" \\boxed{", worker="Alice", max_tokens=2, reason="asked")]

    workers = [Typist("Alice", "hello", ".\n\n"), "Bob"]
    record = await solve(make_team(workers=workers, policies=[Ask()], limits=Limits(ticks=9)))
    check_feeds(record)
    assert record.result.reason == "asked"
    assert "**Alice [2]:**  \\boxed{" in record.result.texts["Alice"]


async def test_it_does_nothing_where_there_is_an_answer_or_nobody_reached_a_limit() -> None:
    record = await solve(
        make_team(workers=[Typist("Alice", 2)], policies=[Finisher()], limits=Limits())
    )
    assert record.result.reason == "left"


@pytest.mark.parametrize(
    ("opening", "text", "answer"),
    [
        ("So \\boxed{", "3} or", "3"),
        ("Say \\boxed{1}, no: \\boxed{", "{2}}", "{2}"),
        ("The answer is ", "\\boxed{4}.", "4"),
        ("See \\boxed{1}: ", "\\boxed{2}", "2"),
        ("See \\boxed{1}: ", "none", "none"),
        ("So \\boxed{", "3, 4", "3, 4"),
        ("So \\boxed{", "  ", None),
        ("So \\boxed{", " }", None),
        ("So \\boxed{", "...}.", None),
        ("So \\boxed{", "...}, that is \\boxed{5}", "5"),
        ("So \\boxed{", "\\ldots", None),
        ("The answer is ", "\\boxed{...}", None),
        ("So \\boxed{", "...5}", "...5"),
    ],
)
def test_the_answer_is_read_after_the_opening(opening: str, text: str, answer: str | None) -> None:
    assert read_answer(opening, text) == answer


async def test_own_words(tmp_path: Any) -> None:
    path = tmp_path / "end.md"
    path.write_text('---\nname: end\ndescription: d\ntext: "\\nTime is up: \\\\boxed{"\n---\n')
    policies = [Finisher(max_tokens=1, prompt=str(path))]
    record = await solve(make_team(policies=policies, limits=Limits(ticks=1)), PROBLEM)
    assert conclusion(record)[0].text.endswith("\nTime is up: \\boxed{")


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="0 tokens"):
        Finisher(max_tokens=0)
    with pytest.raises(ConfigError, match="no_such_prompt"):
        Finisher(prompt="no_such_prompt")
