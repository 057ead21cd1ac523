"""Short teams of scripted workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hogwild_agents import LanguageModel, Limits, Prompt, RunResult, Team
from hogwild_agents.testing import Recorder, assert_integrity, scripted_model

PLAIN = Prompt(name="plain", description="", text="Work.")
PROBLEM = "Tasks: a) 7 + 1 b) 4 + 9"


def make_team(model: LanguageModel, **options: Any) -> Team:
    """A team with a short prompt and a limit that no script reaches."""
    return Team(model, **{"prompt": PLAIN, "limits": Limits(ticks=400), **options})


async def solve(
    scripts: Mapping[str, Any], *, answers: Any = None, record: Any = None, **options: Any
) -> RunResult:
    """Let scripted workers solve a problem; afterwards the cache is empty again."""
    model = scripted_model(scripts, answers=answers)
    recorder = record or Recorder()
    with model.engine:
        result = await make_team(model, **options).solve(PROBLEM, on_event=recorder)
        assert_integrity(model.engine, used_tokens=0)
    for name, written in recorder.texts().items():
        assert result.texts[name].endswith(written)
    return result


def text(name: str, *steps: str) -> str:
    """A worker's whole text, from its steps."""
    return "".join(f"**{name} [{number}]:** {step}" for number, step in enumerate(steps, 1))
