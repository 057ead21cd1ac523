"""WorkerBudget: nobody samples more than it may."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from hogwild_agents import ConfigError, Dismiss, Park, Policy, Prompt, Resume, Say, TickEnded
from hogwild_agents.policies import WorkerBudget
from tests.policies.rig import act, fail, sampled, taken
from tests.runtime.rig import run_on

pytestmark = pytest.mark.anyio
LONG = "." * 50


@given(
    budgets=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    warn_at=st.sampled_from([None, 0.3, 0.8]),
    then=st.sampled_from(["dismiss", "park"]),
)
@settings(max_examples=12)
def test_nobody_passes_its_budget(budgets: list[int], warn_at: float | None, then: str) -> None:
    tokens = dict(zip("ABC", budgets, strict=False))
    policy = WorkerBudget(tokens, warn_at=warn_at, then=then)  # type: ignore[arg-type]
    record = run_on("asyncio", lambda: act(dict.fromkeys(tokens, LONG), policy))
    assert {name: sampled(record, name) for name in tokens} == tokens
    assert record.result.reason == ("left" if then == "dismiss" else "parked")


async def test_the_warning_comes_once_in_time() -> None:
    record = await act({"A": LONG, "B": "."}, WorkerBudget(20, warn_at=0.75))
    warning = Prompt.load("budget_warning").render(tokens=5)
    assert taken(record) == [Say(worker="A", text=warning), Dismiss(worker="A")]
    assert record.result.texts["A"] == f"**A [1]:** {'.' * 15}{warning}{'.' * 5}"


async def test_without_a_budget_nothing_happens() -> None:
    record = await act({"A": LONG, "B": LONG}, WorkerBudget({"A": 5}, warn_at=None))
    assert taken(record) == [Dismiss(worker="A")]
    assert record.result.texts["B"].endswith(LONG)


async def test_a_parked_worker_that_is_resumed_gets_one_token() -> None:
    class Resumer(Policy):
        async def on_tick_ended(self, event: TickEnded) -> Resume | None:
            return Resume(worker="A") if event.tick in (15, 25) else None

    policies = [WorkerBudget({"A": 5}, warn_at=None, then="park"), Resumer()]
    record = await act({"A": LONG, "B": LONG}, *policies)
    assert taken(record, Park) == [Park(worker="A")] * 3
    assert sampled(record, "A") == 7


async def test_budgets_are_for_workers_of_the_team() -> None:
    assert "budgets are for Bob" in await fail({"A": "."}, WorkerBudget({"Bob": 5}))


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="budget of 0 tokens"):
        WorkerBudget({"A": 1, "B": 0})
    with pytest.raises(ConfigError, match="share 1"):
        WorkerBudget(5, warn_at=1)
    with pytest.raises(ConfigError, match="'shoot'"):
        WorkerBudget(5, then="shoot")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no_such_prompt"):
        WorkerBudget(5, prompt="no_such_prompt")
