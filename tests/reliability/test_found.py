"""Schedules that once went wrong, each cut down to what it takes."""

from __future__ import annotations

import pytest

from tests.reliability.checks import check
from tests.reliability.schedule import Member, Op, Schedule
from tests.reliability.stage import perform

# Whom a worker sees is drawn of all names, whoever there is.
pytestmark = pytest.mark.filterwarnings("ignore::hogwild_agents.UnknownWorkerWarning")

SHIELDED = Member(acts=(("shield", 0), ("wait", 2)))
CLINGING = Member(acts=(("shield", 1), ("wait", 2)))

FOUND = {
    "two speeches by one person between two ticks waited for each other": Schedule(
        ops=(Op(2, "speak", by="inside"), Op(2, "speak to some", by="inside")),
    ),
    "a person stood in its own view twice where steps don't move": Schedule(
        layout="contiguous", ops=(Op(2, "speak", by="inside"), Op(5, "speak", by="inside"))
    ),
    "a shielded worker waited for its turn behind one that was cancelled": Schedule(
        team=(Member(), SHIELDED), ops=(Op(1, "stop", moment="written", by="inside"),)
    ),
    "a shielded worker that was parked waited to be resumed after the end": Schedule(
        team=(CLINGING,), ops=(Op(1, "park"),)
    ),
    "a shielded worker that was parked waited on after the run was cancelled": Schedule(
        team=(CLINGING, Member()), ops=(Op(1, "park"), Op(3, "cancel run", by="inside"))
    ),
    "a shielded worker that was parked waited on after the last second": Schedule(
        team=(CLINGING, Member()), ops=(Op(1, "park"),), ticks=None, seconds=0.2
    ),
    "a step stood before what was said while its last words were told": Schedule(
        team=(Member(acts=(("write", 0), ("end", 0))),),
        ops=(Op(1, "speak", moment="written", by="inside"),),
    ),
    "a fork was lost with a call of its source that was cancelled": Schedule(
        team=(Member(acts=(("think", 0), ("cancel", 1))), Member()),
        ops=(Op(1, "fork", moment="written", by="minder"),),
    ),
    "a token was fed twice whose step was ended while it was under way": Schedule(
        team=(Member(acts=(("shield", 2), ("hurry", 4)), bias=7.0), Member(bias=7.0)),
        newcomers=(Member(acts=(("tool", 0), ("think", 4), ("flush", 3)), seen_by=(), bias=7.0),),
        ops=(
            Op(0, "end", moment="tick", who=4, amount=1),
            Op(3, "spawn", moment="tick", by="outside", who=3, whom=5, amount=2),
        ),
        ticks=10,
        chunk=3,
        context=240,
        seed=96,
    ),
    "two people who spoke again in another order were seen in the old one, for a tick": Schedule(
        ops=(
            Op(1, "speak", by="inside", whom=0),
            Op(2, "speak", by="inside", whom=1),
            Op(4, "speak", by="inside", whom=1),
            Op(4, "speak", by="inside", whom=0),
        ),
    ),
    "a question was lost with a call that was cancelled": Schedule(
        team=(Member(acts=(("think", 0), ("cancel", 1))), Member()),
        ops=(Op(1, "probe", moment="written", by="minder"),),
    ),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", FOUND)
def test_found(name: str, backend: str) -> None:
    check(perform(FOUND[name], backend))
