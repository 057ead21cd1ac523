"""WorkerBudget: so many tokens for each worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, get_args

from hogwild_agents import (
    Action,
    ConfigError,
    Dismiss,
    Park,
    Policy,
    Prompt,
    RunStarted,
    Say,
    TokensWritten,
)
from hogwild_agents.policies.given import number, require_whole

Then: TypeAlias = Literal["dismiss", "park"]


class WorkerBudget(Policy):
    """Gives each worker a budget of sampled tokens: a warning first, and then it is out.

    At a share of the budget the worker is told what it has left; when the budget is spent it is
    dismissed, or parked. A parked worker that somebody resumes gets one token at a time. What it
    wrote stays visible in either case. What is said to a worker costs nothing.

    Helps against workers who talk the budget of the team away; with different budgets, a worker can
    be a short-spoken adviser. Decides per worker. Source: the budgets of Hogwild! Inference,
    section 4, for each worker instead of all.

    Args:
        tokens: for each worker, at least 1; or by name, where others have no budget.
        warn_at: the share of the budget that is spent when the warning comes, above 0 and below 1;
            None for no warning.
        then: ``"dismiss"`` or ``"park"``.
        prompt: the warning: a prompt file's name or path; gets ``tokens``, what is left.

    Raises:
        ConfigError: one of these is out of its range, or there is no such prompt.
    """

    decides = "worker"

    def __init__(
        self,
        tokens: int | Mapping[str, int],
        *,
        warn_at: float | None = 0.8,
        then: Then = "dismiss",
        prompt: str = "budget_warning",
    ) -> None:
        for value in tokens.values() if isinstance(tokens, Mapping) else (tokens,):
            require_whole(f"A worker's budget of {value!r} tokens", value)
        if warn_at is not None and not 0 < number(warn_at) < 1:
            raise ConfigError(f"A budget warns at the share {warn_at!r}: give one between 0 and 1.")
        if then not in get_args(Then):
            raise ConfigError(
                f"A worker whose budget is spent shall {then!r}: choose from "
                f"{', '.join(get_args(Then))}."
            )
        self._tokens = dict(tokens) if isinstance(tokens, Mapping) else tokens
        self._warn_at = warn_at
        self._then = then
        self._prompt = Prompt.load(prompt)

    async def on_run_started(self, event: RunStarted) -> None:
        """Look whether the budgets are for workers of the team."""
        if isinstance(self._tokens, dict) and not self._tokens.keys() & set(event.workers):
            raise ConfigError(
                f"The budgets are for {', '.join(self._tokens) or 'nobody'}, but the team has "
                f"{', '.join(event.workers)}: name workers of the team."
            )

    async def on_tokens_written(self, event: TokensWritten) -> Iterable[Action]:
        """Warn the worker, or end its work."""
        worker, budget = event.worker, self._budget
        if event.source == "forced" or budget is None:
            return ()
        written = self.run.written(worker)
        if written >= budget:
            return [Dismiss(worker=worker) if self._then == "dismiss" else Park(worker=worker)]
        if self._warn_at is None or written < budget * self._warn_at:
            return ()
        self._warn_at = None
        return [Say(worker=worker, text=self._prompt.render(tokens=budget - written))]

    @property
    def _budget(self) -> int | None:
        return self._tokens.get(self.own_worker) if isinstance(self._tokens, dict) else self._tokens
