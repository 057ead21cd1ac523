"""A layout of one's own: each worker sees the unfinished text of one neighbour, and finished steps.

A layout lists the blocks that a worker sees, in order, its own last. Nothing is encoded again for
that, so a view may change with every token. What comes into view late costs ticks.
"""

from collections.abc import Sequence

import anyio

from hogwild_agents import Board, CacheBlock, Layout, Place, Team, ViewEntry, load_model
from hogwild_agents.policies import paper_policies

PROBLEM = (
    "Tasks: a) 7 + 1 - 3 + 2 b) 4 + 9 - 6 c) 12 - 5 + 8 d) 3 + 3 + 3 "
    "e) 9 - 2 + 6 - 1 f) 5 + 5 + 5 g) 14 - 7 + 2 h) 8 + 8 - 4"
)


class Ring(Layout):
    """The problem and the history, what the worker before writes, the own step."""

    name = "ring"
    steps_move = True

    def view(self, board: Board, place: Place, block: CacheBlock) -> Sequence[ViewEntry]:
        """See ``Layout.view``."""
        entries = [*board.opening(place), board.past, *board.finished(place, block)]
        if others := board.seen_by(place):
            neighbour = others[(board.places.index(place) - 1) % len(others)]
            entries += [board.others, *board.current(neighbour, place), board.unfinished]
        return [*entries, board.own, block]


async def main() -> None:
    """Solve one problem with four workers in this layout, and in some of the package."""
    model = load_model()
    for layout in (Ring(), "combined", "interleaved", "isolated"):
        names = ["Alice", "Bob", "Carol", "Dan"]
        team = Team(model, workers=names, layout=layout, policies=paper_policies())
        result = await team.solve(PROBLEM)
        print(f"{team.layout.name:11} {result.answer} after {result.ticks} ticks")


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# ring        7, 7, 15, ?, 12, 15, 9, 12 after 36 ticks
# combined    7, 7, 15, 9, 12, 15, 9, 12 after 36 ticks
# interleaved 7, 7, 15, 9, 12, 15, 9, 12 after 47 ticks
# isolated    7, 7, 15, 9, 12, 15, 9, 12 after 106 ticks
