"""A schedule of three workers in which everything occurs that an engine can do to its blocks."""

from __future__ import annotations

from torch import Tensor

from hogwild_agents.engine import CacheBlock, Engine, Feed, ViewEntry
from tests.engine.families import VOCAB


class Tokens:
    """Token ids without rhyme, the same ones for everybody who begins anew."""

    def __init__(self) -> None:
        self._state = 7

    def __call__(self, count: int) -> list[int]:
        """The next ``count`` ids."""
        ids = []
        for _ in range(count):
            self._state = (self._state * 1103515245 + 12345) % 2**31
            ids.append(3 + self._state // 65536 % (VOCAB - 3))
        return ids


def play(engine: Engine) -> list[Tensor]:
    """Run the schedule; return the logits of every tick."""
    ids, logits = Tokens(), list[Tensor]()
    prompt, history = engine.block("prompt"), engine.block("history")
    alice, bob, carol = (engine.block(name) for name in ("Alice", "Bob", "Carol"))

    def view(own: CacheBlock, *shared: ViewEntry) -> list[ViewEntry]:
        others = [block for block in (alice, bob, carol) if block is not own]
        return [*(shared or (prompt, history)), *others, own]

    def tick(*sizes: int) -> None:
        writers = zip((alice, bob, carol), sizes, strict=True)
        feeds = [Feed(block, view(block), ids(size)) for block, size in writers if size]
        logits.append(engine.forward(feeds))

    logits.append(engine.forward([Feed(prompt, [prompt], ids(13))], logits="all"))
    for sizes in ((3, 2, 4), (1, 1, 1), (1, 0, 2)):
        tick(*sizes)
    # Bob's step ends: its last token and the prefix of his next step are fed in the same tick.
    ended, bob = bob, engine.block("Bob")
    past: list[ViewEntry] = [prompt, history, ended]
    feeds = [
        Feed(alice, view(alice, *past), ids(1)),
        Feed(ended, [prompt, history, alice, carol, ended], ids(1)),
        Feed(bob, view(bob, *past), ids(3)),
    ]
    logits.append(engine.forward(feeds))
    engine.move(ended, history)
    engine.free(ended)
    tick(1, 1, 1)
    engine.truncate(carol, len(carol) - 2)
    tick(1, 1, 2)
    # Two ticks on trial: the first one is taken back by the second, which is kept.
    for token in ids(2):
        trial = engine.trial([Feed(own, view(own), [token]) for own in (alice, bob, carol)])
        trial.run()
    kept = trial.keep()
    assert kept is not None
    logits.append(kept)
    trial = engine.trial([Feed(alice, view(alice), ids(1))])
    trial.run()
    trial.withdraw()
    # Carol goes on in a copy of her block, and all see only a part of the prompt from now on.
    carol = engine.fork(carol, "Carol")
    for _ in range(2):
        feeds = [
            Feed(own, view(own, prompt[2:9], history[1:]), ids(1)) for own in (alice, bob, carol)
        ]
        logits.append(engine.forward(feeds, logits="all"))
    engine.check_integrity()
    return logits
