"""``python -m tests.runtime.far_team``: one problem on the CPU, then on a device that is none.

Prints a line of JSON for each: what was written, and what was read from the device in all ticks.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import anyio

from hogwild_agents import Team, load_model
from hogwild_agents.bundled.task import held_out_problems
from hogwild_agents.policies import paper_policies
from tests.engine.accelerator import NAME, READ


async def solve(device: str) -> None:
    """Print how a problem is solved on a device."""
    (problem,) = held_out_problems(1, seed=4)
    with load_model(device=device) as model:
        READ.clear()
        result = await Team(model, workers=2, policies=paper_policies()).solve(problem.text)
        read = Counter(name for name, _ in READ)
    print(
        json.dumps({"texts": dict(result.texts), "ticks": result.ticks, "read": read}), flush=True
    )


if __name__ == "__main__":
    for name in ("cpu", NAME):
        anyio.run(partial(solve, name))
